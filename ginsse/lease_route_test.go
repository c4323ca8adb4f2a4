package ginsse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

func revoke(t testing.TB, h *hub.Hub, key string) {
	t.Helper()
	if err := h.Revoke(t.Context(), key); err != nil {
		t.Error(err)
	}
}

// kinds returns a feed and a generator, which both go on until something ends them, with the
// causes that generators saw.
func kinds(h *hub.Hub, o ginsse.Options) (routes map[string]*ginsse.Route[none], causes chan error) {
	causes = make(chan error, 4)
	return map[string]*ginsse.Route[none]{
		"feed": ginsse.SSE[none]("/x").Options(o).Topic(h, "x").
			Hello(func(*ginsse.Context[none]) (sse.Event, error) { return sse.Event{Type: "hi", Data: ""}, nil }).
			Snapshot(func(*ginsse.Context[none]) (any, error) { return "state", nil }),
		"generator": ginsse.SSE[none]("/x").Options(o).Handle(func(c *ginsse.Context[none]) seq {
			return func(yield func(sse.Event, error) bool) {
				if yield(sse.Event{Type: "hi", Data: ""}, nil) {
					<-c.Context().Done()
				}
				causes <- context.Cause(c.Context())
			}
		}),
	}, causes
}

// whole is a stream whose bytes are kept.
type whole struct {
	*stream
	bytes bytes.Buffer
}

func openWhole(t testing.TB, s *httptest.Server, path string) *whole {
	t.Helper()
	w := &whole{stream: open(t, s.Client(), s.URL+path)}
	w.Decoder = sse.NewDecoder(io.TeeReader(w.Body, &w.bytes))
	return w
}

var lastRetry = regexp.MustCompile(`\n\nretry: (\d+)\n$`)

// expectRetry reads to the end of the stream, which is to be a clean one, and returns the time to
// come back that is the last thing in it.
func (w *whole) expectRetry(t testing.TB) time.Duration {
	t.Helper()
	for {
		if _, err := w.Decode(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	found := lastRetry.FindSubmatch(w.bytes.Bytes())
	if found == nil {
		t.Fatalf("no time to come back is last in %q", w.bytes.String())
	}
	retry, _ := w.Retry()
	return retry
}

// TestLease holds that a revocation of one of a lease's keys, and of no other, ends the stream
// with a time to come back, and that the guards decide then.
func TestLease(t *testing.T) {
	for _, kind := range []string{"feed", "generator"} {
		t.Run(kind, func(t *testing.T) {
			h := newHub(t)
			ends, left := make(chan feed.End, 1), make(chan []*gin.Error, 2)
			o := quiet
			o.OnEnd = func(e feed.End) { ends <- e }
			routes, causes := kinds(h, o)
			var banned bool
			r := gin.New()
			r.Use(func(c *gin.Context) { c.Next(); left <- c.Errors })
			mount(t, r, routes[kind].Guard(
				func(c *ginsse.Context[none]) error { return c.Lease(h, "user/ann", "room/1") },
				func(c *ginsse.Context[none]) error {
					if banned {
						return ginsse.ErrForbidden
					}
					return c.Lease(h, "session/7") // a second lease is held beside the first
				}))
			s := newServer(t, r)
			for _, key := range []string{"user/ann", "room/1", "session/7"} {
				st := openWhole(t, s, "/x")
				st.expect(t, "hi||")
				revoke(t, h, "user/bob")
				revoke(t, h, key)
				st.expectRetry(t)
				if e := receive(t, ends); !errors.Is(e.Cause, feed.ErrRevoked) {
					t.Errorf("%s: cause %v", key, e.Cause)
				}
				if kind == "generator" {
					if cause := receive(t, causes); !errors.Is(cause, feed.ErrRevoked) {
						t.Errorf("%s: the generator saw %v", key, cause)
					}
				}
				if got := receive(t, left); len(got) > 0 {
					t.Errorf("%s: c.Errors %v", key, got)
				}
			}
			banned = true
			isRefusal(t, get(r, "/x"), http.StatusForbidden, "forbidden")
		})
	}
}

// deafBackend cannot be followed.
type deafBackend struct {
	hub.Backend
	err error
}

func (b *deafBackend) Follow(context.Context, string, hub.Sink) (hub.ID, func(), error) {
	return "", nil, b.err
}

// later checks that a client is told to come back, an EventSource by a stream that ends at once
// and others by 503, and that it learns nothing else.
func later(t testing.TB, handler http.Handler, target string) {
	t.Helper()
	w := get(handler, target, "Accept", "text/event-stream")
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), ": ok\nretry: ") || strings.Count(w.Body.String(), "\n") != 2 {
		t.Errorf("an EventSource: %d %q", w.Code, w.Body)
	}
	w = get(handler, target)
	isRefusal(t, w, http.StatusServiceUnavailable, "service unavailable")
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// TestLeaseFails holds that a client whose lease cannot be had is told to come back, and not what
// the backend said.
func TestLeaseFails(t *testing.T) {
	memory := memory.New(memory.Options{})
	defer memory.Close()
	deaf, err := hub.New(&deafBackend{memory, errors.New("dial tcp 10.0.0.1:6379: password " + canary)}, hub.Options{Logger: quiet.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = deaf.Shutdown(t.Context()) }()
	closed := newHub(t)
	if err := closed.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]*hub.Hub{"backend is away": deaf, "hub is shut down": closed} {
		t.Run(name, func(t *testing.T) {
			var left []*gin.Error
			r := gin.New()
			r.Use(func(c *gin.Context) { c.Next(); left = c.Errors })
			mount(t, r, ginsse.SSE[none]("/x").Options(quiet).Topic(newHub(t), "x").
				Guard(func(c *ginsse.Context[none]) error { return c.Lease(h, "user/ann") }))
			later(t, r, "/x")
			var of *hub.Error
			if len(left) != 1 || !errors.As(left[0], &of) || of.Op != "lease" {
				t.Errorf("c.Errors %v", left)
			}
		})
	}
}

// TestLeaseRevokedEarly holds that a revocation that comes before the stream has begun, wherever
// the request is, makes the client come back: no stream, and no status that an EventSource would
// give up at.
func TestLeaseRevokedEarly(t *testing.T) {
	for _, detach := range []bool{false, true} {
		t.Run(fmt.Sprintf("detach=%v", detach), func(t *testing.T) { revokedEarly(t, detach) })
	}
}

func revokedEarly(t *testing.T, detach bool) {
	h := newHub(t)
	lose := func(c *ginsse.Context[none]) error {
		if err := c.Lease(h, "ann"); err != nil {
			return err
		}
		revoke(t, h, "ann")
		<-c.Context().Done()
		return nil
	}
	// As a database has it.
	query := func(c *ginsse.Context[none]) error { return fmt.Errorf("query: %w", c.Context().Err()) }
	began := func(*ginsse.Context[none]) seq { t.Error("the generator was started"); return events() }
	o := quiet
	o.Detach = detach
	o.OnEnd = func(e feed.End) {
		if e.Events > 0 || !errors.Is(e.Cause, feed.ErrRevoked) {
			t.Errorf("a stream ended with %+v", e)
		}
	}
	feed := func() *ginsse.Route[none] { return ginsse.SSE[none]("/x").Options(o).Guard(lose) }
	for name, route := range map[string]*ginsse.Route[none]{
		"before the topic":        feed().Topic(h, "x"),
		"the check finds it":      feed().Guard(query).Topic(h, "x"),
		"the check, of generator": feed().Guard(query).Handle(began),
		"cause of the context":    feed().Guard(func(c *ginsse.Context[none]) error { return context.Cause(c.Context()) }).Topic(h, "x"),
		"the next lease":          feed().Guard(func(c *ginsse.Context[none]) error { return c.Lease(h, "room") }).Topic(h, "x"),
		"naming the topic":        feed().TopicFunc(h, func(c *ginsse.Context[none]) (string, error) { return "x", query(c) }),
		"hello":                   feed().Topic(h, "x").Hello(func(c *ginsse.Context[none]) (sse.Event, error) { return sse.Event{}, query(c) }),
		"snapshot":                feed().Topic(h, "x").Snapshot(func(c *ginsse.Context[none]) (any, error) { return nil, query(c) }),
	} {
		t.Run(name, func(t *testing.T) { later(t, engine(t, route), "/x") })
	}
	t.Run("what is refused stays refused", func(t *testing.T) {
		isRefusal(t, get(engine(t, feed().Guard(func(*ginsse.Context[none]) error { return ginsse.ErrForbidden }).Topic(h, "x")), "/x"), 403, "forbidden")
	})
}

// TestLeaseDuringSnapshot holds that a right that is taken away while the state is loaded shows
// nobody the state.
func TestLeaseDuringSnapshot(t *testing.T) {
	h := newHub(t)
	for _, detach := range []bool{false, true} {
		o := quiet
		o.Detach = detach
		s := newServer(t, engine(t, ginsse.SSE[none]("/x").Options(o).Topic(h, "x").
			Guard(func(c *ginsse.Context[none]) error { return c.Lease(h, "ann") }).
			Snapshot(func(c *ginsse.Context[none]) (any, error) {
				revoke(t, h, "ann")
				<-c.Context().Done()
				return canary, nil // whoever loads need not look at the context
			})))
		for _, accept := range []string{"", "text/event-stream", "application/json"} {
			resp := open(t, s.Client(), s.URL+"/x", "Accept", accept)
			if body, err := io.ReadAll(resp.Body); err != nil || strings.Contains(string(body), canary) {
				t.Errorf("%q, detach=%v: %d %q %v", accept, detach, resp.StatusCode, body, err)
			}
		}
	}
}

// TestRouteExpires holds that a feed with a snapshot ends cleanly at the time a guard states,
// with a time to come back behind it.
func TestRouteExpires(t *testing.T) {
	h := newHub(t)
	ends := make(chan feed.End, 1)
	o := quiet
	o.OnEnd = func(e feed.End) { ends <- e }
	routes, _ := kinds(h, o)
	stated := make(chan time.Time, 1)
	s := newServer(t, engine(t, routes["feed"].Guard(func(c *ginsse.Context[none]) error {
		at := time.Now().Add(2 * time.Second) // a busy machine needs its time to begin the stream
		stated <- at
		c.ExpireAt(at)
		return nil
	})))
	st := openWhole(t, s, "/x")
	st.expect(t, "hi||")
	retry := st.expectRetry(t)
	at := receive(t, stated)
	if back := time.Now().Add(retry); back.Before(at) {
		t.Errorf("the client is back at %v, before %v", back, at)
	}
	if e := receive(t, ends); !errors.Is(e.Cause, feed.ErrExpired) {
		t.Errorf("cause %v", e.Cause)
	}
}

// TestRouteLimits holds that routes that share Limits share their places, that Key sees what
// middleware and guards have found out, that documents need no place, and that a place is free
// again when its stream has ended.
func TestRouteLimits(t *testing.T) {
	h := newHub(t)
	limits := &feed.Limits{PerKey: 1, Key: func(r *http.Request) string {
		user, _ := snapshotUser.Get(r.Context())
		return user
	}}
	ends := make(chan feed.End, 3)
	o := quiet
	o.Limits, o.OnEnd = limits, func(e feed.End) { ends <- e }
	routes, _ := kinds(h, o)
	r := gin.New()
	left := make(chan []*gin.Error, 8)
	r.Use(func(c *gin.Context) {
		snapshotUser.Set(c, c.Query("user"))
		c.Next()
		left <- c.Errors
	})
	mount(t, r.Group("/feed"), routes["feed"])
	mount(t, r.Group("/generator"), routes["generator"])
	s := newServer(t, r)
	st := open(t, s.Client(), s.URL+"/feed/x?user=ann")
	st.expect(t, "hi||")
	for _, target := range []string{"/feed/x?user=ann", "/generator/x?user=ann"} {
		w := get(r, target)
		isRefusal(t, w, http.StatusTooManyRequests, "too many requests")
		if w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", target)
		}
		if got := receive(t, left); len(got) != 1 || !errors.Is(got[0], feed.ErrTooMany) {
			t.Errorf("%s: c.Errors %v", target, got)
		}
		if w = get(r, target, "Accept", "text/event-stream"); w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), ": ok\nretry: ") {
			t.Errorf("%s: an EventSource: %d %q", target, w.Code, w.Body)
		}
		receive(t, left)
	}
	if w := get(r, "/feed/x?user=ann", "Accept", "application/json"); w.Code != http.StatusOK || w.Body.String() != `"state"` {
		t.Errorf("a document: %d %q", w.Code, w.Body)
	}
	receive(t, left)
	other := open(t, s.Client(), s.URL+"/generator/x?user=bob")
	other.expect(t, "hi||")
	if n := limits.Open(); n != 2 {
		t.Errorf("%d streams are open", n)
	}
	st.leave()
	receive(t, ends)
	receive(t, left)
	open(t, s.Client(), s.URL+"/generator/x?user=ann").expect(t, "hi||")
}

// TestRouteDrains holds that a Drain ends the streams of all routes that have it, and that who
// comes then is told to come back.
func TestRouteDrains(t *testing.T) {
	h := newHub(t)
	drain := &feed.Drain{Window: -1}
	ends := make(chan feed.End, 2)
	o := quiet
	o.Drain, o.OnEnd = drain, func(e feed.End) { ends <- e }
	routes, causes := kinds(h, o)
	r := gin.New()
	mount(t, r.Group("/feed"), routes["feed"])
	mount(t, r.Group("/generator"), routes["generator"])
	s := newServer(t, r)
	var all []*whole
	for _, path := range []string{"/feed/x", "/generator/x"} {
		st := openWhole(t, s, path)
		st.expect(t, "hi||")
		all = append(all, st)
	}
	drain.Begin()
	if cause := receive(t, causes); !errors.Is(cause, feed.ErrShutdown) {
		t.Errorf("the generator saw %v", cause)
	}
	for _, st := range all {
		st.expectRetry(t)
		if e := receive(t, ends); !errors.Is(e.Cause, feed.ErrShutdown) {
			t.Errorf("cause %v", e.Cause)
		}
	}
	if err := drain.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	later(t, r, "/feed/x")
	later(t, r, "/generator/x")
}

// stuckBackend never comes to follow anything.
type stuckBackend struct{ hub.Backend }

func (stuckBackend) Follow(ctx context.Context, _ string, _ hub.Sink) (hub.ID, func(), error) {
	<-ctx.Done()
	return "", nil, ctx.Err()
}

// TestLeaseTimeout holds that a lease waits for a backend that hangs no longer than connecting
// may take, and that the client is told to come back.
func TestLeaseTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := memory.New(memory.Options{})
		h, err := hub.New(stuckBackend{backend}, hub.Options{Logger: quiet.Logger})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = h.Shutdown(context.Background())
			backend.Close()
		}()
		o := quiet
		o.ConnectTimeout = 500 * time.Millisecond
		r := gin.New()
		mount(t, r, ginsse.SSE[none]("/x").Options(o).Guard(func(c *ginsse.Context[none]) error { return c.Lease(h, "user/ada") }).Topic(h, "x"))
		begun := time.Now()
		w := get(r, "/x", "Accept", "text/event-stream")
		if took := time.Since(begun); took != o.ConnectTimeout || w.Code != 200 || !strings.HasPrefix(w.Body.String(), ": ok\nretry: ") {
			t.Errorf("after %v: %d %q", took, w.Code, w.Body)
		}
	})
}

// TestLateLease: a lease that Snapshot takes would end nothing, and is refused, with Detach too.
func TestLateLease(t *testing.T) {
	for _, detach := range []bool{false, true} {
		h := newHub(t)
		o := quiet
		o.Detach = detach
		errs := make(chan error, 1)
		openWhole(t, newServer(t, engine(t, ginsse.SSE[none]("/x").Options(o).Topic(h, "x").
			Snapshot(func(c *ginsse.Context[none]) (any, error) {
				errs <- c.Lease(h, "ann")
				return "state", nil
			}))), "/x")
		if err := receive(t, errs); err == nil {
			t.Errorf("detach=%v: the lease is not refused, and ends nothing", detach)
		}
	}
}
