package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// stopTimeout is how long the programs may take to end, each stage of them: a little longer than
// the examples give themselves.
const stopTimeout = 12 * time.Second

// module is where the examples are. The demo has to run within its folder, so that go finds it.
const module = "github.com/headrace/headrace/examples/"

// demo is all the programs.
type demo struct {
	dir    string                // for everything that is written
	addr   string                // of nginx
	hosts  string                // under which others reach nginx
	pause  func(context.Context) // before a program that ended is started again
	stdout io.Writer

	redis     *service
	instances []*service
	nginx     *service

	printing sync.Mutex
	watching sync.WaitGroup
	unwatch  context.CancelFunc
}

// start builds the examples and starts everything. What it started before an error is stop's to
// end.
func (d *demo) start(ctx context.Context) error {
	redis, err := find("redis-server")
	nginx, missing := find("nginx")
	if err := errors.Join(err, missing); err != nil {
		return err
	}
	if err := vacant(d.addr); err != nil {
		return err
	}
	d.say("building the examples")
	programs, err := build(ctx, d.dir)
	if err != nil {
		return err
	}
	for _, name := range []string{"redis", "nginx"} {
		if err := os.Mkdir(filepath.Join(d.dir, name), 0o700); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}

	d.redis = d.own(newRedis(redis, filepath.Join(d.dir, "redis")))
	if err := d.redis.start(ctx); err != nil {
		return err
	}
	for _, example := range []string{"tickets", "gateway"} {
		for i := 1; i <= 2; i++ {
			d.instances = append(d.instances, d.own(newInstance(fmt.Sprintf("%s-%d", example, i), programs+example, d.backendURL(), d.hosts)))
		}
	}
	if err := together(d.instances, func(s *service) error { return s.start(ctx) }); err != nil {
		return err
	}
	d.nginx = d.own(newNginx(nginx, filepath.Join(d.dir, "nginx"), d.addr, d.instances))
	if err := d.nginx.start(ctx); err != nil {
		return err
	}

	d.introduce()
	var watching context.Context
	watching, d.unwatch = context.WithCancel(context.WithoutCancel(ctx))
	for _, s := range d.services() {
		d.watching.Go(func() { s.watch(watching) })
	}
	return nil
}

// build builds the examples within a folder, and returns where they are.
func build(ctx context.Context, dir string) (programs string, err error) {
	programs = filepath.Join(dir, "bin") + string(filepath.Separator)
	cmd := command("go", "build", "-o", programs, module+"tickets", module+"gateway")
	cmd.Env = append(os.Environ(), "GOTMPDIR="+dir) // when it is killed it leaves there what it was at
	p, err := begin(cmd)
	if err != nil {
		return "", fmt.Errorf("demo: go build: %w", err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = killGroup(p.cmd)
		<-p.done
		return "", context.Cause(ctx)
	}
	if !p.cmd.ProcessState.Success() {
		return "", fmt.Errorf("demo: go build: %v%s", p.cmd.ProcessState, p.output.quote())
	}
	return programs, nil
}

func (d *demo) own(s *service) *service {
	s.pause, s.say = d.pause, d.say
	return s
}

func (d *demo) backendURL() string { return "redis://" + d.redis.addr }

// services returns those that there are, in the order in which they are started.
func (d *demo) services() []*service {
	var all []*service
	if d.redis != nil {
		all = append(all, d.redis)
	}
	all = append(all, d.instances...)
	if d.nginx != nil {
		all = append(all, d.nginx)
	}
	return all
}

// stop ends everything in the order in which nothing is cut off: nginx takes no more requests and
// waits for those at hand; the instances end their streams, which nginx passes on; Redis is needed
// until they have ended.
func (d *demo) stop(ctx context.Context) error {
	if d.unwatch != nil {
		d.unwatch()
		d.watching.Wait()
	}
	var front, back []*service
	for _, s := range d.services() {
		if s == d.redis {
			back = append(back, s)
		} else {
			front = append(front, s)
		}
	}
	var failures []error
	for _, stage := range [][]*service{front, back} {
		stopping, cancel := context.WithTimeout(ctx, stopTimeout)
		failures = append(failures, together(stage, func(s *service) error { return s.stop(stopping) }))
		cancel()
	}
	return errors.Join(failures...)
}

// introduce says where everything is, and what to try.
func (d *demo) introduce() {
	var text strings.Builder
	text.WriteString("\n")
	for _, s := range d.services() {
		url := "http://" + s.addr + "/"
		if s == d.redis {
			url = d.backendURL()
		}
		fmt.Fprintf(&text, "%-10s pid %-8d %s\n", s.name, s.process().pid(), url)
	}
	tickets, gateway := d.instances[0], d.instances[len(d.instances)-1]
	fmt.Fprintf(&text, `
  the page   open http://%[1]s/ in two tabs
  follow     curl -N http://%[1]s/topics/news
  publish    curl -d hello http://%[2]s/topics/news
  kill one   kill -9 %[3]d
  who is it  curl -sI http://%[1]s/ | grep X-Served-By

Ctrl-C ends it.`, d.nginx.addr, gateway.addr, tickets.process().pid())
	d.say("%s", text.String())
}

// say prints a line, or several.
func (d *demo) say(format string, args ...any) {
	d.printing.Lock()
	defer d.printing.Unlock()
	fmt.Fprintf(d.stdout, format+"\n", args...)
}

// vacant reports an address that somebody has already, before anything is started.
func vacant(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("demo: -addr: %w", err)
	}
	return listener.Close()
}
