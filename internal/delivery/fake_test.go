package delivery

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeSource gives what a test has put into it.
type fakeSource struct {
	mu      sync.Mutex
	frames  [][]byte
	gap     bool
	at      string
	behind  bool
	ended   bool
	err     error
	changed chan struct{}
	passed  string // what Checkpoint returns next
	looks   int    // so many polls pass messages over
	also    []<-chan struct{}
	polls   int
	fetches int
	fetch   func(context.Context) error
}

func newFakeSource(frames ...string) *fakeSource {
	s := &fakeSource{changed: make(chan struct{})}
	for _, f := range frames {
		s.frames = append(s.frames, []byte(f))
	}
	return s
}

// update changes the source and tells who waits.
func (s *fakeSource) update(f func(s *fakeSource)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *fakeSource) put(frames ...string) {
	s.update(func(s *fakeSource) {
		for _, f := range frames {
			s.frames = append(s.frames, []byte(f))
		}
	})
}

func (s *fakeSource) Poll(dst [][]byte, budget int) Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	b := Batch{Frames: dst}
	switch {
	case s.looks > 0:
		s.looks--
	case s.behind:
		b.Status = Behind
	case len(s.frames) > 0 || s.gap:
		b.Gap, b.At = s.gap, s.at
		s.gap, s.at = false, ""
		for n := 0; len(s.frames) > 0 && (n == 0 || budget > 0); n++ {
			b.Frames = append(b.Frames, s.frames[0])
			b.Events++
			budget -= len(s.frames[0])
			s.frames = s.frames[1:]
		}
	case s.ended:
		b.Status, b.Err = Ended, s.err
	default:
		b.Status, b.Changed, b.Also = Waiting, s.changed, s.also
	}
	return b
}

func (s *fakeSource) Checkpoint() string {
	at := s.passed
	s.passed = ""
	return at
}

func (s *fakeSource) Fetch(ctx context.Context) error {
	s.mu.Lock()
	s.fetches++
	fetch := s.fetch
	s.mu.Unlock()
	if fetch != nil {
		return fetch(ctx)
	}
	s.update(func(s *fakeSource) { s.behind = false })
	return nil
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
