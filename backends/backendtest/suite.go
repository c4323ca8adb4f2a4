package backendtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// suite is what one rule's test works with. Methods that do not return an error end the test when
// something goes wrong, so they belong to the test's goroutine; publishers that run beside it use
// the backend itself.
type suite struct {
	testing.TB
	c      Config
	b      hub.Backend
	traits hub.Traits
	ctx    context.Context // ends with the test
	// instances are b and, for a shared backend, a peer.
	instances []hub.Backend
}

func newSuite(t testing.TB, c Config) *suite {
	t.Helper()
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	s := &suite{TB: t, c: c}
	s.b = s.open(c.New)
	s.traits = s.b.Traits()
	s.instances = []hub.Backend{s.b}
	if s.traits.Shared {
		switch _, lacks := c.Lacks["S1"]; {
		case c.Peer != nil:
			s.instances = append(s.instances, s.open(func(t testing.TB) hub.Backend { return c.Peer(t, s.b) }))
		case lacks:
			t.Log("Config.Lacks has S1: only one instance is tested")
		default:
			t.Fatal("Traits.Shared is true, and Config.Peer is not set: nobody has seen another instance")
		}
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return s
}

// open returns a backend that is closed when the test ends.
func (s *suite) open(open func(testing.TB) hub.Backend) hub.Backend {
	s.Helper()
	b := open(s.TB)
	if b == nil {
		s.Fatal("Config.New, Config.Peer or Config.Reopen returned no backend")
	}
	s.Cleanup(func() { s.bounded("Close", func() { _ = b.Close() }) })
	return b
}

// instance returns one of the instances, in turn.
func (s *suite) instance(i int) hub.Backend { return s.instances[i%len(s.instances)] }

// topic returns the name of a new topic.
func (s *suite) topic() string {
	rule, _, _ := strings.Cut(s.Name()[strings.LastIndexByte(s.Name(), '/')+1:], "_")
	return "backendtest/" + rule + "/" + rand.Text()
}

func (s *suite) needReplay() {
	s.Helper()
	if !s.traits.Replay {
		s.Skip("Traits.Replay is false: Read is not asked")
	}
}

// needDeletes also needs Replay: what is gone shows in what is left.
func (s *suite) needDeletes() {
	s.Helper()
	s.needReplay()
	if !s.traits.Deletes {
		s.Skip("Traits.Deletes is false")
	}
}

// bounded fails the test when f panics or does not return in time.
func (s *suite) bounded(what string, f func()) {
	s.Helper()
	done := make(chan struct{})
	var panicked any
	var stack []byte
	go func() {
		defer close(done)
		defer func() {
			if panicked = recover(); panicked != nil {
				stack = debug.Stack()
			}
		}()
		f()
	}()
	s.await(done, what+" did not return")
	if panicked != nil {
		s.Fatalf("%s panicked: %v\n%s", what, panicked, stack)
	}
}

// await fails the test with a message when done is not closed in time.
func (s *suite) await(done <-chan struct{}, otherwise string) {
	s.Helper()
	timer := time.NewTimer(s.c.Timeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.Fatalf("%s within %v", otherwise, s.c.Timeout)
	}
}

// text returns a message with an unmistakable text.
func text(format string, args ...any) hub.Message {
	return hub.Message{Type: "note", Data: fmt.Appendf(nil, format, args...)}
}

func (s *suite) publish(b hub.Backend, topic string, m hub.Message) hub.ID {
	s.Helper()
	var id hub.ID
	var err error
	s.bounded("Publish", func() { id, err = b.Publish(s.ctx, topic, m) })
	if err != nil {
		s.Fatalf("Publish: %v", err)
	}
	return id
}

func (s *suite) publishAll(b hub.Backend, topic string, ms ...hub.Message) []hub.ID {
	s.Helper()
	var got []hub.ID
	var err error
	s.bounded("PublishAll", func() { got, err = b.PublishAll(s.ctx, topic, ms) })
	if err != nil {
		s.Fatalf("PublishAll: %v", err)
	}
	if len(got) != len(ms) {
		s.Fatalf("PublishAll of %d messages returned %d IDs", len(ms), len(got))
	}
	return got
}

func (s *suite) delete(b hub.Backend, topic string) {
	s.Helper()
	s.succeeds("Delete", func() error { return b.Delete(s.ctx, topic) })
}

func (s *suite) erase(b hub.Backend, topic string, id hub.ID) {
	s.Helper()
	s.succeeds(fmt.Sprintf("Erase of %q", id), func() error { return b.Erase(s.ctx, topic, id) })
}

func (s *suite) info(b hub.Backend, topic string) (info hub.Info) {
	s.Helper()
	s.succeeds("Info", func() (err error) {
		info, err = b.Info(s.ctx, topic)
		return err
	})
	return info
}

func (s *suite) seek(b hub.Backend, topic string, what hub.Seek) (id hub.ID) {
	s.Helper()
	s.succeeds("Seek", func() (err error) {
		id, err = b.Seek(s.ctx, topic, what)
		return err
	})
	return id
}

// succeeds ends the test when f fails, or does not return in time.
func (s *suite) succeeds(what string, f func() error) {
	s.Helper()
	var err error
	s.bounded(what, func() { err = f() })
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// publishN publishes n messages one after another and returns their IDs.
func (s *suite) publishN(b hub.Backend, topic string, n int) []hub.ID {
	s.Helper()
	ids := make([]hub.ID, n)
	for i := range ids {
		ids[i] = s.publish(b, topic, text("message %d", i))
	}
	return ids
}

// publishers publish perEach messages each, from as many goroutines, to the instances in turn.
type publishers struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	ids  map[string]hub.ID // by text
	errs []error
}

func (s *suite) startPublishers(topic string, count, perEach int) *publishers {
	p := &publishers{ids: make(map[string]hub.ID)}
	for g := range count {
		p.wg.Go(func() {
			for i := range perEach {
				m := text("publisher %d message %d", g, i)
				id, err := s.instance(g+i).Publish(s.ctx, topic, m)
				p.mu.Lock()
				if err != nil {
					p.errs = append(p.errs, err)
				}
				p.ids[string(m.Data)] = id
				p.mu.Unlock()
			}
		})
	}
	return p
}

// wait returns the IDs by text when all messages are published.
func (p *publishers) wait(s *suite) map[string]hub.ID {
	s.Helper()
	s.bounded("a run of publishers", p.wg.Wait)
	if len(p.errs) > 0 {
		s.Fatalf("Publish: %v", p.errs[0])
	}
	return p.ids
}

// follow follows a topic until the test ends.
func (s *suite) follow(b hub.Backend, topic string) (r *recorder, tail hub.ID) {
	s.Helper()
	r = newRecorder()
	tail, _ = s.followWith(s.ctx, b, topic, r)
	return r, tail
}

// followWith follows a topic until stop is called or the test ends.
func (s *suite) followWith(ctx context.Context, b hub.Backend, topic string, sink hub.Sink) (tail hub.ID, stop func()) {
	s.Helper()
	var err error
	s.bounded("Follow", func() { tail, stop, err = b.Follow(ctx, topic, sink) })
	if err != nil {
		s.Fatalf("Follow: %v", err)
	}
	if stop == nil {
		s.Fatal("Follow returned no stop")
	}
	s.Cleanup(func() { s.bounded("stop", stop) })
	return tail, stop
}

// read reads one page.
func (s *suite) read(b hub.Backend, topic string, after hub.ID, limit int) hub.Page {
	s.Helper()
	var p hub.Page
	var err error
	s.bounded("Read", func() { p, err = b.Read(s.ctx, topic, after, limit) })
	if err != nil {
		s.Fatalf("Read after %q: %v", after, err)
	}
	return p
}

// readAll reads on until an empty page. Gap is that of the first page; a gap on a later one ends
// the test.
func (s *suite) readAll(b hub.Backend, topic string, after hub.ID) (ms []hub.Message, gap bool) {
	s.Helper()
	for n := 0; ; n++ {
		p := s.read(b, topic, after, 100)
		switch {
		case n == 0:
			gap = p.Gap
		case p.Gap:
			s.Fatalf("Read after %q, the last message of a page: gap", after)
		case n > 10_000:
			s.Fatalf("Read of %d pages, and still no empty one", n)
		}
		if len(p.Messages) == 0 {
			return ms, gap
		}
		ms = append(ms, p.Messages...)
		after = p.Messages[len(p.Messages)-1].ID
	}
}

// exactly ends the test unless Read after an ID gives these messages and no gap.
func (s *suite) exactly(b hub.Backend, topic string, after hub.ID, want ...hub.ID) {
	s.Helper()
	ms, gap := s.readAll(b, topic, after)
	if gap {
		s.Fatalf("Read after %q: gap, want %d messages without", after, len(want))
	}
	if got := ids(ms); !slices.Equal(got, want) {
		s.Fatalf("Read after %q: %s, want %s", after, list(got), list(want))
	}
}

// same compares what P3 names.
func (s *suite) same(how string, got, want hub.Message) {
	s.Helper()
	switch {
	case got.Type != want.Type:
		s.Fatalf("%s: type %q, want %q", how, got.Type, want.Type)
	case !bytes.Equal(got.Data, want.Data):
		s.Fatalf("%s: type %q: data %.100q, want %.100q", how, want.Type, got.Data, want.Data)
	case got.Binary != want.Binary:
		s.Fatalf("%s: type %q: Binary is %v, want %v", how, want.Type, got.Binary, want.Binary)
	case !maps.Equal(got.Headers, want.Headers):
		s.Fatalf("%s: headers %q, want %q", how, got.Headers, want.Headers)
	case got.Final != want.Final:
		s.Fatalf("%s: type %q: Final is %v, want %v", how, want.Type, got.Final, want.Final)
	}
}

// reachable publishes until it succeeds, after an outage, and returns the ID.
func (s *suite) reachable(topic string) hub.ID {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, s.c.Timeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		id, err := s.b.Publish(ctx, topic, text("reachable"))
		if err == nil {
			return id
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Fatalf("Publish after an outage still fails: %v", err)
		}
	}
}

func (s *suite) trim(topic string) {
	s.Helper()
	s.c.Trim(s.TB, s.b, topic)
}
