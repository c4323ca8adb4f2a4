// Command dashboard shows the machines of two sites as they run: measurements of several sensors
// and the alarms of a site come as several topics on one stream, and what a user gets of them
// depends on the user's role.
//
//	go -C examples run ./dashboard
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
	maxRate     = 20 // readings a second

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
	flags := flag.NewFlagSet("dashboard", flag.ContinueOnError)
	flags.SetOutput(stdout)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	backendURL := flags.String("backend", fmt.Sprintf("memory://?age=%s", chartWindow), "`URL` of the backend that keeps the messages; what it retains is what a page begins with")
	rate := flags.Int("rate", 2, fmt.Sprintf("`readings` a second of each sensor, at most %d; 0 simulates no machines, for a second instance on the same backend", maxRate))
	seed := flags.Uint64("seed", 1, "`number` that the simulation follows from")
	var before front.Front
	before.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		// Not which: it may be a URL with a password, in the wrong place.
		return errors.New("dashboard: unexpected argument: there are flags only")
	}
	if _, _, err := net.SplitHostPort(*addr); err != nil {
		return errors.New("dashboard: -addr must be a host and a port, such as 127.0.0.1:8080")
	}
	if *rate < 0 || *rate > maxRate {
		return fmt.Errorf("dashboard: -rate must be 0 to %d", maxRate)
	}

	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	backend, err := backends.Open(opening, *backendURL)
	if err != nil {
		return fmt.Errorf("dashboard: -backend: %w", err)
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		return err
	}
	server, err := newServer(h, before.Limits(allStreams, clientStreams))
	if err != nil {
		return errors.Join(err, h.Shutdown(ctx))
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return errors.Join(fmt.Errorf("dashboard: -addr: %w", err), h.Shutdown(ctx))
	}
	server.Handler = before.Handler(server.Handler, listener.Addr())
	fmt.Fprintf(stdout, "dashboard: http://%s/\n", listener.Addr())

	stopMachines := startMachines(ctx, h, *rate, *seed, chartWindow)
	served := make(chan error, 1)
	go func() { served <- server.Serve(feed.Listener(listener, 0)) }()
	select {
	case err = <-served:
		err = fmt.Errorf("dashboard: %w", err)
	case <-ctx.Done():
	}
	stopMachines()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, server.stop(stopping))
}
