package delivery

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func runInBackground(ctx context.Context, m *Machine, w Writer, closing <-chan struct{}) <-chan Result {
	done := make(chan Result, 1)
	m.config.Closing = closing
	go Run(ctx, m, w, func(r Result) { done <- r })
	return done
}

func run(ctx context.Context, m *Machine, w Writer) Result {
	return <-runInBackground(ctx, m, w, nil)
}

func TestRunHeartbeatAndRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := newFakeSource(), newFakeWriter()
		done := runInBackground(t.Context(), NewMachine(Config{Heartbeat: 15 * time.Second, Lifetime: time.Minute}, source), w, nil)
		time.Sleep(20 * time.Second)
		source.put("data: a\n\n")
		r := <-done
		equal(t, "rotated after", time.Since(w.begin), time.Minute)
		isCause(t, r.Cause, ErrRotated)
		equal(t, "text", w.text(), ": ok\n:\ndata: a\n\n:\n:\n")
		// One 15 s after the prelude, the next 15 s after the message, each at its time although the timer was not set anew by the message.
		want := []time.Duration{15 * time.Second, 35 * time.Second, 50 * time.Second}
		got := w.timesOf(":\n")
		if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("heartbeats at %v, want %v", got, want)
		}
		equal(t, "events", r.Events, 1)
		equal(t, "bytes", r.Bytes, int64(len(w.text())))
	})
}

func TestRunExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		m := NewMachine(Config{Heartbeat: 15 * time.Second, ExpireAt: time.Now().Add(3 * time.Second)}, newFakeSource())
		r := run(t.Context(), m, w)
		isCause(t, r.Cause, ErrExpired)
		equal(t, "after", time.Since(w.begin), 3*time.Second)
	})
}

func TestRunClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, closing := newFakeWriter(), make(chan struct{})
		done := runInBackground(t.Context(), NewMachine(Config{EndRetry: time.Second}, newFakeSource()), w, closing)
		synctest.Wait()
		close(closing)
		isCause(t, (<-done).Cause, ErrShutdown)
		equal(t, "text", w.text(), ": ok\nretry: 1000\n")
	})
}

// TestRunDrainDelay: messages go on until the connection's own moment has come.
func TestRunDrainDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, source, closing := newFakeWriter(), newFakeSource(), make(chan struct{})
		at := time.Now().Add(3 * time.Second)
		done := runInBackground(t.Context(), NewMachine(Config{EndRetry: time.Second, DrainAt: func() time.Time { return at }}, source), w, closing)
		synctest.Wait()
		close(closing)
		time.Sleep(2 * time.Second)
		source.put("data: a\n\n")
		isCause(t, (<-done).Cause, ErrShutdown)
		equal(t, "after", time.Since(w.begin), 3*time.Second)
		equal(t, "text", w.text(), ": ok\ndata: a\n\nretry: 1000\n")
	})
}

func TestRunRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		w := newFakeWriter()
		done := runInBackground(ctx, NewMachine(Config{EndRetry: time.Second}, newFakeSource()), w, nil)
		synctest.Wait()
		cancel(fmt.Errorf("of a lease: %w", ErrRevoked))
		isCause(t, (<-done).Cause, ErrRevoked)
		equal(t, "text", w.text(), ": ok\nretry: 1000\n")
	})
}

// TestRunAlso: a source may wait for several things at once.
func TestRunAlso(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, source := newFakeWriter(), newFakeSource()
		one, other := make(chan struct{}), make(chan struct{})
		source.also = []<-chan struct{}{one, other}
		done := runInBackground(t.Context(), NewMachine(Config{Heartbeat: time.Second, Lifetime: 1500 * time.Millisecond}, source), w, nil)
		synctest.Wait()
		source.mu.Lock()
		polls := source.polls
		source.frames, source.also = [][]byte{[]byte("data: a\n\n")}, []<-chan struct{}{one}
		source.mu.Unlock()
		close(other)
		synctest.Wait()
		equal(t, "text", w.text(), ": ok\ndata: a\n\n")
		source.mu.Lock()
		if source.polls > polls+2 {
			t.Errorf("%d polls", source.polls-polls)
		}
		source.mu.Unlock()
		isCause(t, (<-done).Cause, ErrRotated)
		equal(t, "text", w.text(), ": ok\ndata: a\n\n:\n")
	})
}

// TestRunPanic: what a source's code of users panics with goes on, behind an end that a client cannot take for a clean one.
func TestRunPanic(t *testing.T) {
	w, source := newFakeWriter(), newFakeSource()
	source.behind = true
	source.fetch = func(context.Context) error { panic("of the user") }
	var result Result
	defer func() {
		equal(t, "panic", recover(), any("of the user"))
		isCause(t, result.Cause, ErrPanicked)
		equal(t, "aborted", w.aborted, 1)
	}()
	Run(t.Context(), NewMachine(Config{}, source), w, func(r Result) { result = r })
}

func TestRunClosingDuringFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w, closing := newFakeSource(), newFakeWriter(), make(chan struct{})
		source.behind, source.fetch = true, blocked
		done := runInBackground(t.Context(), NewMachine(Config{DrainRetry: time.Second, Heartbeat: time.Hour}, source), w, closing)
		synctest.Wait()
		close(closing)
		isCause(t, (<-done).Cause, ErrShutdown)
		if d := time.Since(w.begin); d > fetchSlice {
			t.Errorf("ended after %v", d)
		}
	})
}

// blocked is a Fetch from a backend that never answers.
func blocked(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestRunContext(t *testing.T) {
	other := errors.New("other")
	for _, tc := range []struct {
		name   string
		cancel error
		cause  error
		text   string
	}{
		{"client leaves", nil, ErrClientGone, ": ok\n"},
		{"own cause", other, other, ": ok\n"},
		{"shutdown", ErrShutdown, ErrShutdown, ": ok\nretry: 1000\n"},
	} {
		for _, waits := range []string{"wait", "fetch", "source ended"} {
			t.Run(tc.name+" in "+waits, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					source, w := newFakeSource(), newFakeWriter()
					if waits == "fetch" {
						source.behind, source.fetch = true, blocked
					}
					ctx, cancel := context.WithCancelCause(t.Context())
					done := runInBackground(ctx, NewMachine(Config{DrainRetry: time.Second, Heartbeat: time.Hour}, source), w, nil)
					synctest.Wait()
					cancel(tc.cancel)
					if waits == "source ended" {
						source.update(func(s *fakeSource) { s.ended, s.err = true, ErrClientGone })
					}
					isCause(t, (<-done).Cause, tc.cause)
					equal(t, "text", w.text(), tc.text)
					equal(t, "time", time.Since(w.begin), 0)
				})
			})
		}
	}
}

// TestRunSourceSeesContextFirst is the moment between the look at the context and the poll of a source that ends with it.
func TestRunSourceSeesContextFirst(t *testing.T) {
	other := errors.New("other")
	ctx, cancel := context.WithCancelCause(t.Context())
	source := newFakeSource()
	source.behind = true
	source.fetch = func(context.Context) error {
		source.update(func(s *fakeSource) { s.behind, s.ended, s.err = false, true, ErrClientGone })
		return nil
	}
	m := NewMachine(Config{}, pollHook{source, func() {
		if source.ended {
			cancel(other)
		}
	}})
	isCause(t, run(ctx, m, newFakeWriter()).Cause, other)
}

type pollHook struct {
	*fakeSource
	hook func()
}

func (p pollHook) Poll(dst [][]byte, budget int) Batch {
	p.hook()
	return p.fakeSource.Poll(dst, budget)
}

func TestRunHeartbeatDuringFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := newFakeSource(), newFakeWriter()
		source.behind = true
		source.fetch = func(ctx context.Context) error {
			if time.Since(w.begin) < 40*time.Second {
				return blocked(ctx)
			}
			source.update(func(s *fakeSource) { s.behind, s.ended = false, true })
			return nil
		}
		r := run(t.Context(), NewMachine(Config{Heartbeat: 15 * time.Second}, source), w)
		isCause(t, r.Cause, ErrFinished)
		equal(t, "text", w.text(), ": ok\n:\n:\n:\n")
		equal(t, "end", time.Since(w.begin), 45*time.Second)
	})
}

func TestRunWriteFails(t *testing.T) {
	broken := errors.New("broken pipe")
	w := newFakeWriter()
	w.err = broken
	r := run(t.Context(), NewMachine(Config{}, newFakeSource("data: a\n\n")), w)
	isCause(t, r.Cause, ErrWriteFailed)
	isCause(t, r.Cause, broken)
	equal(t, "events", r.Events, 0)
	equal(t, "bytes", r.Bytes, 0)
}

func TestRunSourceFails(t *testing.T) {
	broken := errors.New("broken")
	source, w := newFakeSource("data: a\n\n"), newFakeWriter()
	source.ended, source.err = true, broken
	r := run(t.Context(), NewMachine(Config{}, source), w)
	isCause(t, r.Cause, broken)
	isCause(t, r.Cause, ErrFailed)
	equal(t, "aborted", w.aborted, 1)
	equal(t, "result", r.Aborted, true)
	equal(t, "text", w.text(), ": ok\ndata: a\n\nevent: stream-error\ndata: {}\n\n")
}

// TestRunOneWrite holds that a connection that is behind catches up in one write, and that nothing is written without need.
func TestRunOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := newFakeSource(), newFakeWriter()
		ctx, cancel := context.WithCancel(t.Context())
		done := runInBackground(ctx, NewMachine(Config{}, source), w, nil)
		synctest.Wait()
		source.put("data: a\n\n", "data: b\n\n", "data: c\n\n")
		synctest.Wait()
		source.update(func(*fakeSource) {}) // woken for nothing
		synctest.Wait()
		cancel()
		<-done
		equal(t, "writes", len(w.writes), 2)
	})
}

func BenchmarkRunStep(b *testing.B) {
	frames := [][]byte{[]byte("data: 0123456789\nid: 1\n\n")}
	source := newFakeSource()
	p := pump{machine: NewMachine(Config{Heartbeat: time.Minute}, source), writer: discard{}}
	p.next()
	b.ReportAllocs()
	for b.Loop() {
		source.frames = frames
		p.next()
	}
}

type discard struct{}

func (discard) Write(...[]byte) error { return nil }
func (discard) Abort() error          { return nil }
