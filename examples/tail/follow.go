package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/headrace/headrace/sse"
)

// follow prints what a feed says until it ends. What happens to the connection goes to notes.
func follow(ctx context.Context, client *sse.Client, p printer, notes io.Writer) error {
	lost := false
	client.OnReconnect = func(reason error, wait time.Duration) {
		if reason == nil {
			return // streams end now and then, for the client to come back
		}
		lost = true
		fmt.Fprintf(notes, "tail: not connected: %s; again in %v\n", visible(reason.Error()), wait.Round(100*time.Millisecond))
	}
	client.OnOpen = func(http.Header) {
		if lost {
			fmt.Fprintln(notes, "tail: connected again")
		}
		lost = false
	}
	for item, err := range sse.Follow[[]byte, []byte](client.Stream(ctx)) {
		if err != nil {
			return err
		}
		// An event that could not be printed counts as not seen: with -since-file it comes again.
		if err := p.print(item, time.Now()); err != nil {
			return err
		}
	}
	return nil
}
