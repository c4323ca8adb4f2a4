//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long a server is left alone before it is measured.
	settle = 300 * time.Millisecond
	// probeEvery is the time between messages that show that a connection gets messages.
	probeEvery = 100 * time.Millisecond
	// joinSeconds and drainSeconds bound waits for all connections.
	joinSeconds  = 60
	drainSeconds = 60
	// retainPatience is how long a server may take to publish what is read later.
	retainPatience = 2 * time.Minute
)

// metric is a column of a table.
type metric int

const (
	pacedCPU       metric = iota // nanoseconds a delivery
	pacedP50                     // nanoseconds
	pacedP99                     // nanoseconds
	saturatedRate                // deliveries a second
	saturatedCPU                 // nanoseconds a delivery
	wideRate                     // the same with more messages on their way
	wideCPU                      //
	connectCPU                   // nanoseconds a connection
	connectTime                  // nanoseconds until the last connection got its first byte
	residentMemory               // bytes a connection, right then
	settledMemory                // bytes a connection, when it has got a message and all is quiet
	replayRate                   // messages a second
	metrics                      // how many there are
)

// result is a row with what was measured in each run.
type result struct {
	row
	version string
	base    int64 // bytes of memory with few connections; 0 when that is not known yet
	runs    [metrics][]float64
}

// bench measures.
type bench struct {
	scale    scale
	dir      string
	begin    time.Time
	problems []string
}

// measure measures everything, one row after the other in each run, so that what changes in the
// machine meanwhile meets them all.
func (b *bench) measure(ctx context.Context, list []row) []*result {
	results := make([]*result, len(list))
	for i, r := range list {
		results[i] = &result{row: r, version: version(b.dir, r.contender)}
	}
	for run := range b.scale.runs {
		for i := range results {
			// Each is the first one once.
			r := results[(i+run)%len(results)]
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", run+1, b.scale.runs, r.title())
			b.try(ctx, r, r.delivers, delivering, b.deliver)
			b.try(ctx, r, r.connects, connecting, b.connect)
			b.try(ctx, r, r.replays && r.shape.short == one, replaying, b.replay)
			if ctx.Err() != nil {
				return results
			}
		}
	}
	return results
}

// try measures something and keeps what went wrong.
func (b *bench) try(ctx context.Context, r *result, able bool, task string, do func(context.Context, *result) error) {
	if !able || b.scale.tasks != nil && !slices.Contains(b.scale.tasks, task) || ctx.Err() != nil {
		return
	}
	if err := do(ctx, r); err != nil && ctx.Err() == nil {
		problem := fmt.Sprintf("%s, %s: %v", r.title(), task, err)
		fmt.Fprintln(os.Stderr, problem)
		b.problems = append(b.problems, problem)
	}
}

func (r *result) add(m metric, value float64) { r.runs[m] = append(r.runs[m], value) }

// has reports whether there is a figure.
func (r *result) has(m metric) bool { return len(r.runs[m]) > 0 }

// median returns the median of the runs, NaN when there are none.
func (r *result) median(m metric) float64 {
	if !r.has(m) {
		return math.NaN()
	}
	return median(r.runs[m])
}

// join waits until all of the wanted number of connections get messages, and gives those of a
// connection's own one each.
func (b *bench) join(ctx context.Context, s *site, clients *program, all int) error {
	var joined int
	probes, cancel := context.WithCancel(ctx)
	probing := make(chan error, 1)
	go func() { probing <- probe(probes, s.publisher()) }()
	err := clients.ask(ctx, (joinSeconds+5)*time.Second, fmt.Sprint("join ", joinSeconds), "joined", &joined)
	cancel()
	if failed := <-probing; failed != nil {
		err = errors.Join(err, failed)
	}
	if err == nil && joined != all {
		err = fmt.Errorf("%d of %d connections get messages", joined, all)
	}
	if err == nil && s.row.shape.own {
		err = s.publisher().ask(ctx, answerPatience, fmt.Sprint("own ", all), "ok")
	}
	if err == nil {
		time.Sleep(settle)
	}
	return err
}

// probe publishes messages that do not count until ctx ends.
func probe(ctx context.Context, publisher *program) error {
	ticks := time.NewTicker(probeEvery)
	defer ticks.Stop()
	for {
		// Not under ctx: an answer that nobody waits for would be taken for that of the next
		// command.
		if err := publisher.ask(context.WithoutCancel(ctx), answerPatience, "probe", "ok"); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// version returns the version of what a contender measures, "" when there is none.
func version(dir string, c contender) string {
	info, err := buildinfo.ReadFile(dir + "/" + c.program)
	if err != nil || c.module == "" {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == c.module {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return ""
}
