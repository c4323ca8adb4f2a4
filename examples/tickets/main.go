// Command tickets is a small help desk whose pages are live: what one person changes, all others
// see at once, and a page that lost its connection gets what it missed. It shows feeds, guards and
// a generator of package ginsse beside ordinary Gin routes.
//
//	go -C examples run ./tickets
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
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends"
	_ "github.com/headrace/headrace/backends/all"                  // so that -backend takes the URL of any of them
	_ "github.com/headrace/headrace/backends/redisstream/embedded" // miniredis://, Redis within the process
	"github.com/headrace/headrace/examples/internal/front"
	"github.com/headrace/headrace/examples/internal/redislog"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

const (
	openTimeout = 10 * time.Second // for the backend
	stopTimeout = 10 * time.Second
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
	flags := flag.NewFlagSet("tickets", flag.ContinueOnError)
	flags.SetOutput(stdout)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	backendURL := flags.String("backend", "memory://", "`URL` of the backend that keeps the messages, and the tickets too if it is Redis")
	session := flags.Duration("session", 8*time.Hour, "how `long` a sign-in holds")
	all := flags.Int("streams", 1000, "how `many` streams may be open at once")
	each := flags.Int("agent-streams", 50, "how `many` streams of one agent, or of one address of visitors, may be open at once, at most half of all; pages that a browser keeps for its back button hold theirs, seven in a tab over HTTP/2")
	origins := flags.String("origins", "", "`list` of origins, such as https://app.example.com, whose pages may follow /tickets/events")
	var before front.Front
	before.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		// Not which: it may be a URL with a password, in the wrong place.
		return errors.New("tickets: unexpected argument: there are flags only")
	}

	if _, _, err := net.SplitHostPort(*addr); err != nil {
		return errors.New("tickets: -addr must be a host and a port, such as 127.0.0.1:8080")
	}

	o := settings{session: *session, limits: before.Limits(*all, *each), client: before.Client(), origins: strings.FieldsFunc(*origins, func(r rune) bool { return r == ',' })}
	if o.session <= 0 || *all <= 0 || *each <= 0 {
		return errors.New("tickets: -session, -streams and -agent-streams must be positive")
	}

	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	backend, err := backends.Open(opening, *backendURL)
	if err != nil {
		return fmt.Errorf("tickets: -backend: %w", err)
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		return err
	}
	tickets := newStore(backend, h)
	if m, ok := tickets.(*memoryStore); ok {
		if err := seed(ctx, m); err != nil {
			return errors.Join(fmt.Errorf("tickets: %w", err), m.close(ctx), h.Shutdown(ctx))
		}
	}
	server, err := newServer(h, tickets, newSessions(backend), o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return errors.Join(fmt.Errorf("tickets: -addr: %w", err), server.stop(ctx))
	}
	server.Handler = before.Handler(server.Handler, listener.Addr())
	fmt.Fprintf(stdout, "tickets: http://%s/\n", listener.Addr())

	served := make(chan error, 1)
	go func() { served <- server.Serve(feed.Listener(listener, 0)) }()
	select {
	case err = <-served:
		err = fmt.Errorf("tickets: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, server.stop(stopping))
}
