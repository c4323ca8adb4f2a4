// Command gateway is a hub as a server: programs in any language publish to topics with POST,
// browsers and other programs follow them with GET. It has no authentication and listens on the
// loopback interface unless told otherwise.
//
//	go -C examples run ./gateway
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
	_ "github.com/headrace/headrace/backends/all"                  // so that -backend takes the URL of any of them
	_ "github.com/headrace/headrace/backends/redisstream/embedded" // miniredis://, Redis within the process
	"github.com/headrace/headrace/examples/internal/front"
	"github.com/headrace/headrace/examples/internal/redislog"
	"github.com/headrace/headrace/ginsse"
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
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.SetOutput(stdout)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	backendURL := flags.String("backend", "memory://", "`URL` of the backend that keeps the messages")
	detach := flags.Bool("detach", false, "give the goroutine of each stream's handler back: a waiting stream takes a third of the memory")
	all := flags.Int("streams", 10_000, "how `many` streams may be open at once")
	each := flags.Int("client-streams", 500, "how `many` streams of one address may be open at once, at most half of all")
	var before front.Front
	before.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		// Not which: it may be a URL with a password, in the wrong place.
		return errors.New("gateway: unexpected argument: there are flags only")
	}

	if _, _, err := net.SplitHostPort(*addr); err != nil {
		return errors.New("gateway: -addr must be a host and a port, such as 127.0.0.1:8080")
	}

	if *all <= 0 || *each <= 0 {
		return errors.New("gateway: -streams and -client-streams must be positive")
	}

	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	backend, err := backends.Open(opening, *backendURL)
	if err != nil {
		return fmt.Errorf("gateway: -backend: %w", err)
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		return err
	}
	server, err := newServer(h, ginsse.Options{Detach: *detach, Limits: before.Limits(*all, *each)})
	if err != nil {
		return errors.Join(err, h.Shutdown(ctx))
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return errors.Join(fmt.Errorf("gateway: -addr: %w", err), h.Shutdown(ctx))
	}
	server.Handler = before.Handler(server.Handler, listener.Addr())
	fmt.Fprint(stdout, usage("http://"+listener.Addr().String()))

	served := make(chan error, 1)
	go func() { served <- server.Serve(feed.Listener(listener, 0)) }()
	select {
	case err = <-served:
		err = fmt.Errorf("gateway: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, stop(stopping, h, server))
}
