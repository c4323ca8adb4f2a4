//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// answerPatience is how long a program may take for what it does at once.
const answerPatience = 30 * time.Second

// site is what serves the topic: one server, or several over one Redis. The first one publishes.
type site struct {
	row       row
	profiles  bool // the publisher writes some when told to
	servers   []*program
	addrs     []string
	path      string
	processes []int
	redis     *redis
}

// open starts the servers of a row for so many connections.
func (b *bench) open(ctx context.Context, r row, connections int, args ...string) (*site, error) {
	s := &site{row: r, profiles: b.scale.profile != ""}
	count := 1
	args = append(args, r.arguments(connections)...)
	if s.profiles {
		folder := filepath.Join(b.scale.profile, r.label())
		if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // nothing secret is in it
			return nil, err
		}
		args = append(args, "-profile", folder)
	}
	if r.redis {
		var err error
		if s.redis, err = startRedis(ctx); err != nil {
			return nil, err
		}
		s.processes = append(s.processes, s.redis.cmd.Process.Pid)
		args = append(args, "-backend", "redis://"+s.redis.addr)
		count = 2
	}
	for range count {
		if err := s.start(ctx, filepath.Join(b.dir, r.program), args); err != nil {
			s.stop()
			return nil, err
		}
	}
	return s, nil
}

func (s *site) start(ctx context.Context, path string, args []string) error {
	p, err := start(path, args...)
	if err != nil {
		return err
	}
	s.servers = append(s.servers, p)
	var line []string
	select {
	case answer := <-p.answers:
		line = strings.Fields(answer)
	case <-p.done:
		return p.failed(errors.New("it ended at its start"))
	case <-time.After(answerPatience):
		return p.failed(errors.New("it does not start"))
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(line) < 4 || line[0] != "ready" {
		return p.failed(fmt.Errorf("it begins with %q", line))
	}
	s.addrs, s.path = append(s.addrs, line[1]), line[2]
	for _, word := range line[3:] {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return p.failed(err)
		}
		s.processes = append(s.processes, pid)
	}
	return nil
}

// publisher is the server that publishes.
func (s *site) publisher() *program { return s.servers[0] }

// collect has all servers give back memory that they do not use.
func (s *site) collect(ctx context.Context) error {
	for _, p := range s.servers {
		if err := p.ask(ctx, answerPatience, "gc", "ok"); err != nil {
			return err
		}
	}
	return nil
}

// profiled has a CPU profile of the publishing server written while something is done.
func (s *site) profiled(ctx context.Context, name string, do func() error) error {
	if !s.profiles {
		return do()
	}
	if err := s.publisher().ask(ctx, answerPatience, "profile "+name, "ok"); err != nil {
		return err
	}
	err := do()
	return errors.Join(err, s.publisher().ask(ctx, answerPatience, "profile -", "ok"))
}

func (s *site) stop() {
	for _, p := range s.servers {
		p.stop()
	}
	if s.redis != nil {
		s.redis.stop()
	}
}

// clients starts the program with the clients of a site.
func (b *bench) clients(s *site, cursor string) (*program, error) {
	p, err := start(filepath.Join(b.dir, "load"), "-addr", strings.Join(s.addrs, ","), "-path", s.path, "-cursor", cursor)
	if err != nil {
		return nil, err
	}
	// What all have got, the publisher may go on from.
	p.onProgress(func(count string) { _ = s.publisher().send("allow " + count) })
	return p, nil
}

// redis is a redis-server that keeps nothing.
type redis struct {
	cmd  *exec.Cmd
	addr string
	dir  string
	done chan struct{}
}

func startRedis(ctx context.Context) (*redis, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := listener.Addr().(*net.TCPAddr)
	_ = listener.Close()
	dir, err := os.MkdirTemp("", "headrace-bench-")
	if err != nil {
		return nil, err
	}
	log := &tail{}
	r := &redis{addr: addr.String(), dir: dir, done: make(chan struct{})}
	r.cmd = command(path, "--port", strconv.Itoa(addr.Port), "--bind", "127.0.0.1", "--save", "", "--dir", dir)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	for deadline := time.Now().Add(answerPatience); ; {
		if err = ping(r.addr); err == nil {
			return r, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			r.stop()
			return nil, ctx.Err()
		case <-r.done:
			r.stop()
			return nil, fmt.Errorf("bench: redis-server ended at its start: %s", log)
		}
		if time.Now().After(deadline) {
			r.stop()
			return nil, fmt.Errorf("bench: redis-server does not answer: %w", err)
		}
	}
}

func ping(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	const hello, want = "PING\r\n", "+PONG\r\n"
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, hello); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(want)) {
		return fmt.Errorf("it answers %q", got)
	}
	return nil
}

func (r *redis) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-r.done:
	case <-time.After(stopPatience):
		_ = r.cmd.Process.Kill()
		<-r.done
	}
	_ = os.RemoveAll(r.dir)
}
