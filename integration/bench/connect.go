//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// fewIdle is how many connections there are before others are measured: what is needed once is
// needed by then.
const fewIdle = 100

// connect measures what connections cost that come at once, and their memory: right then, as it is,
// and when they have got a message, all is quiet and the server has given back what it does not
// use.
func (b *bench) connect(ctx context.Context, r *result) error {
	if err := b.rest(ctx, r); err != nil {
		return err
	}
	s, clients, err := b.few(ctx, r)
	if err != nil {
		return err
	}
	defer s.stop()
	defer clients.stop()
	base, err := memory(s.processes)
	if err != nil {
		return err
	}
	var cpu, elapsed time.Duration
	var resident int64
	err = s.profiled(ctx, "connect.cpu", func() error {
		before, err := cpuTime(s.processes)
		if err != nil {
			return err
		}
		if elapsed, err = dial(ctx, clients, b.scale.idle-fewIdle, b.scale.idle); err != nil {
			return err
		}
		if resident, err = memory(s.processes); err != nil {
			return err
		}
		// What is left to do for connections that have got their first byte counts too.
		time.Sleep(settle)
		after, err := cpuTime(s.processes)
		cpu = after - before
		return err
	})
	if err != nil {
		return err
	}
	if err := b.join(ctx, s, clients, b.scale.idle); err != nil {
		return err
	}
	settled, err := s.settled(ctx)
	if err != nil {
		return err
	}
	if s.profiles {
		if err := s.publisher().ask(ctx, answerPatience, "heap settled.heap", "ok"); err != nil {
			return err
		}
	}
	others := float64(b.scale.idle - fewIdle)
	r.add(connectCPU, float64(cpu)/others)
	r.add(connectTime, float64(elapsed))
	r.add(residentMemory, float64(resident-base)/others)
	r.add(settledMemory, float64(settled-r.base)/others)
	return nil
}

// rest finds out, once for a row, what a server takes with few connections when all is quiet. It
// has one of its own for that: to give memory back would change what the others take.
func (b *bench) rest(ctx context.Context, r *result) error {
	if r.base > 0 {
		return nil
	}
	s, clients, err := b.few(ctx, r)
	if err != nil {
		return err
	}
	defer s.stop()
	defer clients.stop()
	r.base, err = s.settled(ctx)
	return err
}

// few starts the servers of a row and clients with few connections.
func (b *bench) few(ctx context.Context, r *result) (s *site, clients *program, err error) {
	if s, err = b.open(ctx, r.row, b.scale.idle); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if clients, err = b.clients(s, ""); err != nil {
		return nil, nil, err
	}
	if _, err = dial(ctx, clients, fewIdle, fewIdle); err == nil {
		err = b.join(ctx, s, clients, fewIdle)
	}
	if err != nil {
		clients.stop()
	}
	return s, clients, err
}

// dial opens connections and returns how long it took until the last one had its first byte.
func dial(ctx context.Context, clients *program, count, all int) (time.Duration, error) {
	var answered int
	var started, first int64
	err := clients.ask(ctx, (2*joinSeconds+5)*time.Second, fmt.Sprintf("connect %d %d", count, joinSeconds), "connected",
		&answered, &started, &first)
	if err == nil && answered != all {
		err = fmt.Errorf("%d of %d connections are answered", answered, all)
	}
	return time.Duration(first - started), err
}

// settled returns the memory of a server that has given back what it does not use.
func (s *site) settled(ctx context.Context) (int64, error) {
	// Twice: what a first collection makes superfluous.
	for i := range 2 {
		if i > 0 {
			time.Sleep(settle)
		}
		if err := s.collect(ctx); err != nil {
			return 0, err
		}
	}
	return memory(s.processes)
}
