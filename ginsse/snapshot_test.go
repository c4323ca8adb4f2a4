package ginsse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// snapshotUser is what middleware finds out.
var snapshotUser = ginsse.NewKey[string]("snapshot user")

// foreign is a cursor that no topic knows: whoever comes with it has missed something.
const foreign = "of-another-life"

// TestSnapshot holds that the state comes first, at a place that was fixed before, then changes;
// that who resumes gets none, and who missed something a new one; and that Snapshot knows
// parameters and keys each time.
func TestSnapshot(t *testing.T) {
	h := newHub(t)
	var loads atomic.Int32
	during := make(chan string, 1)
	r := gin.New()
	r.Use(func(c *gin.Context) { snapshotUser.Set(c, c.Query("user")) })
	mount(t, r, ginsse.SSE[ticketParams]("/tickets/:ticket").Options(quiet).Topic(h, "tickets/{ticket}").
		Snapshot(func(c *ginsse.Context[ticketParams]) (any, error) {
			if loads.Add(1) == 1 {
				during <- publish(t, h, "tickets/7", "during")
			}
			user, _ := snapshotUser.Get(c.Context())
			cursor, _ := c.LastEventID()
			return gin.H{"ticket": c.Params.Ticket, "user": user, "again": c.Gin().Query("user"), "cursor": cursor}, nil
		}))
	s := newServer(t, r)
	url := s.URL + "/tickets/7?user=ann"
	before := publish(t, h, "tickets/7", "before")
	publish(t, h, "tickets/8", "of another ticket")

	st := open(t, s.Client(), url)
	st.expect(t, "snapshot|"+before+`|{"again":"ann","cursor":"","ticket":7,"user":"ann"}`)
	id := receive(t, during)
	st.expect(t, "|"+id+"|during")
	st.leave()

	st = open(t, s.Client(), url, "Last-Event-ID", before)
	st.expect(t, "|"+id+"|during")
	st.leave()
	if n := loads.Load(); n != 1 {
		t.Errorf("%d snapshots, one for two connections of which one resumed is right", n)
	}

	st = open(t, s.Client(), url, "Last-Event-ID", foreign)
	st.expect(t, "gap||{}", "snapshot|"+id+`|{"again":"ann","cursor":"`+foreign+`","ticket":7,"user":"ann"}`)
	after := publish(t, h, "tickets/7", "after")
	st.expect(t, "|"+after+"|after")
	if n := loads.Load(); n != 2 {
		t.Errorf("%d snapshots, want 2", n)
	}
}

// TestSnapshotDocument holds that the URL of a stream answers with its state as JSON, too, and
// that a stream goes on from there.
func TestSnapshotDocument(t *testing.T) {
	h := newHub(t)
	var loads atomic.Int32
	r := engine(t, ginsse.SSE[ticketParams]("/tickets/:ticket").Options(quiet).Topics(h, "tickets/{ticket}", "notices").
		Hello(func(*ginsse.Context[ticketParams]) (sse.Event, error) { return sse.Event{Type: "hi", Data: ""}, nil }).
		Snapshot(func(c *ginsse.Context[ticketParams]) (any, error) {
			loads.Add(1)
			return gin.H{"ticket": c.Params.Ticket}, nil
		}))
	publish(t, h, "tickets/7", "before")
	w := get(r, "/tickets/7", "Accept", "application/json", "Last-Event-ID", foreign)
	if w.Code != http.StatusOK || w.Body.String() != `{"ticket":7}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Vary": "Accept", "Content-Length": "12"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	publish(t, h, "tickets/7", "one")
	publish(t, h, "notices", "two")

	cursor := w.Header().Get("Last-Event-ID")
	s := newServer(t, r)
	st := open(t, s.Client(), s.URL+"/tickets/7?lastEventId="+cursor, "Accept", "text/event-stream")
	st.expect(t, "hi||")
	var got []string
	for range 2 {
		e, err := st.Decode()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Text())
	}
	if all := strings.Join(got, " "); all != "one two" && all != "two one" {
		t.Errorf("after the document came %q", all)
	}
	if n := loads.Load(); n != 1 {
		t.Errorf("%d snapshots, want the document's alone", n)
	}
	if w = get(engine(t, ginsse.SSE[none]("/x").Options(quiet).Topic(h, "x")), "/x", "Accept", "application/json"); w.Code != http.StatusNotAcceptable {
		t.Errorf("without a Snapshot: %d", w.Code)
	}
}

// snapshotRoutes returns a route each whose Snapshot or Hello is f.
func snapshotRoutes(t testing.TB, o ginsse.Options, f func() (any, error)) map[string]*ginsse.Route[none] {
	h := newHub(t)
	return map[string]*ginsse.Route[none]{
		"snapshot": ginsse.SSE[none]("/x").Options(o).Topic(h, "x").Snapshot(func(*ginsse.Context[none]) (any, error) { return f() }),
		"hello": ginsse.SSE[none]("/x").Options(o).Topic(h, "x").Hello(func(*ginsse.Context[none]) (sse.Event, error) {
			data, err := f()
			return sse.Event{Data: data}, err
		}),
	}
}

// TestSnapshotRefuses holds that an error of Snapshot or Hello before the first byte is answered
// with the status below 500 that it carries, in JSON, and without its text; any other one, and
// what cannot be sent, tells the client to come back.
func TestSnapshotRefuses(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.1:5432: password " + canary)
	for name, test := range map[string]struct {
		data any
		err  error
		code int
		text string
	}{
		"not found":              {nil, ginsse.ErrNotFound, 404, "not found"},
		"not found, wrapped":     {nil, fmt.Errorf("%w: %w", secret, ginsse.ErrNotFound), 404, "not found"},
		"unauthorized":           {nil, ginsse.ErrUnauthorized, 401, "unauthorized"},
		"forbidden":              {nil, ginsse.ErrForbidden, 403, "forbidden"},
		"gone":                   {nil, ginsse.Status(410, secret), 410, "gone"},
		"of package feed":        {nil, feed.Status(409, secret), 409, "conflict"},
		"no status of an error":  {nil, ginsse.Status(200, secret), 503, "service unavailable"},
		"too many":               {nil, ginsse.Status(429, secret), 429, "too many requests"},
		"unavailable":            {nil, ginsse.Status(503, secret), 503, "service unavailable"},
		"any other":              {nil, secret, 503, "service unavailable"},
		"a time that is over":    {nil, context.DeadlineExceeded, 503, "service unavailable"},
		"what has no form":       {func() {}, nil, 503, "service unavailable"},
		"what cannot be encoded": {brokenJSON{}, nil, 503, "service unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			o := quiet
			o.OnEnd = func(feed.End) { t.Error("a stream was begun") }
			for kind, route := range snapshotRoutes(t, o, func() (any, error) { return test.data, test.err }) {
				var left []*gin.Error
				r := gin.New()
				r.Use(func(c *gin.Context) { c.Next(); left = c.Errors })
				mount(t, r, route)
				accepts := []string{"", "text/event-stream"}
				if kind == "snapshot" {
					accepts = append(accepts, "application/json")
				}
				for _, accept := range accepts {
					w := get(r, "/x", "Accept", accept)
					temporary := test.code == 429 || test.code == 503
					if temporary && accept == "text/event-stream" {
						if w.Code != 200 || !strings.HasPrefix(w.Body.String(), ": ok\nretry: ") || strings.Count(w.Body.String(), "\n") != 2 {
							t.Errorf("%s: an EventSource: %d %q", kind, w.Code, w.Body)
						}
					} else {
						isRefusal(t, w, test.code, test.text)
						if (w.Header().Get("Retry-After") != "") != temporary {
							t.Errorf("%s, %q: Retry-After %q", kind, accept, w.Header().Get("Retry-After"))
						}
					}
					if w.Header().Get("Last-Event-ID") != "" || strings.Contains(w.Body.String(), canary) || strings.Contains(w.Body.String(), "10.0.0.1") {
						t.Errorf("%s, %q: %v %s", kind, accept, w.Header(), w.Body)
					}
					if len(left) != 1 || test.err != nil && !errors.Is(left[0], test.err) {
						t.Errorf("%s, %q: c.Errors: %v", kind, accept, left)
					}
				}
			}
		})
	}
}

type brokenJSON struct{}

func (brokenJSON) MarshalJSON() ([]byte, error) { return nil, errors.New(canary) }

// TestSnapshotReferences holds that a Snapshot loads its references itself: what a guard has
// loaded is from before the place in the topic was fixed, and what the stream began with from
// before the gap.
func TestSnapshotReferences(t *testing.T) {
	h := newHub(t)
	var version atomic.Int32
	load := func(context.Context, int64) (*ticket, error) { return &ticket{int64(version.Add(1))}, nil }
	guarded := make(chan int64, 3)
	r := engine(t, ginsse.SSE[refParams]("/:ticket").Options(quiet).Models(ginsse.ModelOf(load)).Topic(h, "{ticket}").
		Guard(func(c *refContext) error {
			ticket, err := c.Params.Ticket.Get(c.Context())
			guarded <- ticket.ID
			return err
		}).
		Filter(func(c *refContext, _ string, _ *hub.Message) bool {
			ticket, err := c.Params.Ticket.Get(c.Context())
			return err == nil && ticket.ID%2 == 1 // the guard's
		}).
		Snapshot(func(c *refContext) (any, error) {
			ticket, err := c.Params.Ticket.Get(c.Context())
			if err != nil {
				return nil, err
			}
			again, err := c.Params.Ticket.Get(c.Context())
			return fmt.Sprint(c.Params.Ticket.Key(), " ", ticket.ID, " ", again.ID), err
		}))
	s := newServer(t, r)
	place := publish(t, h, "7", "x")
	st := open(t, s.Client(), s.URL+"/07")
	st.expect(t, "snapshot|"+place+"|7 2 2")
	st.leave()
	st = open(t, s.Client(), s.URL+"/07", "Last-Event-ID", foreign)
	st.expect(t, "gap||{}", "snapshot|"+place+"|7 4 4")
	after := publish(t, h, "7", "after")
	st.expect(t, "|"+after+"|after")
	for _, want := range []int64{1, 3} {
		if got := receive(t, guarded); got != want {
			t.Errorf("a guard got %d, want %d", got, want)
		}
	}
}

// gap makes streams of the topic x, which have begun, miss messages.
type gap struct {
	hub           *hub.Hub
	held, release chan struct{}
}

// newGap returns one with a hub that retains little.
func newGap(t testing.TB) *gap {
	t.Helper()
	backend := memory.New(memory.Options{MaxMessages: 2})
	h, err := hub.New(backend, hub.Options{Logger: quiet.Logger, Window: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		backend.Close()
	})
	return &gap{h, make(chan struct{}), make(chan struct{})}
}

// filter is to be the route's Filter: it holds up the stream while messages go by.
func (g *gap) filter(_ *ginsse.Context[none], _ string, m *hub.Message) bool {
	if string(m.Data) == "hold" {
		g.held <- struct{}{}
		<-g.release
	}
	return true
}

// open opens a stream that begins with a snapshot and has missed something then.
func (g *gap) open(t testing.TB, s *httptest.Server) *stream {
	t.Helper()
	before := publish(t, g.hub, "x", "before")
	st := open(t, s.Client(), s.URL+"/x")
	st.expect(t, "snapshot|"+before+"|state")
	hold := publish(t, g.hub, "x", "hold")
	receive(t, g.held)
	for i := range 10 {
		publish(t, g.hub, "x", fmt.Sprint(i))
	}
	g.release <- struct{}{}
	st.expect(t, "|"+hold+"|hold", "gap|"+hold+"|{}") // the gap has no id of its own
	return st
}

// blocking is a route whose Snapshot or Hello waits for its context to end.
func blocking(h *hub.Hub, o ginsse.Options, begun chan<- struct{}, ended chan<- error) *ginsse.Route[none] {
	wait := func(c *ginsse.Context[none]) error {
		begun <- struct{}{}
		<-c.Context().Done()
		ended <- context.Cause(c.Context())
		return c.Context().Err()
	}
	return ginsse.SSE[none]("/x").Options(o).Topic(h, "x").
		Snapshot(func(c *ginsse.Context[none]) (any, error) { return nil, wait(c) }).
		Hello(func(c *ginsse.Context[none]) (sse.Event, error) {
			if c.Request().URL.RawQuery == "hello" {
				return sse.Event{}, wait(c)
			}
			return sse.Event{Type: "hi", Data: ""}, nil
		})
}

// TestSnapshotWhileClientLeaves holds that a Snapshot or Hello that waits is told when the client
// leaves, and that the handler returns then, not before.
func TestSnapshotWhileClientLeaves(t *testing.T) {
	for name, headers := range map[string][]string{
		"first":           {"Accept", "text/event-stream"},
		"document":        {"Accept", "application/json"},
		"after a gap":     {"Last-Event-ID", foreign},
		"hello":           {"Accept", "text/event-stream"},
		"hello of a gap?": {"Last-Event-ID", foreign},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			begun, ended, returned := make(chan struct{}, 1), make(chan error, 2), make(chan []*gin.Error, 1)
			r := gin.New()
			r.Use(func(c *gin.Context) { c.Next(); returned <- c.Errors })
			mount(t, r, blocking(h, quiet, begun, ended))
			s := newServer(t, r)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			url := s.URL + "/x"
			if strings.HasPrefix(name, "hello") {
				url += "?hello"
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			addHeaders(req, headers)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := s.Client().Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			receive(t, begun)
			select {
			case cause := <-ended:
				t.Fatalf("the context had ended before the client left: %v", cause)
			default:
			}
			cancel()
			if cause := receive(t, ended); !errors.Is(cause, context.Canceled) {
				t.Errorf("cause %v", cause)
			}
			if left := receive(t, returned); len(left) > 0 {
				t.Errorf("a client that leaves is no error: %v", left)
			}
			receive(t, done)
		})
	}
}

// TestSnapshotEndsWithStream holds that a Snapshot after a gap ends with its stream, whatever
// ends that, and that the client has a clean end.
func TestSnapshotEndsWithStream(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *hub.Hub, *feed.Drain){
		"drain":    func(_ *testing.T, _ *hub.Hub, d *feed.Drain) { d.Begin() },
		"revoked":  func(t *testing.T, h *hub.Hub, _ *feed.Drain) { revoke(t, h, "ann") },
		"shutdown": func(t *testing.T, h *hub.Hub, _ *feed.Drain) { go func() { _ = h.Shutdown(t.Context()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGap(t)
			begun, ended, ends := make(chan struct{}, 1), make(chan error, 1), make(chan feed.End, 1)
			o := quiet
			o.OnEnd = func(e feed.End) { ends <- e }
			o.Heartbeat = time.Hour // whose time has come looks around, too
			drain := &feed.Drain{Window: -1}
			if name == "drain" {
				o.Drain = drain
			}
			var loads atomic.Int32
			s := newServer(t, engine(t, ginsse.SSE[none]("/x").Options(o).Topic(g.hub, "x").Filter(g.filter).
				Guard(func(c *ginsse.Context[none]) error { return c.Lease(g.hub, "ann") }).
				Snapshot(func(c *ginsse.Context[none]) (any, error) {
					if loads.Add(1) == 1 {
						return "state", nil
					}
					begun <- struct{}{}
					<-c.Context().Done()
					ended <- context.Cause(c.Context())
					return nil, c.Context().Err()
				})))
			st := g.open(t, s)
			receive(t, begun)
			end(t, g.hub, drain)
			want := feed.ErrShutdown
			if name == "revoked" {
				want = feed.ErrRevoked
			}
			if cause := receive(t, ended); cause == nil {
				t.Error("the context ended without a cause")
			}
			st.expectEnd(t, true)
			if e := receive(t, ends); !errors.Is(e.Cause, want) {
				t.Errorf("cause %v, want %v", e.Cause, want)
			}
		})
	}
}

// TestFunctionsPanic holds that a panic in a function of a feed goes on to gin.Recovery, which
// answers 500 as long as nothing was sent; later the connection is broken off. A client never
// takes it for a clean end, and nothing is left behind.
func TestFunctionsPanic(t *testing.T) {
	type context = *ginsse.Context[none]
	route := func(h *hub.Hub) *ginsse.Route[none] { return ginsse.SSE[none]("/x").Topic(h, "x") }
	for name, test := range map[string]struct {
		route   func(*hub.Hub) *ginsse.Route[none]
		headers []string
		begins  []string // what a client gets before; none: a 500
	}{
		"topics": {func(h *hub.Hub) *ginsse.Route[none] {
			return ginsse.SSE[none]("/x").TopicsFunc(h, func(context) ([]string, error) { panic(canary) })
		}, nil, nil},
		"hello": {func(h *hub.Hub) *ginsse.Route[none] {
			return route(h).Hello(func(context) (sse.Event, error) { panic(canary) })
		}, nil, nil},
		"snapshot": {func(h *hub.Hub) *ginsse.Route[none] {
			return route(h).Snapshot(func(context) (any, error) { panic(canary) })
		}, nil, nil},
		"document": {func(h *hub.Hub) *ginsse.Route[none] {
			return route(h).Snapshot(func(context) (any, error) { panic(canary) })
		},
			[]string{"Accept", "application/json"}, nil},
		"marshalling a snapshot": {func(h *hub.Hub) *ginsse.Route[none] {
			return route(h).Snapshot(func(context) (any, error) { return panicJSON{}, nil })
		}, nil, nil},
		"filter": {func(h *hub.Hub) *ginsse.Route[none] {
			return route(h).Filter(func(_ context, _ string, m *hub.Message) bool { return string(m.Data) == "good" || explode() })
		}, []string{"Last-Event-ID", "<before>"}, []string{"|<good>|good"}},
		"map": {func(h *hub.Hub) *ginsse.Route[none] {
			return route(h).Map(func(_ context, _ string, m *hub.Message) []sse.Event {
				if string(m.Data) != "good" {
					panic(canary)
				}
				return []sse.Event{{Data: "mapped"}}
			})
		}, []string{"Last-Event-ID", "<before>"}, []string{"|<good>|mapped"}},
		"marshalling a mapped event": {func(h *hub.Hub) *ginsse.Route[none] {
			return route(h).Map(func(_ context, _ string, m *hub.Message) []sse.Event {
				if string(m.Data) != "good" {
					return []sse.Event{{Data: panicJSON{}}}
				}
				return []sse.Event{{Data: "mapped"}}
			})
		}, []string{"Last-Event-ID", "<before>"}, []string{"|<good>|mapped"}},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprint(name, "/HTTP2=", http2), func(t *testing.T) {
				h := newHub(t)
				limits, ends, recovered := &feed.Limits{Max: 1}, make(chan feed.End, 1), make(chan any, 1)
				returned := make(chan struct{})
				o := quiet
				o.Limits, o.OnEnd = limits, func(e feed.End) { ends <- e }
				r := gin.New()
				r.Use(func(c *gin.Context) { defer close(returned); c.Next() })
				r.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, v any) {
					recovered <- v
					c.AbortWithStatus(http.StatusInternalServerError)
				}))
				mount(t, r, test.route(h).Options(o))
				var s *httptest.Server
				if http2 {
					s = newHTTP2Server(t, r)
				} else {
					s = newServer(t, r)
				}
				ids := strings.NewReplacer("<before>", publish(t, h, "x", "before"))
				headers := make([]string, len(test.headers))
				for i, header := range test.headers {
					headers[i] = ids.Replace(header)
				}
				st := open(t, s.Client(), s.URL+"/x", headers...)
				if len(test.begins) == 0 {
					body, err := io.ReadAll(st.Body)
					if st.StatusCode != http.StatusInternalServerError || len(body) > 0 || err != nil {
						t.Errorf("%d %q, %v", st.StatusCode, body, err)
					}
				} else {
					ids = strings.NewReplacer("<good>", publish(t, h, "x", "good"))
					for _, event := range test.begins {
						st.expect(t, ids.Replace(event))
					}
					publish(t, h, "x", "bad")
					st.expect(t, "stream-error|"+st.LastEventID()+"|{}")
					st.expectEnd(t, false)
					if e := receive(t, ends); !errors.Is(e.Cause, feed.ErrPanicked) {
						t.Errorf("cause %v", e.Cause)
					}
				}
				if v := receive(t, recovered); !strings.Contains(fmt.Sprint(v), canary) {
					t.Errorf("gin.Recovery got %v", v)
				}
				receive(t, returned)
				if n := limits.Open(); n != 0 {
					t.Errorf("%d streams are still open", n)
				}
			})
		}
	}
}

func explode() bool { panic(canary) }

type panicJSON struct{}

func (panicJSON) MarshalJSON() ([]byte, error) { panic(canary) }

// TestSnapshotFailsLate holds what a client gets of an error, or a panic, after the first byte: a
// connection that is broken off.
func TestSnapshotFailsLate(t *testing.T) {
	for name, err := range map[string]error{"of the store": errors.New(canary), "with a status": ginsse.ErrNotFound, "panic": nil} {
		t.Run(name, func(t *testing.T) {
			g := newGap(t)
			ends, left, recovered := make(chan feed.End, 1), make(chan []*gin.Error, 1), make(chan any, 1)
			o := quiet
			o.OnEnd = func(e feed.End) { ends <- e }
			var loads atomic.Int32
			r := gin.New()
			r.Use(func(c *gin.Context) { c.Next(); left <- c.Errors })
			r.Use(gin.CustomRecoveryWithWriter(nil, func(_ *gin.Context, v any) { recovered <- v }))
			mount(t, r, ginsse.SSE[none]("/x").Options(o).Topic(g.hub, "x").Filter(g.filter).Snapshot(func(*ginsse.Context[none]) (any, error) {
				switch {
				case loads.Add(1) == 1:
					return "state", nil
				case err == nil:
					panic(canary)
				}
				return nil, err
			}))
			st := g.open(t, newServer(t, r))
			want := feed.ErrFailed
			if err == nil {
				want = feed.ErrPanicked
			}
			st.expect(t, "stream-error|"+st.LastEventID()+"|{}")
			st.expectEnd(t, false)
			if e := receive(t, ends); !errors.Is(e.Cause, want) || err != nil && !errors.Is(e.Cause, err) {
				t.Errorf("cause %v", e.Cause)
			}
			if err == nil {
				// It says where it began, on whatever goroutine that was.
				if v := fmt.Sprint(receive(t, recovered)); !strings.HasPrefix(v, canary+"\n") || !strings.Contains(v, "TestSnapshotFailsLate") {
					t.Errorf("gin.Recovery got %v", v)
				}
			} else if got := receive(t, left); len(got) != 1 || !errors.Is(got[0], err) {
				t.Errorf("c.Errors %v", got)
			}
		})
	}
}
