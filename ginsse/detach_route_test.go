package ginsse_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// TestDetachedLease: middleware unwinds as soon as the stream has begun, and what the guards have
// said about its end holds on.
func TestDetachedLease(t *testing.T) {
	for name, tc := range map[string]struct {
		guard func(c *ginsse.Context[none], h *hub.Hub) error
		end   func(t *testing.T, h *hub.Hub)
		cause error
	}{
		"lease": {func(c *ginsse.Context[none], h *hub.Hub) error { return c.Lease(h, "user/ann") },
			func(t *testing.T, h *hub.Hub) { revoke(t, h, "user/ann") }, feed.ErrRevoked},
		"expiry": {func(c *ginsse.Context[none], _ *hub.Hub) error {
			// A busy machine needs its time to begin the stream.
			c.ExpireAt(time.Now().Add(2 * time.Second))
			return nil
		}, func(*testing.T, *hub.Hub) {}, feed.ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			o := quiet
			ends := make(chan feed.End, 1)
			o.Detach, o.OnEnd = true, func(e feed.End) { ends <- e }
			left := make(chan bool, 1)
			r := gin.New()
			r.Use(func(c *gin.Context) { c.Next(); left <- c.Writer.Written() && c.Request.Context().Err() == nil })
			mount(t, r, ginsse.SSE[none]("/x").Options(o).Topic(h, "x").Guard(func(c *ginsse.Context[none]) error { return tc.guard(c, h) }))
			w := openWhole(t, newServer(t, r), "/x")
			if !receive(t, left) {
				t.Error("for middleware there is no response, or its context has ended")
			}
			tc.end(t, h)
			w.expectRetry(t)
			if e := receive(t, ends); !errors.Is(e.Cause, tc.cause) || !e.Direct {
				t.Errorf("ended %+v", e)
			}
		})
	}
}

// TestDetachedRefusal: a guard that refuses answers as ever, and what was leased before ends with
// the request.
func TestDetachedRefusal(t *testing.T) {
	h := newHub(t)
	o := quiet
	o.Detach = true
	leased := make(chan (<-chan struct{}), 1)
	r := engine(t, ginsse.SSE[none]("/x").Options(o).Topic(h, "x").Guard(
		func(c *ginsse.Context[none]) error {
			err := c.Lease(h, "user/ann")
			leased <- c.Request().Context().Done()
			return err
		},
		func(*ginsse.Context[none]) error { return ginsse.ErrForbidden }))
	isRefusal(t, get(r, "/x"), 403, "forbidden")
	receive(t, receive(t, leased))
}

// TestDetachedSnapshot: a snapshot after a gap gets the parameters, and what middleware has set,
// of its own request, however often Gin has used the context again.
func TestDetachedSnapshot(t *testing.T) {
	backend := memory.New(memory.Options{MaxMessages: 8})
	defer backend.Close()
	h, err := hub.New(backend, hub.Options{Window: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	type params struct{ Room string }
	o := quiet
	// The client reads when all is published, however long that takes.
	o.Detach, o.Retry, o.WriteTimeout = true, time.Millisecond, deadline
	var loads atomic.Int32
	left := make(chan struct{}, 1)
	r := gin.New()
	r.Use(func(c *gin.Context) { c.Set("user", c.GetHeader("X-User")); c.Next() })
	r.GET("/other/:room", func(c *gin.Context) { c.String(200, c.Param("room")) })
	rooms := r.Group("/", func(c *gin.Context) { c.Next(); left <- struct{}{} })
	mount(t, rooms, ginsse.SSE[params]("/rooms/:room").Options(o).Topic(h, "rooms").Snapshot(func(c *ginsse.Context[params]) (any, error) {
		loads.Add(1)
		return fmt.Sprint(c.Params.Room, " ", c.Gin().Param("room"), " ", c.Gin().GetString("user"), " ", c.Request().Header.Get("X-User"), " ", c.Context().Err()), nil
	}))
	s := newServer(t, r)
	st := open(t, s.Client(), s.URL+"/rooms/1", "X-User", "ann")
	receive(t, left)
	for range 30 {
		// More than sockets take: the stream falls behind.
		publish(t, h, "rooms", strings.Repeat("x", 900<<10))
		if w := get(r, "/other/2", "X-User", "bob"); w.Code != 200 {
			t.Error(w.Code)
		}
	}
	for snapshots := 0; snapshots < 2; {
		e, err := st.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != "snapshot" {
			continue
		}
		if snapshots++; e.Text() != "1 1 ann ann <nil>" {
			t.Errorf("snapshot %d: %s", snapshots, e.Text())
		}
	}
}

// TestDetachedFilterAndMap: what runs for a stream whose handler has returned gets the parameters,
// and what middleware has set, of its own request, however often Gin has used the context again.
func TestDetachedFilterAndMap(t *testing.T) {
	h := newHub(t)
	type params struct{ Room string }
	o := quiet
	o.Detach = true
	left := make(chan struct{}, 8)
	r := gin.New()
	r.Use(func(c *gin.Context) { c.Set("user", c.GetHeader("X-User")); c.Next() })
	r.GET("/other/:room", func(c *gin.Context) { c.String(200, c.Param("room")) })
	says := func(c *ginsse.Context[params]) string {
		return fmt.Sprint(c.Params.Room, " ", c.Gin().Param("room"), " ", c.Gin().GetString("user"), " ", c.Request().Header.Get("X-User"), " ", c.Context().Err())
	}
	filtered := make(chan string, 1000)
	mount(t, r.Group("/", func(c *gin.Context) { c.Next(); left <- struct{}{} }), ginsse.SSE[params]("/rooms/:room").Options(o).Topic(h, "rooms").
		Filter(func(c *ginsse.Context[params], _ string, _ *hub.Message) bool { filtered <- says(c); return true }).
		Map(func(c *ginsse.Context[params], _ string, _ *hub.Message) []sse.Event {
			return []sse.Event{{Data: says(c)}}
		}))
	s := newServer(t, r)
	st := open(t, s.Client(), s.URL+"/rooms/1", "X-User", "ann")
	receive(t, left)
	for range 100 {
		id := publish(t, h, "rooms", "x")
		for range 3 {
			if w := get(r, "/other/2", "X-User", "bob"); w.Code != 200 {
				t.Error(w.Code)
			}
		}
		const want = "1 1 ann ann <nil>"
		if got := receive(t, filtered); got != want {
			t.Fatalf("Filter sees %q", got)
		}
		if e, err := st.Decode(); err != nil || e.Type == "" && e.Text() != want {
			t.Fatalf("Map sees %q at %s, %v", e.Text(), id, err)
		}
	}
}
