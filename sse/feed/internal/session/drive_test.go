package session

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
)

func runInBackground(ctx context.Context, c Config, source Source, w Writer) <-chan Result {
	done := make(chan Result, 1)
	go Run(ctx, c, source, w, func(r Result) { done <- r })
	return done
}

func run(ctx context.Context, c Config, source Source, w Writer) Result {
	return <-runInBackground(ctx, c, source, w)
}

func TestRunHeartbeatAndRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := newFakeSource(), newFakeWriter()
		done := runInBackground(t.Context(), Config{Heartbeat: 15 * time.Second, Lifetime: time.Minute}, source, w)
		time.Sleep(20 * time.Second)
		source.put("data: a\n\n")
		r := <-done
		equal(t, "rotated after", time.Since(w.begin), time.Minute)
		isCause(t, r.Cause, ErrRotated)
		equal(t, "text", w.text(), ": ok\n:\ndata: a\n\n:\n:\n")
		// One 15 s after the prelude, the next 15 s after the message, each at its time although
		// the timer was not set anew by the message.
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
		r := run(t.Context(), Config{Heartbeat: 15 * time.Second, ExpireAt: time.Now().Add(3 * time.Second)}, newFakeSource(), w)
		isCause(t, r.Cause, ErrExpired)
		equal(t, "after", time.Since(w.begin), 3*time.Second)
	})
}

func TestRunClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, closing := newFakeWriter(), new(server)
		done := runInBackground(t.Context(), closing.drained(Config{EndRetry: time.Second}), newFakeSource(), w)
		synctest.Wait()
		closing.close()
		isCause(t, (<-done).Cause, ErrShutdown)
		equal(t, "text", w.text(), ": ok\nretry: 1000\n")
	})
}

// TestRunDrainDelay: messages go on until the connection's own moment has come.
func TestRunDrainDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, source, closing := newFakeWriter(), newFakeSource(), new(server)
		at := time.Now().Add(3 * time.Second)
		done := runInBackground(t.Context(), closing.drained(Config{EndRetry: time.Second, DrainAt: func() time.Time { return at }}), source, w)
		synctest.Wait()
		closing.close()
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
		done := runInBackground(ctx, Config{EndRetry: time.Second}, newFakeSource(), w)
		synctest.Wait()
		cancel(fmt.Errorf("of a lease: %w", ErrRevoked))
		isCause(t, (<-done).Cause, ErrRevoked)
		equal(t, "text", w.text(), ": ok\nretry: 1000\n")
	})
}

// TestRunPanic: what a source's code of users panics with goes on, behind an end that a client
// cannot take for a clean one.
func TestRunPanic(t *testing.T) {
	w, source := newFakeWriter(), newFakeSource()
	source.panics = "of the user"
	var result Result
	defer func() {
		equal(t, "panic", recover(), any("of the user"))
		isCause(t, result.Cause, ErrPanicked)
		equal(t, "aborted", w.aborted, 1)
	}()
	Run(t.Context(), Config{}, source, w, func(r Result) { result = r })
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
		for _, waits := range []string{"wait", "source ended"} {
			t.Run(tc.name+" in "+waits, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					source, w := newFakeSource(), newFakeWriter()
					ctx, cancel := context.WithCancelCause(t.Context())
					done := runInBackground(ctx, Config{DrainRetry: time.Second, Heartbeat: time.Hour}, source, w)
					synctest.Wait()
					cancel(tc.cancel)
					if waits == "source ended" {
						source.update(func(s *fakeSource) {
							s.ended, s.err = true, ErrClientGone
							if decided(tc.cause) {
								s.err = tc.cause
							}
						})
					}
					isCause(t, (<-done).Cause, tc.cause)
					equal(t, "text", w.text(), tc.text)
					equal(t, "time", time.Since(w.begin), 0)
				})
			})
		}
	}
}

// TestRunSourceSeesContextFirst is the moment between the look at the context and the poll of a
// source that ends with it.
func TestRunSourceSeesContextFirst(t *testing.T) {
	other := errors.New("other")
	ctx, cancel := context.WithCancelCause(t.Context())
	source := newFakeSource()
	source.ended, source.err = true, ErrClientGone
	isCause(t, run(ctx, Config{}, pollHook{source, func() { cancel(other) }}, newFakeWriter()).Cause, other)
}

type pollHook struct {
	*fakeSource
	hook func()
}

func (p pollHook) Poll(w *Work, budget int) (hub.Status, error) {
	p.hook()
	return p.fakeSource.Poll(w, budget)
}

func TestRunWriteFails(t *testing.T) {
	broken := errors.New("broken pipe")
	w := newFakeWriter()
	w.err = broken
	r := run(t.Context(), Config{}, newFakeSource("data: a\n\n"), w)
	isCause(t, r.Cause, ErrWriteFailed)
	isCause(t, r.Cause, broken)
	equal(t, "events", r.Events, 0)
	equal(t, "bytes", r.Bytes, 0)
}

func TestRunSourceFails(t *testing.T) {
	broken := errors.New("broken")
	source, w := newFakeSource("data: a\n\n"), newFakeWriter()
	source.ended, source.err = true, broken
	r := run(t.Context(), Config{}, source, w)
	isCause(t, r.Cause, broken)
	isCause(t, r.Cause, ErrFailed)
	equal(t, "aborted", w.aborted, 1)
	equal(t, "result", r.Aborted, true)
	equal(t, "text", w.text(), ": ok\ndata: a\n\nevent: stream-error\ndata: {}\n\n")
}

// TestRunOneWrite holds that a connection that is behind catches up in one write, and that
// nothing is written without need.
func TestRunOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := newFakeSource(), newFakeWriter()
		ctx, cancel := context.WithCancel(t.Context())
		done := runInBackground(ctx, Config{}, source, w)
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

// TestDrainBesideARevocation: a drain may be told of before the revocation that came first is. The
// client is told when to come back all the same.
func TestDrainBesideARevocation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var (
		s      Stream
		w      Work
		drains server
	)
	c := drains.drained(Config{EndRetry: time.Second, DrainAt: func() time.Time { return time.Now().Add(time.Minute) }})
	s.Init(ctx, c, newFakeSource(), NewBell())
	s.Watch()
	s.Next(time.Now(), &w)
	cancel(ErrRevoked) // nobody has told the stream yet
	s.tell(func(o *orders) { o.drain = true })
	step := s.Next(time.Now(), &w)
	equal(t, "status", step.Status, hub.Ended)
	isCause(t, step.Cause, ErrRevoked)
	equal(t, "text", text(&w), "retry: 1000\n")
}

// TestWorkForgets: idle work keeps none of the frames that it has had.
func TestWorkForgets(t *testing.T) {
	var w Work
	w.begin()
	w.Frames = append(w.Frames, make([]byte, 1<<20), make([]byte, 1<<20))
	w.begin()
	w.Frames = append(w.Frames, []byte("a"))
	w.Entries[3] = &hub.Entry{}
	w.Forget()
	for i, f := range w.Frames[:cap(w.Frames)] {
		equal(t, fmt.Sprintf("bytes of frame %d that are kept", i), len(f), 0)
	}
	equal(t, "entries are kept", w.Entries != [MaxEntries]*hub.Entry{}, false)
}

func BenchmarkTurn(b *testing.B) {
	frames := [][]byte{[]byte("data: 0123456789\nid: 1\n\n")}
	source := newFakeSource()
	var s Stream
	s.Init(b.Context(), Config{Heartbeat: time.Minute}, source, NewBell())
	s.turn(discard{})
	b.ReportAllocs()
	for b.Loop() {
		source.frames = frames
		s.turn(discard{})
	}
}

type discard struct{}

func (discard) Write(...[]byte) error { return nil }
func (discard) Abort() error          { return nil }
