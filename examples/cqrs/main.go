// Command cqrs is the front desk of a small hotel, in commands and events: a Watermill command bus
// carries what people want, handlers decide and change the rooms, and an event bus publishes what
// happened into a feed that all pages follow.
//
//	go -C examples run ./cqrs
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends"
	_ "github.com/headrace/headrace/backends/all" // so that -backend takes the URL of any of them
	"github.com/headrace/headrace/examples/internal/front"
	"github.com/headrace/headrace/examples/internal/redislog"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

const (
	openTimeout = 10 * time.Second // for the backend
	stopTimeout = 10 * time.Second

	// How many streams may be open at once, and how many of one address, which may be an office's.
	// Pages that a browser keeps for its back button hold theirs, seven in a tab over HTTP/2.
	allStreams    = 1000
	clientStreams = 50
)

func main() {
	gin.SetMode(gin.ReleaseMode)
	redislog.UseSlog()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and then stops in an orderly way.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("cqrs", flag.ContinueOnError)
	flags.SetOutput(stdout)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	backendURL := flags.String("backend", "memory://", "`URL` of the backend that keeps the events")
	var before front.Front
	before.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		// Not which: it may be a URL with a password, in the wrong place.
		return errors.New("cqrs: unexpected argument: there are flags only")
	}

	if _, _, err := net.SplitHostPort(*addr); err != nil {
		return errors.New("cqrs: -addr must be a host and a port, such as 127.0.0.1:8080")
	}

	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	backend, err := backends.Open(opening, *backendURL)
	if err != nil {
		return fmt.Errorf("cqrs: -backend: %w", err)
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		return err
	}
	server, err := newServer(ctx, h, before.Limits(allStreams, clientStreams))
	if err != nil {
		return err
	}
	seed(opening, server.buses.desk)
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return errors.Join(fmt.Errorf("cqrs: -addr: %w", err), server.stop(ctx))
	}
	server.Handler = before.Handler(server.Handler, listener.Addr())
	fmt.Fprintf(stdout, "cqrs: http://%s/\n", listener.Addr())

	served := make(chan error, 1)
	go func() { served <- server.Serve(feed.Listener(listener, 0)) }()
	select {
	case err = <-served:
		err = fmt.Errorf("cqrs: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, server.stop(stopping))
}
