//go:build linux

// Command bench measures headrace beside other servers of Server-Sent Events, in one run on one machine, and prints one table.
//
// It expects the programs of ./load and ./peers beside itself, where make bench-peers builds them. docs/performance.md says what is
// measured and how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	short := flag.Bool("short", false, "only see that the measuring works: few connections, short runs, two peers")
	runs := flag.Int("runs", 0, "how often everything is measured (default 5, short 1)")
	conns := flag.Int("connections", 0, "connections on the topic (default 1000, short 200)")
	idle := flag.Int("idle", 0, "connections whose memory is measured (default 8000, short 500)")
	retained := flag.Int("retained", 0, "messages that each client of a replay reads (default 100000, short 5000)")
	seconds := flag.Float64("seconds", 0, "how long messages are published for a figure (default 4, short 1)")
	ahead := flag.Int("ahead", 0, "messages on their way at most when saturated (default 256)")
	profile := flag.String("profile", "", "the `folder` to leave CPU profiles of servers written in Go in, which then are slower; one for each server")
	only := flag.String("only", "", "the `names` of servers to measure, separated by commas (default all)")
	flag.Parse()

	s := full()
	if *short {
		s = reduced()
	}
	override(&s.runs, *runs)
	override(&s.conns, *conns)
	override(&s.idle, *idle)
	override(&s.retained, *retained)
	override(&s.seconds, *seconds)
	override(&s.ahead, *ahead)
	s.profile = *profile

	// The programs end with this one in any case; at a signal they are ended in order.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, s, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to be stopped
	}
}

func override[T int | float64](value *T, by T) {
	if by > 0 {
		*value = by
	}
}

func run(ctx context.Context, s scale, only string) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{scale: s, dir: filepath.Dir(executable), begin: time.Now()}
	if b.scale.idle, err = bounded(s.idle); err != nil {
		return err
	}
	list, err := b.choose(s.contenders, only)
	if err != nil {
		return err
	}
	fmt.Print(b.surroundings())
	results := b.measure(ctx, list)
	if ctx.Err() != nil {
		return errors.New("bench: interrupted")
	}
	fmt.Print("\n", table(results), "\n", ratios(results))
	for _, p := range b.problems {
		fmt.Println("- " + p)
	}
	fmt.Printf("\nThis took %v.\n", time.Since(b.begin).Round(time.Second))
	if len(b.problems) > 0 && s.strict {
		return fmt.Errorf("bench: %d problems", len(b.problems))
	}
	return nil
}

// bounded returns how many connections a process can have, at most the wanted number. Go programs raise their limit by themselves as
// far as they may.
func bounded(wanted int) (int, error) {
	// Files besides connections.
	const others = 256
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	if limit.Max < uint64(wanted+others) {
		wanted = int(limit.Max) - others
	}
	if wanted < fewIdle*2 {
		return 0, fmt.Errorf("bench: a process may have only %d files open", limit.Max)
	}
	return wanted, nil
}

// choose returns the contenders that are asked for and can be had here.
func (b *bench) choose(all []contender, only string) ([]contender, error) {
	var wanted []string
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, name := range wanted {
		if !slices.ContainsFunc(all, func(c contender) bool { return c.short == name }) {
			return nil, fmt.Errorf("bench: there is no server %q", name)
		}
	}
	var list []contender
	for _, c := range all {
		if wanted != nil && !slices.Contains(wanted, c.short) {
			continue
		}
		if c.missing != nil {
			if what := c.missing(); what != "" {
				fmt.Printf("%s is left out: %s\n\n", c.name, what)
				continue
			}
		}
		list = append(list, c)
	}
	return list, nil
}
