package session

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/sse"
)

type generatorFunc = func(ctx context.Context, yield func(sse.Event, error) bool)

// generate runs a generator in the background; a panic is part of the outcome.
func generate(ctx context.Context, c Config, w *fakeWriter, closing *server, f generatorFunc) <-chan generated {
	out := make(chan generated, 1)
	go func() {
		var g generated
		defer func() {
			w.mu.Lock()
			w.over = true
			w.mu.Unlock()
			out <- g
		}()
		defer func() { g.panicked = recover() }()
		if closing != nil {
			c = closing.drained(c)
		}
		Generate(ctx, c, w, func(ctx context.Context) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) { f(ctx, yield) }
		}, func(r Result) {
			g.dones++
			g.result = r
		})
		g.returned = true
	}()
	return out
}

type generated struct {
	result   Result
	dones    int
	returned bool
	panicked any
}

func (g generated) check(t *testing.T, w *fakeWriter, cause error) {
	t.Helper()
	isCause(t, g.result.Cause, cause)
	equal(t, "calls of done", g.dones, 1)
	synctest.Wait()
	if w.late {
		t.Error("something was written after the handler returned")
	}
}

func TestGenerateFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		var inner context.Context
		g := <-generate(t.Context(), Config{Retry: time.Second, Heartbeat: 15 * time.Second}, w, nil, func(ctx context.Context, yield func(sse.Event, error) bool) {
			inner = ctx
			for _, e := range []sse.Event{{Data: "a"}, {Type: "t", Data: 1, ID: "x"}} {
				if !yield(e, nil) {
					t.Error("yield returned false")
				}
			}
		})
		g.check(t, w, ErrFinished)
		equal(t, "text", w.text(), ": ok\nretry: 1000\ndata: a\n\nevent: t\ndata: 1\nid: x\n\n")
		equal(t, "writes", len(w.writes), 3)
		equal(t, "events", g.result.Events, 2)
		equal(t, "aborted", g.result.Aborted, false)
		isCause(t, context.Cause(inner), ErrFinished)
	})
}

func TestGenerateHeartbeatWhileBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		g := <-generate(t.Context(), Config{Heartbeat: 15 * time.Second}, w, nil, func(_ context.Context, yield func(sse.Event, error) bool) {
			time.Sleep(20 * time.Second)
			yield(sse.Event{Data: "a"}, nil)
			time.Sleep(31 * time.Second)
		})
		g.check(t, w, ErrFinished)
		equal(t, "text", w.text(), ": ok\n:\ndata: a\n\n:\n:\n")
		got := w.timesOf(":\n")
		if len(got) != 3 || got[0] != 15*time.Second || got[1] != 35*time.Second || got[2] != 50*time.Second {
			t.Errorf("heartbeats at %v", got)
		}
	})
}

// TestGenerateEnds holds that a generator learns of each end from outside, at once, both where it
// waits and at its next yield.
func TestGenerateEnds(t *testing.T) {
	other := errors.New("other")
	type outside struct {
		cancel  context.CancelCauseFunc
		closing *server
		w       *fakeWriter
	}
	for _, tc := range []struct {
		name   string
		config Config
		act    func(outside)
		after  time.Duration
		cause  error
		last   string
	}{
		{"client gone", Config{}, func(o outside) { o.cancel(nil) }, 0, ErrClientGone, ""},
		{"own cause", Config{}, func(o outside) { o.cancel(other) }, 0, other, ""},
		{"server shuts down", Config{DrainRetry: time.Second}, func(o outside) { o.cancel(ErrShutdown) }, 0, ErrShutdown, "retry: 1000\n"},
		{"closing", Config{EndRetry: time.Second}, func(o outside) { o.closing.close() }, 0, ErrShutdown, "retry: 1000\n"},
		{"rotation", Config{Lifetime: time.Minute}, func(outside) {}, time.Minute, ErrRotated, ""},
		{"expiry", Config{ExpireAt: time.Date(2000, 1, 1, 0, 0, 5, 0, time.UTC)}, func(outside) {}, 5 * time.Second, ErrExpired, ""},
		{"heartbeat cannot be written", Config{Heartbeat: time.Second}, func(o outside) {
			o.w.mu.Lock()
			o.w.err = errors.New("broken pipe")
			o.w.mu.Unlock()
		}, time.Second, ErrWriteFailed, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				o := outside{cancel, new(server), newFakeWriter()}
				var seen error
				var told time.Duration
				deferred, refused := false, false
				done := generate(ctx, tc.config, o.w, o.closing, func(ctx context.Context, yield func(sse.Event, error) bool) {
					defer func() { deferred = true }()
					<-ctx.Done()
					told, seen = time.Since(o.w.begin), context.Cause(ctx)
					refused = !yield(sse.Event{Data: "late"}, nil)
				})
				synctest.Wait()
				tc.act(o)
				g := <-done
				g.check(t, o.w, tc.cause)
				isCause(t, seen, tc.cause)
				equal(t, "told after", told, tc.after)
				equal(t, "deferred functions ran", deferred, true)
				equal(t, "yield returned false", refused, true)
				equal(t, "text", o.w.text(), ": ok\n"+tc.last)
				equal(t, "aborted", g.result.Aborted, false)
			})
		})
	}
}

func TestGenerateWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		g := <-generate(t.Context(), Config{}, w, nil, func(ctx context.Context, yield func(sse.Event, error) bool) {
			w.mu.Lock()
			w.err = errors.New("broken pipe")
			w.mu.Unlock()
			equal(t, "yield", yield(sse.Event{Data: "a"}, nil), false)
			isCause(t, context.Cause(ctx), ErrWriteFailed)
		})
		g.check(t, w, ErrWriteFailed)
	})
}

func TestGenerateDoesNotStartForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		w.err = errors.New("broken pipe")
		g := <-generate(t.Context(), Config{}, w, nil, func(context.Context, func(sse.Event, error) bool) {
			t.Error("the generator was started")
		})
		g.check(t, w, ErrWriteFailed)
	})
}

// TestGenerateLearnsDuringBlockedWrite holds that the client's leaving ends the context although
// a heartbeat blocks in its write.
func TestGenerateLearnsDuringBlockedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newFakeWriter()
		told := make(chan struct{})
		done := generate(ctx, Config{Heartbeat: time.Second}, w, nil, func(ctx context.Context, _ func(sse.Event, error) bool) {
			<-ctx.Done()
			close(told)
		})
		synctest.Wait()
		block := make(chan struct{})
		w.mu.Lock()
		w.block = block
		w.mu.Unlock()
		time.Sleep(2 * time.Second) // the heartbeat is in its write
		cancel()
		<-told
		equal(t, "told after", time.Since(w.begin), 2*time.Second)
		close(block)
		g := <-done
		g.check(t, w, ErrClientGone)
	})
}

func TestGenerateFails(t *testing.T) {
	secret := errors.New("password=secret")
	for _, tc := range []struct {
		name  string
		event sse.Event
		err   error
		cause error
	}{
		{"error", sse.Event{}, secret, secret},
		{"invalid event", sse.Event{ID: "a\nb", Data: "x"}, nil, sse.ErrInvalid},
		{"no JSON", sse.Event{Data: func() {}}, nil, ErrFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWriter()
				deferred := false
				g := <-generate(t.Context(), Config{Heartbeat: time.Second}, w, nil, func(_ context.Context, yield func(sse.Event, error) bool) {
					defer func() { deferred = true }()
					yield(sse.Event{Data: "a"}, nil)
					equal(t, "yield", yield(tc.event, tc.err), false)
				})
				g.check(t, w, tc.cause)
				isCause(t, g.result.Cause, ErrFailed)
				equal(t, "deferred functions ran", deferred, true)
				equal(t, "text", w.text(), ": ok\ndata: a\n\nevent: stream-error\ndata: {}\n\n")
				equal(t, "aborted", w.aborted, 1)
				equal(t, "result", g.result.Aborted, true)
				equal(t, "events", g.result.Events, 1)
			})
		})
	}
}

func TestGeneratePanics(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    generatorFunc
		want any
	}{
		{"panic", func(_ context.Context, yield func(sse.Event, error) bool) {
			yield(sse.Event{Data: "a"}, nil)
			panic("boom")
		}, "boom"},
		{"exit", func(_ context.Context, yield func(sse.Event, error) bool) {
			yield(sse.Event{Data: "a"}, nil)
			runtime.Goexit()
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWriter()
				g := <-generate(t.Context(), Config{Heartbeat: time.Second}, w, nil, tc.f)
				g.check(t, w, ErrPanicked)
				equal(t, "panic goes on", g.panicked, tc.want)
				equal(t, "returned", g.returned, false)
				equal(t, "aborted", w.aborted, 1)
				equal(t, "result", g.result.Aborted, true)
				equal(t, "text", w.text(), ": ok\ndata: a\n\nevent: stream-error\ndata: {}\n\n")
			})
		})
	}
}

// TestGenerateIgnoresYield is about a generator that goes on after yield returned false: Go's
// runtime panics, which must end like any panic.
func TestGenerateIgnoresYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newFakeWriter()
		g := <-generate(ctx, Config{Heartbeat: time.Second}, w, nil, func(ctx context.Context, yield func(sse.Event, error) bool) {
			cancel()
			<-ctx.Done()
			for {
				yield(sse.Event{Data: "a"}, nil)
			}
		})
		g.check(t, w, ErrClientGone)
		if g.panicked == nil {
			t.Error("no panic")
		}
		equal(t, "aborted", w.aborted, 1)
		equal(t, "text", w.text(), ": ok\n")
	})
}

// TestGenerateDeadline: a deadline of the request is a rotation, also where the generator yields
// the error that it has met because of it.
func TestGenerateDeadline(t *testing.T) {
	for _, yields := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			w := newFakeWriter()
			g := <-generate(ctx, Config{EndRetry: time.Second, BreakRotation: yields}, w, nil, func(inner context.Context, yield func(sse.Event, error) bool) {
				if yields {
					time.Sleep(time.Minute - 1)
					for ctx.Err() == nil {
						runtime.Gosched()
						time.Sleep(1)
					}
					yield(sse.Event{}, ctx.Err())
					return
				}
				<-inner.Done()
				isCause(t, context.Cause(inner), ErrRotated)
			})
			g.check(t, w, ErrRotated)
			isCause(t, g.result.Cause, context.DeadlineExceeded)
			equal(t, "aborted", g.result.Aborted, yields)
			equal(t, "text", w.text(), ": ok\n")
		})
	}
}

// TestGenerateAwaits: what is under way when the generator returns has ended before Generate
// returns, because the response must not be touched afterwards.
func TestGenerateAwaits(t *testing.T) {
	t.Run("timer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &generator{}
			g.running.Add(1) // a callback that has fired and does not have the lock yet
			stopped := make(chan struct{})
			go func() {
				g.stop()
				close(stopped)
			}()
			synctest.Wait()
			select {
			case <-stopped:
				t.Error("stop did not wait for the timer's callback")
			default:
			}
			g.running.Done()
			<-stopped
		})
	})
	t.Run("context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			w := newFakeWriter()
			w.block, w.only, w.blocked = make(chan struct{}), "retry: 1000\n", make(chan struct{})
			done := generate(ctx, Config{DrainRetry: time.Second}, w, nil, func(context.Context, func(sse.Event, error) bool) {
				cancel(ErrShutdown)
				<-w.blocked
			})
			synctest.Wait()
			select {
			case <-done:
				t.Error("Generate did not wait for the last line")
			default:
			}
			close(w.block)
			g := <-done
			g.check(t, w, ErrFinished) // it returned by itself, before its context ended
			equal(t, "text", w.text(), ": ok\nretry: 1000\n")
		})
	})
}

func TestGenerateValues(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "v")
	Generate(ctx, Config{}, newFakeWriter(), func(ctx context.Context) iter.Seq2[sse.Event, error] {
		equal(t, "value", ctx.Value(key{}), any("v"))
		return func(func(sse.Event, error) bool) {}
	}, func(Result) {})
}

// panicking is a writer that panics at all but the prelude, as a response writer of middleware may.
type panicking struct{ *fakeWriter }

func (w panicking) Write(frames ...[]byte) error {
	if string(frames[0]) != ": ok\n" {
		panic("of the writer")
	}
	return w.fakeWriter.Write(frames...)
}

// TestGeneratePanicBeside: a panic on a goroutine beside the generator's ends the stream and goes
// on where it can be recovered, instead of ending the process.
func TestGeneratePanicBeside(t *testing.T) {
	for kind, act := range map[string]func(closing *server, cancel context.CancelCauseFunc){
		"timer":      func(*server, context.CancelCauseFunc) {},
		"drain":      func(closing *server, _ context.CancelCauseFunc) { closing.close() },
		"revocation": func(_ *server, cancel context.CancelCauseFunc) { cancel(ErrRevoked) },
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				w, closing := panicking{newFakeWriter()}, new(server)
				c := closing.drained(Config{Heartbeat: time.Minute, EndRetry: time.Second})
				if kind == "timer" {
					c.Heartbeat = time.Second
				}
				time.AfterFunc(2*time.Second, func() { act(closing, cancel) })
				var result Result
				cleaned := false
				defer func() {
					if p := recover(); p != "of the writer" {
						t.Errorf("recovered %v", p)
					}
					isCause(t, result.Cause, ErrPanicked)
					if !cleaned || w.aborted == 0 {
						t.Errorf("cleaned up: %v, aborted: %d", cleaned, w.aborted)
					}
				}()
				Generate(ctx, c, w, func(ctx context.Context) iter.Seq2[sse.Event, error] {
					return func(func(sse.Event, error) bool) {
						defer func() { cleaned = true }()
						<-ctx.Done()
					}
				}, func(r Result) { result = r })
			})
		})
	}
}

// TestGenerateRevoked: a generator that passes on the end of its subscription by a revocation, a
// moment before the stream itself notices it.
func TestGenerateRevoked(t *testing.T) {
	w := newFakeWriter()
	g := <-generate(t.Context(), Config{EndRetry: time.Second}, w, nil, func(_ context.Context, yield func(sse.Event, error) bool) {
		yield(sse.Event{}, fmt.Errorf("subscription: %w", ErrRevoked))
	})
	isCause(t, g.result.Cause, ErrRevoked)
	equal(t, "text", w.text(), ": ok\nretry: 1000\n")
}
