package session

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// fakeSource gives what a test has put into it.
type fakeSource struct {
	mu      sync.Mutex
	frames  [][]byte
	ended   bool
	err     error
	passed  string // what Checkpoint returns next
	looks   int    // so many polls pass messages over
	panics  any
	polls   int
	watcher Waker
}

func newFakeSource(frames ...string) *fakeSource {
	s := &fakeSource{}
	for _, f := range frames {
		s.frames = append(s.frames, []byte(f))
	}
	return s
}

// update changes the source and wakes its watcher.
func (s *fakeSource) update(f func(s *fakeSource)) {
	s.mu.Lock()
	f(s)
	w := s.watcher
	s.mu.Unlock()
	if w != nil {
		w.Topic(0).Wake()
	}
}

func (s *fakeSource) put(frames ...string) {
	s.update(func(s *fakeSource) {
		for _, f := range frames {
			s.frames = append(s.frames, []byte(f))
		}
	})
}

func (s *fakeSource) Watch(w Waker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watcher = w
}

func (s *fakeSource) Poll(w *Work, budget int) (hub.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	if s.panics != nil {
		panic(s.panics)
	}
	switch {
	case s.looks > 0:
		s.looks--
		return hub.Ready, nil
	case len(s.frames) > 0:
		for n := 0; len(s.frames) > 0 && (n == 0 || budget > 0); n++ {
			w.Frames = append(w.Frames, s.frames[0])
			w.Events++
			budget -= len(s.frames[0])
			s.frames = s.frames[1:]
		}
		return hub.Ready, nil
	case s.ended:
		return hub.Ended, s.err
	}
	return hub.Waiting, nil
}

func (s *fakeSource) Checkpoint() string {
	at := s.passed
	s.passed = ""
	return at
}

// server is what a drain of a test is to the streams.
type server struct {
	mu    sync.Mutex
	calls map[int]func()
	next  int
}

// drained returns c with the server's drain.
func (s *server) drained(c Config) Config {
	if c.DrainAt == nil {
		c.DrainAt = time.Now
	}
	c.OnClosing = func(f func()) func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.calls == nil {
			s.calls = make(map[int]func())
		}
		n := s.next
		s.next++
		s.calls[n] = f
		return func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.calls, n)
		}
	}
	return c
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, call := range s.calls {
		call()
	}
}

// fakeWriter keeps what is written, with the time since it was made.
type fakeWriter struct {
	mu      sync.Mutex
	begin   time.Time
	writes  []string
	times   []time.Duration
	err     error
	block   chan struct{} // not nil: writes wait until it is closed
	only    string        // not "": only writes of this wait
	blocked chan struct{} // not nil: closed when the first write waits
	aborted int
	over    bool // set by the test when the handler has returned
	late    bool // something was written after that
}

func newFakeWriter() *fakeWriter { return &fakeWriter{begin: time.Now()} }

func (w *fakeWriter) Write(frames ...[]byte) error {
	w.mu.Lock()
	block, only := w.block, w.only
	w.mu.Unlock()
	text := string(bytes.Join(frames, nil))
	if block != nil && (only == "" || only == text) {
		if w.blocked != nil {
			close(w.blocked)
		}
		<-block
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = w.late || w.over
	if w.err != nil {
		return w.err
	}
	w.writes = append(w.writes, text)
	w.times = append(w.times, time.Since(w.begin))
	return nil
}

func (w *fakeWriter) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aborted++
	w.err = errors.New("aborted")
	return nil
}

func (w *fakeWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.writes, "")
}

// timesOf returns when exactly this was written.
func (w *fakeWriter) timesOf(text string) (times []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.writes {
		if s == text {
			times = append(times, w.times[i])
		}
	}
	return times
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %#v, want %#v", what, got, want)
	}
}

func isCause(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("cause: got %v, want %v", got, want)
	}
}
