// Command demo shows the examples as several instances: two tickets servers and two gateways on one
// Redis, behind one nginx. Whatever is killed comes back after a moment, as under compose, and what
// is followed through nginx goes on meanwhile.
//
//	go -C examples run ./demo
//
// It needs redis-server, nginx and Go, builds the examples from the folder it runs in, and leaves
// nothing behind when it ends.
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
)

func main() {
	// Until run has returned, a second signal changes nothing: the programs would be left alone. So
	// they would be if the demo ended because nobody reads its output any more.
	signal.Ignore(syscall.SIGPIPE)
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup makes it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run shows the demo until ctx ends, and then ends all programs it started.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stdout)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` at which nginx listens; port 0 takes a free one")
	hosts := flags.String("hosts", "", "`list` of names under which others reach nginx; the default is the host of -addr")
	again := flags.Duration("again", 3*time.Second, "`pause` before a program that ended is started again")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("demo: unexpected argument %q: there are flags only", flags.Arg(0))
	}
	known, err := hostsOf(*addr, *hosts)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "headrace-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d := &demo{dir: dir, addr: *addr, hosts: known, pause: rest(*again), stdout: stdout}
	defer func() { err = errors.Join(err, d.stop(context.WithoutCancel(ctx))) }()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to end before it was there
		}
		return err
	}
	<-ctx.Done()
	d.say("ending")
	return nil
}

// hostsOf returns the hosts that the instances are to know. The loopback names they know without.
func hostsOf(addr, hosts string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", errors.New("demo: -addr must be a host and a port, such as 127.0.0.1:8080")
	}
	ip := net.ParseIP(host)
	switch {
	case hosts != "" || host == "localhost" || ip.IsLoopback():
		return hosts, nil
	case host == "" || ip.IsUnspecified():
		return "", errors.New("demo: -addr is every address of this machine: say with -hosts under which names it is reached")
	}
	return host, nil
}

// rest returns a function that lets some time pass, or returns when its context ends.
func rest(d time.Duration) func(context.Context) {
	return func(ctx context.Context) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}
