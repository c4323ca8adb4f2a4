//go:build linux

// Command bench measures headrace beside other servers of Server-Sent Events, in one run on one
// machine, and prints one table.
//
// It expects the programs of ./load and ./peers beside itself, where make bench-peers builds them.
// docs/performance.md says what is measured and how to read it.
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
	short := flag.Bool("short", false, "only see that the measuring works: few connections, short runs, few servers")
	fast := flag.Bool("quick", false, "only headrace, the raw loop and c.Stream, in short runs")
	runs := flag.Int("runs", 0, "how often everything is measured (default 5, quick 3, short 1)")
	conns := flag.Int("connections", 0, "connections that get messages (default 1000, short 200)")
	idle := flag.Int("idle", 0, "connections whose coming and memory is measured (default 8000, quick 2000, short 500)")
	retained := flag.Int("retained", 0, "messages that each client of a replay reads (default 100000, short 5000)")
	seconds := flag.Float64("seconds", 0, "how long messages are published for a figure (default 4, quick and short 1)")
	rate := flag.Int("rate", 0, "messages a second when paced (default 50)")
	ahead := flag.Int("ahead", 0, "messages on their way at most when saturated (default 32)")
	wide := flag.Int("wide", 0, "the same, with one topic once more (default 256, quick not)")
	profile := flag.String("profile", "", "the `folder` to leave profiles of servers written in Go in, which then are slower; one folder for each row")
	only := flag.String("only", "", "the `names` of servers to measure, separated by commas (default all)")
	forms := flag.String("shapes", "", "the `names` of shapes to measure, separated by commas (default all): "+names())
	what := flag.String("measure", "", "the `names` of what to measure, separated by commas (default all): "+strings.Join(tasks, ","))
	flag.Parse()

	s := full()
	switch {
	case *short:
		s = reduced()
	case *fast:
		s = quick()
	}
	override(&s.runs, *runs)
	override(&s.conns, *conns)
	override(&s.idle, *idle)
	override(&s.retained, *retained)
	override(&s.seconds, *seconds)
	override(&s.rate, *rate)
	override(&s.ahead, *ahead)
	override(&s.wide, *wide)
	s.profile = *profile

	// The programs end with this one in any case; at a signal they are ended in order.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, s, *only, *forms, *what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to be stopped
	}
}

func override[T int | float64](value *T, by T) {
	if by > 0 {
		*value = by
	}
}

func run(ctx context.Context, s scale, only, forms, what string) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{scale: s, dir: filepath.Dir(executable), begin: time.Now()}
	if b.scale.idle, err = bounded(s.idle); err != nil {
		return err
	}
	if what != "" {
		b.scale.tasks, err = split(what, "measurement", func(name string) bool { return slices.Contains(tasks, name) })
		if err != nil {
			return err
		}
	}
	all := s.contenders
	if only != "" {
		all = contenders
	}
	servers, err := b.choose(all, only)
	if err != nil {
		return err
	}
	servers = slices.DeleteFunc(servers, func(c contender) bool {
		_, err := os.Stat(filepath.Join(b.dir, c.program))
		if err != nil {
			fmt.Printf("%s is left out: peers/%s is not built\n\n", c.name, c.program)
		}
		return err != nil
	})
	list, err := rows(servers, forms, s.skip)
	if err != nil {
		return err
	}
	fmt.Print(b.surroundings())
	results := b.measure(ctx, list)
	if ctx.Err() != nil {
		return errors.New("bench: interrupted")
	}
	for _, single := range []bool{true, false} {
		if list := ofShape(results, single); len(list) > 0 {
			fmt.Print("\n", table(list))
		}
	}
	fmt.Print("\n", ratios(results), "\n", behind(results, s.rate))
	for _, p := range b.problems {
		fmt.Println("- " + p)
	}
	fmt.Printf("\nThis took %v.\n", time.Since(b.begin).Round(time.Second))
	if len(b.problems) > 0 && s.strict {
		return fmt.Errorf("bench: %d problems", len(b.problems))
	}
	return nil
}

// bounded returns how many connections a process can have, at most the wanted number. Go programs
// raise their limit by themselves as far as they may.
func bounded(wanted int) (int, error) {
	// Files besides connections, and those that headrace keeps free of streams.
	const others = 256 + 1024
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
	wanted, err := split(only, "server", func(name string) bool {
		return slices.ContainsFunc(all, func(c contender) bool { return c.short == name })
	})
	if err != nil {
		return nil, err
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
