//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	// fewIdle is how many connections there are when memory is measured for the first time: what is needed once is needed by then.
	fewIdle = 100
	// probeEvery is the time between messages that show that a connection gets messages.
	probeEvery = 100 * time.Millisecond
	// settle is how long a server is left alone before it is measured.
	settle = 300 * time.Millisecond
	// joinSeconds and drainSeconds bound waits for all connections.
	joinSeconds  = 60
	drainSeconds = 60
	// retainPatience is how long a server may take to publish what is read later.
	retainPatience = 2 * time.Minute
)

// metric is a column of the table.
type metric int

const (
	saturatedRate metric = iota // deliveries a second
	saturatedCPU                // nanoseconds a delivery
	pacedCPU                    // nanoseconds a delivery
	pacedP50                    // nanoseconds
	pacedP99                    // nanoseconds
	idleMemory                  // bytes a connection
	replayRate                  // messages a second
	metrics                     // how many there are
)

// result is a contender with what was measured in each run.
type result struct {
	contender
	version string
	runs    [metrics][]float64
}

// bench measures.
type bench struct {
	scale    scale
	dir      string
	begin    time.Time
	problems []string
}

// measure measures everything, one contender after the other in each run, so that what changes in the machine meanwhile meets them all.
func (b *bench) measure(ctx context.Context, list []contender) []*result {
	results := make([]*result, len(list))
	for i, c := range list {
		results[i] = &result{contender: c, version: version(b.dir, c)}
	}
	for run := range b.scale.runs {
		for i := range results {
			// Each is the first one once.
			r := results[(i+run)%len(results)]
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", run+1, b.scale.runs, r.name)
			b.try(ctx, r, r.delivers, "delivering", b.deliver)
			b.try(ctx, r, r.rests, "resting", b.rest)
			b.try(ctx, r, r.replays, "replaying", b.replay)
			if ctx.Err() != nil {
				return results
			}
		}
	}
	return results
}

// try measures something and keeps what went wrong.
func (b *bench) try(ctx context.Context, r *result, wanted bool, what string, do func(context.Context, *result) error) {
	if !wanted || ctx.Err() != nil {
		return
	}
	if err := do(ctx, r); err != nil && ctx.Err() == nil {
		problem := fmt.Sprintf("%s, %s: %v", r.name, what, err)
		fmt.Fprintln(os.Stderr, problem)
		b.problems = append(b.problems, problem)
	}
}

func (r *result) add(m metric, value float64) { r.runs[m] = append(r.runs[m], value) }

// deliver measures rates, CPU and latency on a topic with many connections.
func (b *bench) deliver(ctx context.Context, r *result) error {
	s, err := b.open(ctx, r.contender)
	if err != nil {
		return err
	}
	defer s.stop()
	clients, err := b.clients(s, "")
	if err != nil {
		return err
	}
	defer clients.stop()
	if err := b.join(ctx, s, clients, b.scale.conns, b.scale.conns); err != nil {
		return err
	}
	if _, err := b.publish(ctx, s, clients, b.scale.warm, 0); err != nil {
		return err
	}
	paced, err := b.publish(ctx, s, clients, b.scale.seconds, b.scale.rate)
	if err != nil {
		return err
	}
	r.add(pacedCPU, paced.cpu)
	r.add(pacedP50, paced.p50)
	r.add(pacedP99, paced.p99)
	saturated, err := b.publish(ctx, s, clients, b.scale.seconds, 0)
	if err != nil {
		return err
	}
	r.add(saturatedCPU, saturated.cpu)
	r.add(saturatedRate, saturated.rate)
	return nil
}

// join opens connections and waits until all of the wanted number get messages.
func (b *bench) join(ctx context.Context, s *site, clients *program, count, all int) error {
	var opened, joined int
	if err := clients.ask(ctx, joinSeconds*time.Second, fmt.Sprint("open ", count), "opened", &opened); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	probing := make(chan error, 1)
	go func() { probing <- probe(ctx, s.publisher()) }()
	err := clients.ask(ctx, (joinSeconds+5)*time.Second, fmt.Sprint("join ", joinSeconds), "joined", &joined)
	cancel()
	if failed := <-probing; failed != nil {
		err = errors.Join(err, failed)
	}
	if err == nil && joined != all {
		err = fmt.Errorf("%d of %d connections get messages", joined, all)
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
		// Not under ctx: an answer that nobody waits for would be taken for that of the next command.
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

// outcome is what came of publishing for some time.
type outcome struct{ rate, cpu, p50, p99 float64 }

// publish has messages published and waits until they are everywhere. A rate of 0 is as fast as the slowest client gets them.
func (b *bench) publish(ctx context.Context, s *site, clients *program, seconds float64, rate int) (outcome, error) {
	ahead, step, latency := 0, 0, 1
	if rate == 0 {
		ahead, step, latency = b.scale.ahead, max(1, b.scale.ahead/4), 0
	}
	if err := clients.ask(ctx, answerPatience, fmt.Sprintf("reset %d %d", step, latency), "ok"); err != nil {
		return outcome{}, err
	}
	before, err := cpuTime(s.processes)
	if err != nil {
		return outcome{}, err
	}
	var count int
	var started int64
	err = s.publisher().ask(ctx, time.Duration(seconds*float64(time.Second))+answerPatience,
		fmt.Sprintf("publish %g %d %d %d", seconds, rate, b.scale.size, ahead), "published", &count, &started)
	if err != nil {
		return outcome{}, err
	}
	got, err := expect(ctx, clients, count, b.scale.conns)
	if err != nil {
		return outcome{}, err
	}
	after, err := cpuTime(s.processes)
	if err != nil {
		return outcome{}, err
	}
	return outcome{
		rate: float64(got.total) / time.Duration(got.last-started).Seconds(),
		cpu:  float64(after-before) / float64(got.total),
		p50:  float64(got.p50), p99: float64(got.p99),
	}, nil
}

// arrived is what clients got.
type arrived struct {
	last                 int64
	total                int
	least, most          int
	lost, samples        int
	p50, p99             int64
	connections, promise int
}

// expect waits until each of the connections has got count messages, and fails when any has fewer or more.
func expect(ctx context.Context, clients *program, count, connections int) (arrived, error) {
	a := arrived{connections: connections, promise: count}
	err := clients.ask(ctx, (drainSeconds+5)*time.Second, fmt.Sprintf("expect %d %d", count, drainSeconds), "done",
		&a.last, &a.total, &a.least, &a.most, &a.lost, &a.samples, &a.p50, &a.p99)
	if err != nil {
		return a, err
	}
	return a, a.check()
}

func (a arrived) check() error {
	// Where nobody has more than he should and the sum is right, nobody has less.
	if wanted := a.connections * a.promise; a.promise == 0 || a.total != wanted || a.most != a.promise || a.lost != 0 {
		return fmt.Errorf("%d of %d deliveries arrived, between %d and %d of %d messages a connection, and %d connections ended",
			a.total, wanted, a.least, a.most, a.promise, a.lost)
	}
	return nil
}

// rest measures the memory of connections that wait.
func (b *bench) rest(ctx context.Context, r *result) error {
	s, err := b.open(ctx, r.contender)
	if err != nil {
		return err
	}
	defer s.stop()
	clients, err := b.clients(s, "")
	if err != nil {
		return err
	}
	defer clients.stop()
	var memories [2]int64
	for i, count := range []int{fewIdle, b.scale.idle - fewIdle} {
		if err := b.join(ctx, s, clients, count, fewIdle+i*count); err != nil {
			return err
		}
		if err := s.collect(ctx); err != nil {
			return err
		}
		time.Sleep(settle)
		// Once more: what a first collection makes superfluous.
		if err := s.collect(ctx); err != nil {
			return err
		}
		if memories[i], err = memory(s.processes); err != nil {
			return err
		}
	}
	r.add(idleMemory, float64(memories[1]-memories[0])/float64(b.scale.idle-fewIdle))
	return nil
}

// replay measures how fast clients get what was published before they came.
func (b *bench) replay(ctx context.Context, r *result) error {
	s, err := b.open(ctx, r.contender, "-retain", fmt.Sprint(b.scale.retained))
	if err != nil {
		return err
	}
	defer s.stop()
	var cursor string
	err = s.publisher().ask(ctx, retainPatience, fmt.Sprintf("retain %d %d", b.scale.retained, b.scale.size), "retained", &cursor)
	if err != nil {
		return err
	}
	if cursor == "-" {
		cursor = ""
	}
	if err := s.collect(ctx); err != nil {
		return err
	}
	clients, err := b.clients(s, cursor)
	if err != nil {
		return err
	}
	defer clients.stop()
	time.Sleep(settle)
	var opened int
	var started int64
	err = clients.ask(ctx, answerPatience, fmt.Sprint("open ", b.scale.readers), "opened", &opened, &started)
	if err != nil {
		return err
	}
	got, err := expect(ctx, clients, b.scale.retained, b.scale.readers)
	if err != nil {
		return err
	}
	r.add(replayRate, float64(got.total)/time.Duration(got.last-started).Seconds())
	return nil
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
