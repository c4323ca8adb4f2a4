//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// deliver measures rates, CPU and latency of messages to many connections.
func (b *bench) deliver(ctx context.Context, r *result) error {
	count := r.connections(b.scale.conns)
	s, err := b.open(ctx, r.row, count)
	if err != nil {
		return err
	}
	defer s.stop()
	clients, err := b.clients(s, "")
	if err != nil {
		return err
	}
	defer clients.stop()
	var opened int
	if err := clients.ask(ctx, joinSeconds*time.Second, fmt.Sprint("open ", count), "opened", &opened); err != nil {
		return err
	}
	if err := b.join(ctx, s, clients, count); err != nil {
		return err
	}
	t := traffic{seconds: b.scale.warm, ahead: b.scale.ahead, connections: count, topics: 1}
	if r.shape.spread {
		t.topics = b.scale.conns
	}
	if _, err := b.publish(ctx, s, clients, t); err != nil {
		return err
	}
	t.seconds = b.scale.seconds
	if !r.shape.spread {
		paced := t
		paced.rate, paced.ahead = b.scale.rate, 0
		if err := b.figures(ctx, s, clients, "paced.cpu", paced, func(o outcome) {
			r.add(pacedCPU, o.cpu)
			r.add(pacedP50, o.p50)
			r.add(pacedP99, o.p99)
		}); err != nil {
			return err
		}
	}
	if err := b.figures(ctx, s, clients, "saturated.cpu", t, func(o outcome) {
		r.add(saturatedRate, o.rate)
		r.add(saturatedCPU, o.cpu)
	}); err != nil {
		return err
	}
	if r.shape.short != one || b.scale.wide == 0 {
		return nil
	}
	t.ahead = b.scale.wide
	return b.figures(ctx, s, clients, "saturated-wide.cpu", t, func(o outcome) {
		r.add(wideRate, o.rate)
		r.add(wideCPU, o.cpu)
	})
}

// figures publishes, with a CPU profile of a name, and gives what came of it to a function.
func (b *bench) figures(ctx context.Context, s *site, clients *program, name string, t traffic, take func(outcome)) error {
	return s.profiled(ctx, name, func() error {
		o, err := b.publish(ctx, s, clients, t)
		if err == nil {
			take(o)
		}
		return err
	})
}

// traffic is what is published, and to how many.
type traffic struct {
	seconds     float64
	rate        int // 0 is as fast as it goes
	ahead       int // with a rate of 0
	connections int
	topics      int // that share the connections evenly
}

// outcome is what came of publishing for some time.
type outcome struct{ rate, cpu, p50, p99 float64 }

// publish has messages published and waits until they are everywhere.
func (b *bench) publish(ctx context.Context, s *site, clients *program, t traffic) (outcome, error) {
	step, latency, receivers := 0, 1, 0
	if t.rate == 0 {
		step, latency = max(1, t.ahead/4), 0
	}
	if t.topics > 1 {
		receivers = t.connections / t.topics
	}
	if err := clients.ask(ctx, answerPatience, fmt.Sprintf("reset %d %d %d", step, latency, receivers), "ok"); err != nil {
		return outcome{}, err
	}
	before, err := cpuTime(s.processes)
	if err != nil {
		return outcome{}, err
	}
	var count int
	var started int64
	err = s.publisher().ask(ctx, time.Duration(t.seconds*float64(time.Second))+answerPatience,
		fmt.Sprintf("publish %g %d %d %d", t.seconds, t.rate, b.scale.size, t.ahead), "published", &count, &started)
	if err != nil {
		return outcome{}, err
	}
	if count%t.topics != 0 {
		return outcome{}, fmt.Errorf("%d messages do not go to %d topics evenly", count, t.topics)
	}
	got, err := expect(ctx, clients, count/t.topics, t.connections)
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

// expect waits until each of the connections has got count messages, and fails when any has fewer
// or more.
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

// replay measures how fast clients get what was published before they came.
func (b *bench) replay(ctx context.Context, r *result) error {
	s, err := b.open(ctx, r.row, b.scale.readers, "-retain", fmt.Sprint(b.scale.retained))
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
