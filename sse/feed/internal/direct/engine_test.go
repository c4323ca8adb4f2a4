package direct

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// fakeFeed gives what a test has put into it.
type fakeFeed struct {
	topics []string
	custom bool

	mu      sync.Mutex
	frames  [][]byte
	ended   bool
	err     error
	panics  any
	poll    func() // user code
	polls   int
	watcher session.Waker
}

func newFakeFeed(topic string, frames ...string) *fakeFeed {
	f := &fakeFeed{topics: []string{topic}}
	for _, frame := range frames {
		f.frames = append(f.frames, []byte(frame))
	}
	return f
}

func (f *fakeFeed) Topics() int        { return len(f.topics) }
func (f *fakeFeed) Topic(i int) any    { return f.topics[i] }
func (f *fakeFeed) Custom() bool       { return f.custom }
func (f *fakeFeed) Checkpoint() string { return "" }

func (f *fakeFeed) Watch(w session.Waker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watcher = w
}

func (f *fakeFeed) Poll(w *session.Work, budget int) (hub.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.polls++
	if f.panics != nil {
		panic(f.panics)
	}
	if len(f.frames) > 0 && f.poll != nil {
		poll := f.poll
		w.UserCode = true
		f.mu.Unlock()
		poll()
		f.mu.Lock()
	}
	switch {
	case len(f.frames) > 0:
		for n := 0; len(f.frames) > 0 && (n == 0 || budget > 0); n++ {
			w.Frames = append(w.Frames, f.frames[0])
			w.Events++
			budget -= len(f.frames[0])
			f.frames = f.frames[1:]
		}
		return hub.Ready, nil
	case f.ended:
		return hub.Ended, f.err
	}
	return hub.Waiting, nil
}

// update changes the feed and wakes its watchers, of its last topic.
func (f *fakeFeed) update(change func(*fakeFeed)) {
	f.mu.Lock()
	change(f)
	w := f.watcher
	f.mu.Unlock()
	if w != nil {
		w.Topic(len(f.topics) - 1).Wake()
	}
}

func (f *fakeFeed) put(frames ...string) {
	f.update(func(f *fakeFeed) {
		for _, frame := range frames {
			f.frames = append(f.frames, []byte(frame))
		}
	})
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

// fakeSocket takes so many bytes at once as it has room for, and has room again when a test has
// read.
type fakeSocket struct {
	mu          sync.Mutex
	cond        *sync.Cond
	room        int // -1: endless
	text        strings.Builder
	tries       int
	gone        bool
	released    bool
	interrupted bool
	closed      string
	broken      error
}

func newFakeSocket() *fakeSocket {
	s := &fakeSocket{room: -1}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *fakeSocket) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.cond.Broadcast()
}

func (s *fakeSocket) TryWrite(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.broken != nil {
		return 0, s.broken
	}
	return s.take(p), nil
}

func (s *fakeSocket) take(p []byte) int {
	n := len(p)
	if s.room >= 0 {
		n = min(n, s.room)
		s.room -= n
	}
	s.text.Write(p[:n])
	return n
}

func (s *fakeSocket) Write(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.interrupted {
			return session.ErrInterrupted
		}
		if s.broken != nil {
			return s.broken
		}
		if p = p[s.take(p):]; len(p) == 0 {
			return nil
		}
		s.cond.Wait()
	}
}

func (s *fakeSocket) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.gone && !s.released {
		s.cond.Wait()
	}
}

func (s *fakeSocket) Release()   { s.change(func() { s.released = true }) }
func (s *fakeSocket) Interrupt() { s.change(func() { s.interrupted = true }) }
func (s *fakeSocket) Close(clean bool) {
	s.change(func() { s.closed += fmt.Sprint(clean) })
}

func (s *fakeSocket) got() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (e *Engine) runInBackground(ctx context.Context, c session.Config, f *fakeFeed, s Socket) <-chan session.Result {
	done := make(chan session.Result, 1)
	go e.Run(ctx, c, f, s, Response{}, func(r session.Result) { done <- r })
	return done
}

func TestEngineLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Engine
		f, s := newFakeFeed("t", "data: a\n\n"), newFakeSocket()
		done := e.runInBackground(t.Context(), session.Config{Heartbeat: 15 * time.Second, Lifetime: time.Minute}, f, s)
		begun := time.Now()
		synctest.Wait()
		equal(t, "first", s.got(), ": ok\ndata: a\n\n")
		time.Sleep(20 * time.Second)
		f.put("data: b\n\n")
		r := <-done
		equal(t, "after", time.Since(begun), time.Minute)
		isCause(t, r.Cause, session.ErrRotated)
		equal(t, "text", s.got(), ": ok\ndata: a\n\n:\ndata: b\n\n:\n:\n")
		equal(t, "events", r.Events, 2)
		equal(t, "bytes", r.Bytes, int64(len(s.got())))
		equal(t, "closed", s.closed, "true")
		// The shards' goroutines are gone, or the bubble would not end.
	})
}

// TestEngineSharesBatches: connections at the same place are written the same bytes, framed once.
func TestEngineSharesBatches(t *testing.T) {
	var made batch
	a, b := []byte("a"), []byte("bb")
	made.of([][]byte{a, b}, 3, true, false)
	equal(t, "batch", string(made.bytes), "3\r\nabb\r\n")
	made.bytes[3] = 'X'
	made.of([][]byte{a, b}, 3, true, false)
	equal(t, "again", string(made.bytes), "3\r\nXbb\r\n")
	made.of([][]byte{a, []byte("bb")}, 3, true, false)
	equal(t, "equal bytes elsewhere", string(made.bytes), "3\r\nabb\r\n")
	made.of([][]byte{a, b}, 3, false, false)
	equal(t, "not chunked", string(made.bytes), "abb")
	made.forget()
	if len(made.frames) != 0 {
		t.Error("an idle shard keeps frames")
	}
}

func TestSkip(t *testing.T) {
	frames := [][]byte{[]byte("abc"), nil, []byte("de")}
	for _, chunked := range []bool{true, false} {
		whole := "abcde"
		if chunked {
			whole = "5\r\nabcde\r\n"
		}
		for n := range len(whole) + 1 {
			rest := ""
			for _, p := range skip(frames, chunked, 5, n) {
				rest += string(p)
			}
			equal(t, fmt.Sprint("rest after ", n), rest, whole[n:])
		}
	}
}

// TestEngineSlow: a socket that is full gets its rest, and what came meanwhile, by a goroutine of
// its own, and nobody else waits.
func TestEngineSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Engine
		slow, fast := newFakeSocket(), newFakeSocket()
		slow.room = 10
		feeds := []*fakeFeed{newFakeFeed("t"), newFakeFeed("t")}
		one := e.runInBackground(t.Context(), session.Config{}, feeds[0], slow)
		other := e.runInBackground(t.Context(), session.Config{}, feeds[1], fast)
		synctest.Wait()
		want := ": ok\n"
		for i := range 5 {
			frame := fmt.Sprintf("data: %d\n\n", i)
			for _, f := range feeds {
				f.put(frame)
			}
			want += frame
			synctest.Wait()
		}
		equal(t, "slow", slow.got(), want[:10])
		equal(t, "fast", fast.got(), want)
		slow.change(func() { slow.room = 3 })
		synctest.Wait()
		equal(t, "slow, with more room", slow.got(), want[:13])
		slow.change(func() { slow.room = -1 })
		synctest.Wait()
		equal(t, "slow, caught up", slow.got(), want)
		tries := slow.tries
		for _, f := range feeds {
			f.put("data: x\n\n")
		}
		synctest.Wait()
		equal(t, "writes by the shard again", slow.tries, tries+1)
		equal(t, "both", slow.got(), fast.got())
		for _, s := range []*fakeSocket{slow, fast} {
			s.change(func() { s.gone = true })
		}
		isCause(t, (<-one).Cause, session.ErrClientGone)
		isCause(t, (<-other).Cause, session.ErrClientGone)
		equal(t, "closed", slow.closed, "false")
	})
}

// TestEngineEnds: whoever owns the connection at that moment.
func TestEngineEnds(t *testing.T) {
	other := errors.New("other")
	for _, tc := range []struct {
		name  string
		act   func(f *fakeFeed, s *fakeSocket, cancel context.CancelCauseFunc, closing func())
		tail  string
		cause error
		clean string
	}{
		{"client gone", func(_ *fakeFeed, s *fakeSocket, _ context.CancelCauseFunc, _ func()) {
			s.change(func() { s.gone = true })
		}, "", session.ErrClientGone, "false"},
		{"context", func(_ *fakeFeed, _ *fakeSocket, cancel context.CancelCauseFunc, _ func()) { cancel(other) }, "", other, "true"},
		{"shutdown by the context", func(_ *fakeFeed, _ *fakeSocket, cancel context.CancelCauseFunc, _ func()) {
			cancel(session.ErrShutdown)
		}, "retry: 3000\n", session.ErrShutdown, "true"},
		{"revoked", func(_ *fakeFeed, _ *fakeSocket, cancel context.CancelCauseFunc, _ func()) { cancel(session.ErrRevoked) }, "retry: 4000\n", session.ErrRevoked, "true"},
		{"drain", func(_ *fakeFeed, _ *fakeSocket, _ context.CancelCauseFunc, closing func()) { closing() }, "retry: 4000\n", session.ErrShutdown, "true"},
		{"finished", func(f *fakeFeed, _ *fakeSocket, _ context.CancelCauseFunc, _ func()) {
			f.update(func(s *fakeFeed) { s.ended = true })
		}, "", session.ErrFinished, "true"},
		{"failed", func(f *fakeFeed, _ *fakeSocket, _ context.CancelCauseFunc, _ func()) {
			f.update(func(s *fakeFeed) { s.ended, s.err = true, other })
		}, "event: stream-error\ndata: {}\n\n", session.ErrFailed, "false"},
		{"broken", func(f *fakeFeed, s *fakeSocket, _ context.CancelCauseFunc, _ func()) {
			s.change(func() { s.broken = net.ErrClosed })
			f.put("data: x\n\n")
		}, "", session.ErrWriteFailed, "false"},
	} {
		for _, owner := range []string{"shard", "own goroutine"} {
			t.Run(tc.name+", with the "+owner, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var e Engine
					f, s := newFakeFeed("t"), newFakeSocket()
					ctx, cancel := context.WithCancelCause(t.Context())
					var closing func()
					at := time.Now().Add(time.Second)
					c := session.Config{Retry: 2 * time.Second, DrainRetry: 3 * time.Second, EndRetry: 4 * time.Second, DrainAt: func() time.Time { return at }, OnClosing: func(f func()) func() {
						closing = f
						return func() {}
					}}
					head := ": ok\nretry: 2000\n"
					if owner == "own goroutine" {
						s.room = 5
					}
					done := e.runInBackground(ctx, c, f, s)
					synctest.Wait()
					tc.act(f, s, cancel, closing)
					synctest.Wait()
					time.Sleep(2 * time.Second)
					s.change(func() { s.room = -1 })
					r := <-done
					want := tc.cause
					isCause(t, r.Cause, want)
					equal(t, "closed", s.closed, tc.clean)
					if tc.clean == "true" || owner == "shard" {
						equal(t, "text", s.got(), head+tc.tail)
					}
				})
			})
		}
	}
}

// TestEnginePanic: what a source panics with goes on, on the goroutine that called Run, and
// nobody else's connection notices.
func TestEnginePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Engine
		f, s := newFakeFeed("t"), newFakeSocket()
		f.panics = "of the user"
		var result session.Result
		func() {
			defer func() {
				p, ok := recover().(*session.Panic)
				if !ok || p.Value != any("of the user") || !strings.Contains(string(p.Stack), "fakeFeed") {
					t.Errorf("panic: %v", p)
				}
			}()
			e.Run(t.Context(), session.Config{}, f, s, Response{Chunked: true}, func(r session.Result) { result = r })
		}()
		isCause(t, result.Cause, session.ErrPanicked)
		equal(t, "closed", s.closed, "false")
	})
}

// TestEngineChurn: connections that come and go while messages are published leave nothing
// behind, and each gets all of what it was there for.
func TestEngineChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Engine
		var ends sync.WaitGroup
		for i := range 300 {
			ends.Go(func() {
				f, s := newFakeFeed(fmt.Sprint(i%7)), newFakeSocket()
				if i%3 == 0 {
					s.room = i % 40
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				done := e.runInBackground(ctx, session.Config{Heartbeat: time.Duration(1+i%5) * time.Millisecond}, f, s)
				want := 0
				for n := range i % 11 {
					f.put(fmt.Sprintf("data: %d\n\n", n))
					want++
					time.Sleep(time.Duration(i*n%13) * time.Millisecond / 4)
				}
				s.change(func() { s.room = -1 })
				if i%2 == 0 {
					f.update(func(s *fakeFeed) { s.ended = true })
				} else {
					cancel(nil)
				}
				r := <-done
				if got := strings.Count(s.got(), "data: "); i%2 == 0 && got != want {
					t.Errorf("connection %d: %d of %d messages, %v", i, got, want, r.Cause)
				}
			})
		}
		ends.Wait()
	})
}

// nullSocket takes everything.
type nullSocket struct{ Socket }

func (nullSocket) TryWrite(p []byte) (int, error) { return len(p), nil }

// onceFeed has one frame each time somebody allows it.
type onceFeed struct {
	frame []byte
	left  int
}

func (f *onceFeed) Topics() int         { return 1 }
func (f *onceFeed) Topic(int) any       { return "t" }
func (f *onceFeed) Custom() bool        { return false }
func (f *onceFeed) Watch(session.Waker) {}
func (f *onceFeed) Checkpoint() string  { return "" }

func (f *onceFeed) Poll(w *session.Work, _ int) (hub.Status, error) {
	if f.left == 0 {
		return hub.Waiting, nil
	}
	f.left--
	w.Frames = append(w.Frames, f.frame)
	w.Events++
	return hub.Ready, nil
}

// TestEngineAllocatesNothing: not for a delivery, whether a connection is the first to get a
// message or one of many.
func TestEngineAllocatesNothing(t *testing.T) {
	s := newShard()
	s.wake = make(chan struct{}, 1)
	l := &loop{shard: s}
	var conns []*conn
	for range 100 {
		f := &onceFeed{frame: []byte("data: a\n\n")}
		c := newConn(s, f, nullSocket{}, Response{Chunked: true})
		c.state = kept
		c.Init(t.Context(), session.Config{Heartbeat: 15 * time.Second, Lifetime: time.Hour}, f, c)
		conns = append(conns, c)
	}
	now := time.Now()
	deliver := func() {
		now = now.Add(time.Second)
		for _, c := range conns {
			c.source.(*onceFeed).left = 1
			s.step(l, c, now)
		}
		l.forget()
	}
	deliver()
	if n := testing.AllocsPerRun(20, deliver); n != 0 {
		t.Errorf("%v allocations for 100 deliveries", n)
	}
	equal(t, "events", conns[99].Events, 22)
}
