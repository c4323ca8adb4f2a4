package ginsse_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

func generator(f func(c *ginsse.Context[none], yield func(sse.Event, error) bool)) *ginsse.Route[none] {
	return ginsse.SSE[none]("/x").Options(quiet).Handle(func(c *ginsse.Context[none]) seq {
		return func(yield func(sse.Event, error) bool) { f(c, yield) }
	})
}

// TestGeneratorWire holds the bytes of events on the wire: strings raw, other values as JSON
// once, each field on its line.
func TestGeneratorWire(t *testing.T) {
	r := engine(t, ginsse.SSE[none]("/x").Options(quiet).Handle(func(*ginsse.Context[none]) seq {
		return events(
			sse.Event{Data: "plain"},
			sse.Event{Data: `{"already":"JSON"}`},
			sse.Event{Data: []byte("bytes")},
			sse.Event{Data: map[string]int{"n": 1}},
			sse.Event{Data: 7},
			sse.Event{ID: "1-0", Type: "changed", Data: "a\nb\r\nc", Retry: 1500 * time.Millisecond},
			sse.Event{Type: "empty"},
			sse.Event{ID: "2-0"},
		)
	}))
	w := get(r, "/x")
	prelude, body, _ := strings.Cut(w.Body.String(), "data: plain")
	if !strings.HasPrefix(prelude, ": ok\nretry: ") || strings.Count(prelude, "\n") != 2 {
		t.Errorf("prelude %q", prelude)
	}
	const want = "\n\ndata: {\"already\":\"JSON\"}\n\ndata: bytes\n\ndata: {\"n\":1}\n\ndata: 7\n\n" +
		"retry: 1500\nevent: changed\ndata: a\ndata: b\ndata: c\nid: 1-0\n\nevent: empty\ndata: \n\nid: 2-0\n\n"
	if body != want {
		t.Errorf("body\n got %q\nwant %q", body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Content-Length": "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestGeneratorClientLeaves holds that a generator learns of it where it waits and at its next
// yield, and has cleaned up before the handlers of middleware go on.
func TestGeneratorClientLeaves(t *testing.T) {
	for _, where := range []string{"waits", "yields"} {
		t.Run(where, func(t *testing.T) {
			after := make(chan *gin.Context, 1)
			cause := make(chan error, 1)
			r := gin.New()
			r.Use(func(c *gin.Context) {
				c.Next()
				after <- c
			})
			mount(t, r, generator(func(c *ginsse.Context[none], yield func(sse.Event, error) bool) {
				defer c.Gin().Set("cleaned", true)
				defer func() { cause <- context.Cause(c.Context()) }()
				if !yield(sse.Event{Data: "first"}, nil) {
					return // the client was quick
				}
				if where == "waits" {
					<-c.Context().Done()
					if yield(sse.Event{Data: "late"}, nil) {
						t.Error("yield reported true after the client left")
					}
					return
				}
				for yield(sse.Event{Data: "more"}, nil) {
				}
				if c.Context().Err() == nil {
					t.Error("yield reported false, and the context goes on")
				}
			}))
			server := newServer(t, r)
			s := open(t, server.Client(), server.URL+"/x")
			s.expect(t, "||first")
			s.leave()
			got := receive(t, cause)
			if !errors.Is(got, feed.ErrClientGone) && (where == "waits" || !errors.Is(got, feed.ErrWriteFailed)) {
				t.Errorf("cause %v", got)
			}
			c := receive(t, after)
			if !c.GetBool("cleaned") {
				t.Error("the handler returned before the generator's deferred functions had run")
			}
			if where == "waits" && len(c.Errors) > 0 {
				t.Errorf("a client that leaves is an error: %v", c.Errors)
			}
		})
	}
}

// TestGeneratorFails holds that an error, a bad event and a panic break the connection off, on
// each version of HTTP, and show nothing of themselves.
func TestGeneratorFails(t *testing.T) {
	secret := errors.New(canary)
	for name, test := range map[string]struct {
		f     func(yield func(sse.Event, error) bool)
		cause error
		panic bool
	}{
		"error":          {func(yield func(sse.Event, error) bool) { yield(sse.Event{}, secret) }, secret, false},
		"error and data": {func(yield func(sse.Event, error) bool) { yield(sse.Event{Data: canary}, secret) }, secret, false},
		"line end in id": {func(yield func(sse.Event, error) bool) { yield(sse.Event{ID: "1\r" + canary, Data: "x"}, nil) }, sse.ErrInvalid, false},
		"no JSON":        {func(yield func(sse.Event, error) bool) { yield(sse.Event{Data: func() {}}, nil) }, feed.ErrFailed, false},
		"panic":          {func(func(sse.Event, error) bool) { panic(canary) }, nil, true},
		"abort":          {func(func(sse.Event, error) bool) { panic(http.ErrAbortHandler) }, nil, true},
	} {
		for _, place := range places {
			t.Run(name+"/"+place.name, func(t *testing.T) {
				ended := make(chan []*gin.Error, 1)
				recovered := make(chan any, 1)
				r := gin.New()
				r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, v any) { recovered <- v; c.AbortWithStatus(http.StatusInternalServerError) }))
				r.Use(place.use...)
				r.Use(func(c *gin.Context) {
					defer func() { ended <- c.Errors }()
					c.Next()
				})
				cleaned := false
				var end feed.End
				o := quiet
				o.OnEnd = func(e feed.End) { end = e }
				mount(t, r, generator(func(_ *ginsse.Context[none], yield func(sse.Event, error) bool) {
					defer func() { cleaned = true }()
					if yield(sse.Event{Data: "first"}, nil) {
						test.f(yield)
					}
				}).Options(o))
				s := place.open(t, place.serve(t, r), "/x")
				s.expect(t, "||first")
				e, err := s.Decode()
				told := err == nil && e.Type == "stream-error" && e.ID == "" && e.Text() == "{}"
				if told {
					_, err = s.Decode()
				}
				if err == nil || err == io.EOF {
					t.Errorf("the stream ended with %v, like a clean one", err)
				}
				// On HTTP/1.0 the reset that says so may overtake the event.
				if !told && place.name != "HTTP/1.0" {
					t.Error("the event stream-error did not come")
				}
				left := receive(t, ended)
				if !cleaned {
					t.Error("the deferred function has not run")
				}
				if test.panic {
					if !errors.Is(end.Cause, feed.ErrPanicked) {
						t.Errorf("cause %v", end.Cause)
					}
					// Gin's recovery keeps http.ErrAbortHandler to itself.
					if name == "panic" && receive(t, recovered) != canary {
						t.Error("the panic did not go on to gin.Recovery")
					}
				} else if len(left) != 1 || !errors.Is(left[0], test.cause) || !errors.Is(end.Cause, feed.ErrFailed) {
					t.Errorf("c.Errors %v, cause %v", left, end.Cause)
				}
			})
		}
	}
}

// TestGeneratorHeartbeat holds that heartbeats go on, and the stream ends at its time, while a
// generator blocks.
func TestGeneratorHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := quiet
		o.Heartbeat, o.ExpireAt = time.Second, time.Now().Add(3500*time.Millisecond)
		w := get(engine(t, generator(func(c *ginsse.Context[none], _ func(sse.Event, error) bool) { <-c.Context().Done() }).Options(o)), "/x")
		if _, body, _ := strings.Cut(w.Body.String(), "retry: "); strings.Count(body, "\n:\n:\n:\n") != 1 || strings.Count(body, ":\n") != 3 {
			t.Errorf("body %q", body)
		}
	})
}

// TestGeneratorNil holds that a handler without a sequence is a failure of that stream, seen by
// gin.Recovery like any panic.
func TestGeneratorNil(t *testing.T) {
	var log bytes.Buffer
	o := quiet
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	r := gin.New()
	r.Use(gin.CustomRecoveryWithWriter(nil, func(*gin.Context, any) {}))
	mount(t, r, ginsse.SSE[none]("/x").Options(o).Handle(func(*ginsse.Context[none]) seq { return nil }))
	get(r, "/x")
	if !strings.Contains(log.String(), "panicked") {
		t.Errorf("log %s", &log)
	}
}

func TestLastEventID(t *testing.T) {
	for name, test := range map[string]struct {
		target  string
		headers []string
		want    string
		ok      bool
	}{
		"none":                   {"/x", nil, "", false},
		"header":                 {"/x", []string{"Last-Event-ID", "5-1"}, "5-1", true},
		"header in lower case":   {"/x", []string{"last-event-id", "5-1"}, "5-1", true},
		"query":                  {"/x?lastEventId=6-1", nil, "6-1", true},
		"query with underscores": {"/x?last_event_id=7-1", nil, "7-1", true},
		"header wins":            {"/x?lastEventId=6-1&last_event_id=7-1", []string{"Last-Event-ID", "5-1"}, "5-1", true},
		"empty header":           {"/x?lastEventId=6-1", []string{"Last-Event-ID", ""}, "6-1", true},
		"anything":               {"/x", []string{"Last-Event-ID", "{\"a\":1}\xff"}, "{\"a\":1}\xff", true},
	} {
		t.Run(name, func(t *testing.T) {
			get(engine(t, generator(func(c *ginsse.Context[none], _ func(sse.Event, error) bool) {
				if got, ok := c.LastEventID(); got != test.want || ok != test.ok {
					t.Errorf("got %q, %v; want %q, %v", got, ok, test.want, test.ok)
				}
			})), test.target, test.headers...)
		})
	}
}

// TestFeedLastEventID holds that a feed goes on behind the cursor, from wherever it comes.
func TestFeedLastEventID(t *testing.T) {
	h := newHub(t)
	a, b, c := publish(t, h, "x", "1"), publish(t, h, "x", "2"), publish(t, h, "x", "3")
	server := newServer(t, engine(t, ginsse.SSE[none]("/x").Options(quiet).Topic(h, "x")))
	for name, test := range map[string]struct {
		target  string
		headers []string
		want    []string
	}{
		"header":                {"/x", []string{"Last-Event-ID", a}, []string{"|" + b + "|2", "|" + c + "|3"}},
		"query":                 {"/x?lastEventId=" + b, nil, []string{"|" + c + "|3"}},
		"header before query":   {"/x?lastEventId=" + a, []string{"Last-Event-ID", b}, []string{"|" + c + "|3"}},
		"two headers":           {"/x", []string{"Last-Event-ID", b, "Last-Event-ID", a}, []string{"|" + c + "|3"}},
		"repeated in the query": {"/x?lastEventId=" + a + "&Last-Event-ID=" + b, nil, []string{"|" + c + "|3"}},
		"none":                  {"/x", nil, []string{"checkpoint|" + c + "|"}},
		"empty":                 {"/x?lastEventId=", []string{"Last-Event-ID", ""}, []string{"checkpoint|" + c + "|"}},
		"10 KB":                 {"/x", []string{"Last-Event-ID", strings.Repeat("x", 10<<10)}, []string{"gap|" + c + "|{}"}},
	} {
		t.Run(name, func(t *testing.T) {
			open(t, server.Client(), server.URL+test.target, test.headers...).expect(t, test.want...)
		})
	}
}

// TestGeneratorOverTopic is the generator of the package comment: it follows a topic by hand, and
// a shutdown of the hub is no failure of it.
func TestGeneratorOverTopic(t *testing.T) {
	h := newHub(t)
	server := newServer(t, engine(t, generator(func(c *ginsse.Context[none], yield func(sse.Event, error) bool) {
		sub, err := h.Subscribe(c.Context(), "x", hub.Latest())
		if err != nil {
			yield(sse.Event{}, err)
			return
		}
		defer sub.Close()
		if !yield(sse.Event{Data: "ready"}, nil) {
			return
		}
		for m, err := range sub.All() {
			if errors.Is(err, hub.ErrClosed) {
				return
			}
			if !yield(sse.Event{ID: string(m.ID), Type: "changed", Data: m.Data}, err) {
				return
			}
		}
	})))
	s := open(t, server.Client(), server.URL+"/x")
	s.expect(t, "||ready")
	id := publish(t, h, "x", "1")
	s.expect(t, "changed|"+id+"|1")
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expectEnd(t, true)
}
