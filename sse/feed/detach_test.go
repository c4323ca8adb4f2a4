package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// detached is a server whose streams are detached where they can be.
type detached struct {
	*httptest.Server
	hub      *hub.Hub
	returned chan error // what Serve did
	ends     chan End
}

// newDetached starts a server. change prepares the feed, the options and, unless it returns nil,
// the request.
func newDetached(t *testing.T, change func(*Feed, *Options, *http.Request) *http.Request) *detached {
	t.Helper()
	d := &detached{hub: newHub(t, memory.New(memory.Options{MaxMessages: 8}), hub.Options{Window: 4}), returned: make(chan error, 4)}
	onEnd, ends := ends()
	d.ends = ends
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A client that does not read for a while is part of some tests, however long that takes.
		f, o := Of(d.hub, "t"), Options{Logger: quiet(), OnEnd: onEnd, Detach: true, WriteTimeout: time.Hour}
		if change != nil {
			r = change(&f, &o, r)
		}
		d.returned <- Serve(w, r, f, o)
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *detached) open(t *testing.T) *follower {
	t.Helper()
	return connect(t, d.Client(), d.URL, "")
}

// TestDetach: the handler returns, its request's context ends, and the stream goes on, with its
// place among the Limits and in the Drain, until it ends by itself.
func TestDetach(t *testing.T) {
	limits, drain := &Limits{}, &Drain{Window: -1}
	var request context.Context
	d := newDetached(t, func(_ *Feed, o *Options, r *http.Request) *http.Request {
		o.Limits, o.Drain = limits, drain
		request = r.Context()
		return r
	})
	c := d.open(t)
	c.primed(t)
	if err := <-d.returned; err != nil {
		t.Error(err)
	}
	<-request.Done()
	id := publish(t, d.hub, "t", "a")[0]
	equal(t, "event", c.block(t), event(id, "a"))
	equal(t, "open", limits.Open(), 1)
	drain.Begin()
	equal(t, "end", c.rest(t), "retry: N\n")
	e := <-d.ends
	isCause(t, e.Cause, ErrShutdown)
	equal(t, "direct", e.Direct, true)
	equal(t, "events", e.Events, 1)
	if err := drain.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	equal(t, "open", limits.Open(), 0)
}

// TestDetachRight: a stream does not outlive the right to it. One whose right ends with the
// request's context is not detached.
func TestDetachRight(t *testing.T) {
	lease := func(h *hub.Hub, r *http.Request) *http.Request {
		ctx, err := h.Lease(r.Context(), "ann")
		if err != nil {
			panic(err)
		}
		return r.WithContext(ctx)
	}
	revoke := func(t *testing.T, h *hub.Hub) {
		if err := h.Revoke(t.Context(), "ann"); err != nil {
			t.Error(err)
		}
	}
	// The deadline comes when the stream has begun.
	deadlines := make(chan context.CancelCauseFunc, 1)
	withDeadline := func(r *http.Request) *http.Request {
		ctx, cancel := context.WithCancelCause(r.Context())
		deadlines <- cancel
		return r.WithContext(limited{ctx})
	}
	expire := func(*testing.T, *hub.Hub) { (<-deadlines)(context.DeadlineExceeded) }
	for _, tc := range []struct {
		name     string
		request  func(h *hub.Hub, r *http.Request) (*http.Request, func())
		detaches bool
		end      func(t *testing.T, h *hub.Hub)
		cause    error
	}{
		{"lease under Detachable", func(h *hub.Hub, r *http.Request) (*http.Request, func()) {
			r, release := Detachable(r)
			return lease(h, r), release
		}, true, revoke, ErrRevoked},
		{"lease before Detachable", func(h *hub.Hub, r *http.Request) (*http.Request, func()) {
			return Detachable(lease(h, r))
		}, false, revoke, ErrRevoked},
		{"lease without Detachable", func(h *hub.Hub, r *http.Request) (*http.Request, func()) {
			return lease(h, r), func() {}
		}, false, revoke, ErrRevoked},
		{"deadline", func(_ *hub.Hub, r *http.Request) (*http.Request, func()) {
			return withDeadline(r), func() {}
		}, false, expire, context.DeadlineExceeded},
		{"deadline below Detachable", func(_ *hub.Hub, r *http.Request) (*http.Request, func()) {
			r, release := Detachable(r)
			return withDeadline(r), release
		}, false, expire, context.DeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t, nil, hub.Options{})
			onEnd, ends := ends()
			returned := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(returned)
				r, release := tc.request(h, r)
				defer release()
				_ = Serve(w, r, Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd, Detach: true})
			}))
			defer server.Close()
			c := connect(t, server.Client(), server.URL, "")
			c.primed(t)
			if tc.detaches {
				<-returned
			}
			tc.end(t, h)
			_, _ = io.Copy(io.Discard, c.r)
			isCause(t, (<-ends).Cause, tc.cause)
			<-returned
		})
	}
}

// limited is a context with a deadline.
type limited struct{ context.Context }

func (limited) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }

// TestReloadSlots: a Snapshot runs after a gap when there is a slot for it, and not because its
// client has left.
func TestReloadSlots(t *testing.T) {
	for range cap(reloads) {
		reloads <- struct{}{}
	}
	var loads atomic.Int32
	d := newDetached(t, func(f *Feed, o *Options, r *http.Request) *http.Request {
		o.Retry = time.Millisecond
		f.Snapshot = func(context.Context) (any, error) { return loads.Add(1), nil }
		return r
	})
	c := d.open(t)
	c.block(t)
	if err := <-d.returned; err != nil {
		t.Error(err)
	}
	d.fall(t)
	for !strings.HasPrefix(c.block(t), "event: gap\n") {
	}
	c.leave()
	<-d.ends
	for d.hub.Stats().Subscriptions > 0 {
		runtime.Gosched()
	}
	equal(t, "loads", loads.Load(), 1)
	for range cap(reloads) {
		<-reloads
	}
}

// TestDetachNot: where the connection cannot be taken over the handler serves the stream.
func TestDetachNot(t *testing.T) {
	d := newDetached(t, func(_ *Feed, _ *Options, r *http.Request) *http.Request {
		r.TLS = &tls.ConnectionState{}
		return r
	})
	c := d.open(t)
	c.primed(t)
	finish(t, d.hub, "t")
	c.block(t)
	equal(t, "end", c.rest(t), "")
	if err := <-d.returned; err != nil {
		t.Error(err)
	}
	e := <-d.ends
	isCause(t, e.Cause, ErrFinished)
	equal(t, "direct", e.Direct, false)
	equal(t, "why", e.Why, "TLS")
}

// fall makes a stream fall behind what is retained: its sockets do not take so much.
func (d *detached) fall(t *testing.T) {
	t.Helper()
	for range 30 {
		publish(t, d.hub, "t", strings.Repeat("x", 900<<10))
	}
}

type key struct{}

// TestDetachSnapshot: after a gap the snapshot of a detached stream has the request's values, and
// a context that has not ended.
func TestDetachSnapshot(t *testing.T) {
	var loads atomic.Int32
	d := newDetached(t, func(f *Feed, o *Options, r *http.Request) *http.Request {
		o.Retry = time.Millisecond
		f.Snapshot = func(ctx context.Context) (any, error) {
			if loads.Add(1) == 1 {
				return "first", nil
			}
			value, _ := ctx.Value(key{}).(string)
			return value, ctx.Err()
		}
		return r.WithContext(context.WithValue(r.Context(), key{}, "second"))
	})
	c := d.open(t)
	if b := c.block(t); !strings.Contains(b, "data: first\n") {
		t.Error(b)
	}
	if err := <-d.returned; err != nil {
		t.Error(err)
	}
	d.fall(t)
	for {
		b := c.block(t)
		if strings.HasPrefix(b, "event: snapshot\ndata: second\n") {
			break
		}
		if b == "" {
			t.Fatal("the stream ended without a snapshot")
		}
	}
	if n := loads.Load(); n < 2 {
		t.Errorf("%d loads", n)
	}
	c.leave()
	<-d.ends
}

// TestDetachPanic: nobody is there to recover a panic in a stream that is detached. It is logged,
// with where it began, and ends the stream alone.
func TestDetachPanic(t *testing.T) {
	for _, where := range []string{"Snapshot", "OnEnd"} {
		t.Run(where, func(t *testing.T) {
			logger, text := logged()
			limits := &Limits{}
			var loads atomic.Int32
			ended := make(chan End, 1)
			d := newDetached(t, func(f *Feed, o *Options, r *http.Request) *http.Request {
				o.Retry, o.Logger, o.Limits = time.Millisecond, logger, limits
				f.Snapshot = func(context.Context) (any, error) {
					if loads.Add(1) > 1 {
						explode("Snapshot")
					}
					return "state", nil
				}
				o.OnEnd = func(e End) {
					ended <- e
					if where == "OnEnd" {
						explode(where)
					}
				}
				return r
			})
			c := d.open(t)
			c.block(t)
			if err := <-d.returned; err != nil {
				t.Error(err)
			}
			want := ErrPanicked
			if where == "OnEnd" {
				want = ErrClientGone
				c.leave()
			} else {
				d.fall(t)
				if _, err := io.Copy(io.Discard, c.r); err == nil {
					t.Error("the client takes it for a clean end")
				}
			}
			if e := <-ended; !errors.Is(e.Cause, want) {
				t.Errorf("cause %v", e.Cause)
			}
			for limits.Open() != 0 {
				runtime.Gosched()
			}
			if got := text(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, where+" explodes") || !strings.Contains(got, "detach_test.go") {
				t.Errorf("log: %s", got)
			}
		})
	}
}

func explode(what string) { panic(what + " explodes") }
