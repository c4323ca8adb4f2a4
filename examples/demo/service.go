package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	readyTimeout = 20 * time.Second // for a program to answer
	attempts     = 3                // at a free port, which another process may take first
)

// service is a program of the demo that listens at an address. It is started again when it ends by
// itself, at the same address: the others know it.
type service struct {
	name     string
	addr     string // host:port; a port that is 0 is replaced by a free one at the first start
	graceful syscall.Signal
	command  func(addr string) (*exec.Cmd, error)
	check    func(ctx context.Context, s *service, p *process) error // nil when it answers
	pause    func(context.Context)                                   // returns when it may be started again, or its context has ended
	say      func(format string, args ...any)

	mu      sync.Mutex
	current *process
}

// start starts the program and returns when it answers.
func (s *service) start(ctx context.Context) error {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("demo: %s: the address must be a host and a port, such as 127.0.0.1:8080", s.name)
	}
	if port != "0" {
		return s.launch(ctx)
	}
	for try := 1; ; try++ {
		if s.addr, err = freeAddr(host); err != nil {
			return fmt.Errorf("demo: %s: %w", s.name, err)
		}
		if err = s.launch(ctx); err == nil || try == attempts || ctx.Err() != nil {
			return err
		}
	}
}

// launch starts the program at its address and returns when it answers, or with an error and no
// process.
func (s *service) launch(ctx context.Context) error {
	cmd, err := s.command(s.addr)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", s.name, err)
	}
	p, err := begin(cmd)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", s.name, err)
	}
	starting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	check := func(ctx context.Context, p *process) error { return s.check(ctx, s, p) }
	if err := p.ready(starting, check); err != nil {
		_ = killGroup(p.cmd)
		<-p.done
		return fmt.Errorf("demo: %s does not start: %w", s.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = p
	return nil
}

func (s *service) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// watch starts the program again whenever it ends, until ctx ends.
func (s *service) watch(ctx context.Context) {
	for {
		p := s.process()
		select {
		case <-p.done:
		case <-ctx.Done():
			return
		}
		s.say("%s (pid %d) ended: %v. It will be started again.", s.name, p.pid(), p.cmd.ProcessState)
		for {
			if s.pause(ctx); ctx.Err() != nil {
				return
			}
			err := s.launch(ctx)
			if err == nil {
				break
			}
			if ctx.Err() == nil {
				s.say("%v", err)
			}
		}
		s.say("%s is back: pid %d", s.name, s.process().pid())
	}
}

// stop ends the program, if it was started.
func (s *service) stop(ctx context.Context) error {
	p := s.process()
	if p == nil {
		return nil
	}
	if err := p.end(ctx, s.graceful); err != nil {
		return fmt.Errorf("demo: %s: %w", s.name, err)
	}
	return nil
}

// freeAddr returns an address of a host at which nobody listens. Its port lies below those that
// systems give to connections: one of these could take it while the program is away.
func freeAddr(host string) (string, error) {
	const first, count = 20_000, 9000
	for try := 1; ; try++ {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(first+rand.IntN(count))))
		if err == nil {
			return listener.Addr().String(), listener.Close()
		}
		if try == 100 {
			return "", err
		}
	}
}

// together runs work for each of the services at once, and returns what went wrong.
func together(services []*service, work func(*service) error) error {
	failures := make([]error, len(services))
	var group sync.WaitGroup
	for i, s := range services {
		group.Go(func() { failures[i] = work(s) })
	}
	group.Wait()
	return errors.Join(failures...)
}
