package backendtest

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

// recorder is a hub.Sink that keeps what it gets.
type recorder struct {
	// How often each call lets others run, so that overlapping calls meet.
	spin      int
	onDeliver func([]hub.Message) // called without a lock held

	inside  atomic.Int32
	overlap atomic.Bool

	mu       sync.Mutex
	calls    int
	messages []hub.Message
	restored []restoration
	changed  chan struct{} // closed and replaced with each call
}

// restoration is one call of Restored.
type restoration struct {
	tail   hub.ID
	before int // how many messages had been delivered
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) Deliver(ms ...hub.Message) {
	defer r.enter()()
	r.mu.Lock()
	r.messages = append(r.messages, ms...)
	r.notify()
	r.mu.Unlock()
	if r.onDeliver != nil {
		r.onDeliver(ms)
	}
}

func (r *recorder) Broken(error) {
	defer r.enter()()
	r.mu.Lock()
	r.notify()
	r.mu.Unlock()
}

func (r *recorder) Restored(tail hub.ID) {
	defer r.enter()()
	r.mu.Lock()
	r.restored = append(r.restored, restoration{tail: tail, before: len(r.messages)})
	r.notify()
	r.mu.Unlock()
}

func (r *recorder) enter() (leave func()) {
	if r.inside.Add(1) > 1 {
		r.overlap.Store(true)
	}
	for range r.spin {
		runtime.Gosched()
	}
	return func() { r.inside.Add(-1) }
}

// notify counts a call. The lock is held.
func (r *recorder) notify() {
	r.calls++
	close(r.changed)
	r.changed = make(chan struct{})
}

// got returns what was delivered so far.
func (r *recorder) got() []hub.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.messages)
}

func (r *recorder) begun() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// until waits for a condition on what was recorded; it is checked under the recorder's lock.
func (s *suite) until(r *recorder, what string, cond func(r *recorder) bool) {
	s.Helper()
	timer := time.NewTimer(s.c.Timeout)
	defer timer.Stop()
	for {
		r.mu.Lock()
		ok, changed := cond(r), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			s.Fatalf("%s: not within %v; delivered: %s", what, s.c.Timeout, list(ids(r.got())))
		}
	}
}

// delivered waits for messages and returns all that were delivered so far.
func (s *suite) delivered(r *recorder, want ...hub.ID) []hub.Message {
	s.Helper()
	for _, id := range want {
		s.until(r, fmt.Sprintf("message %q", id), func(r *recorder) bool {
			_, ok := find(r.messages, id)
			return ok
		})
	}
	return r.got()
}

// fence publishes a message and waits until it is delivered: what was to be delivered before is
// delivered then.
func (s *suite) fence(b hub.Backend, topic string, rs ...*recorder) hub.ID {
	s.Helper()
	id := s.publish(b, topic, text("fence"))
	for _, r := range rs {
		s.delivered(r, id)
	}
	return id
}
