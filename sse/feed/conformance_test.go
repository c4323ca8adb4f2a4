package feed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
)

// wrapped is a writer of middleware: whatever it may do, only its own Write knows.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ways are the ways on which a stream can reach a client.
var ways = []struct {
	name   string
	direct bool
	detach bool
	wrap   bool
	proto  string // of the client: "HTTP/1.1", "HTTP/1.0", "TLS", "HTTP/2"
}{
	{"direct", true, false, false, "HTTP/1.1"},
	{"direct, HTTP/1.0", true, false, false, "HTTP/1.0"},
	{"detached", true, true, false, "HTTP/1.1"},
	{"detached, HTTP/1.0", true, true, false, "HTTP/1.0"},
	{"ordinary", false, false, true, "HTTP/1.1"},
	{"ordinary, HTTP/1.0", false, true, true, "HTTP/1.0"},
	{"TLS", false, true, false, "TLS"},
	{"HTTP/2", false, false, false, "HTTP/2"},
}

// shapes are what a feed can make of topics. All give a client the same.
var shapes = []struct {
	name   string
	topics []string
	change func(*Feed)
}{
	{"one topic", []string{"t"}, func(*Feed) {}},
	{"topics", []string{"t", "a", "b", "c"}, func(*Feed) {}},
	{"filter", []string{"t"}, func(f *Feed) { f.Filter = passAll }},
	{"map", []string{"t"}, func(f *Feed) { f.Map = mapSame }},
	{"topics, filter and map", []string{"a", "b", "t"}, func(f *Feed) { f.Filter, f.Map = passAll, mapSame }},
}

func passAll(string, *hub.Message) bool { return true }

func mapSame(_ string, m *hub.Message) []sse.Event { return []sse.Event{{Type: m.Type, Data: m.Data}} }

// lab is a server with one feed, on one of the ways and of one of the shapes.
type lab struct {
	t      *testing.T
	topics []string
	set    *cursor.Set // nil for one topic
	// blocked is closed when a call of user code waits for release to be closed.
	blocked, release chan struct{}

	hub    *hub.Hub
	server *httptest.Server
	proto  string
	o      Options
	end    chan End
	// unwound receives what the request's context has ended by when the middleware's deferred
	// function runs.
	unwound chan error
	// context, if not nil, makes the context that the handler gives to Serve, each the options
	// for one request.
	context atomic.Pointer[func(context.Context) context.Context]
	each    atomic.Pointer[func(*http.Request, *Options)]
	// post, if not nil, makes the body of requests that are POST then.
	post func() io.Reader
}

// onEachWay runs a test on each way, with feeds of so many shapes, among which is the last one,
// which has all that the others have. change prepares the feed and the options.
func onEachWay(t *testing.T, most int, change func(*Feed, *Options), test func(t *testing.T, l *lab)) {
	for i, shape := range shapes {
		if i >= most-1 && i < len(shapes)-1 {
			continue
		}
		t.Run(shape.name, func(t *testing.T) {
			onWays(t, shape.topics, func(_ *lab, f *Feed, o *Options) {
				shape.change(f)
				if change != nil {
					change(f, o)
				}
			}, test)
		})
	}
}

func onWays(t *testing.T, topics []string, change func(*lab, *Feed, *Options), test func(t *testing.T, l *lab)) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			l := &lab{t: t, topics: topics, proto: way.proto, end: make(chan End, 16), unwound: make(chan error, 16)}
			l.hub = newHub(t, memory.New(memory.Options{MaxMessages: 8}), hub.Options{Window: 4})
			f := Of(l.hub, topics...)
			l.set = setOf(f)
			o := Options{Logger: quiet(), Detach: way.detach, OnEnd: func(e End) {
				if e.Direct != way.direct {
					t.Errorf("direct: %v", e.Direct)
				}
				l.end <- e
			}}
			change(l, &f, &o)
			l.o = o
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				request := r.Context()
				defer func() { l.unwound <- request.Err() }()
				w.Header().Set("X-Middleware", "was here")
				if way.wrap {
					w = wrapped{w}
				}
				if change := l.context.Load(); change != nil {
					r = r.WithContext((*change)(r.Context()))
				}
				o := o
				if change := l.each.Load(); change != nil {
					(*change)(r, &o)
				}
				_ = Serve(w, r, f, o)
			})
			l.server = httptest.NewUnstartedServer(handler)
			switch way.proto {
			case "TLS":
				l.server.StartTLS()
			case "HTTP/2":
				l.server.EnableHTTP2 = true
				l.server.StartTLS()
			default:
				l.server.Start()
			}
			t.Cleanup(l.server.Close)
			test(t, l)
		})
	}
}

// finish ends all topics.
func (l *lab) finish() {
	l.t.Helper()
	for _, topic := range l.topics {
		finish(l.t, l.hub, topic)
	}
}

// cursor returns the cursor of a client that has read the topic t up to an ID, and the others to
// their ends.
func (l *lab) cursor(id string) string {
	l.t.Helper()
	if l.set == nil {
		return id
	}
	at := make([]hub.ID, len(l.topics))
	for i, topic := range l.topics {
		if at[i] = hub.ID(id); topic != "t" {
			s, err := l.hub.Subscribe(l.t.Context(), topic, hub.Latest())
			if err != nil {
				l.t.Fatal(err)
			}
			at[i] = s.Start()
			s.Close()
		}
	}
	return string(l.set.Append(nil, at))
}

// follow returns a client that reads cursors as the IDs of the topic t.
func (l *lab) follow(resp *http.Response, cancel func()) *follower {
	s := newStream(resp)
	s.set, s.topic, s.cancel = l.set, slices.Index(l.topics, "t"), cancel
	return s
}

// open opens a stream. A Last-Event-ID is an ID of the topic t.
func (l *lab) open(header ...string) *follower {
	l.t.Helper()
	header = slices.Clone(header)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Last-Event-ID" {
			header[i+1] = l.cursor(header[i+1])
		}
	}
	if l.proto != "HTTP/1.0" {
		method, body := http.MethodGet, io.Reader(nil)
		if l.post != nil {
			method, body = http.MethodPost, l.post()
		}
		req, err := http.NewRequest(method, l.server.URL, body)
		if err != nil {
			l.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		req = req.WithContext(ctx)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := l.server.Client().Do(req)
		if err != nil {
			l.t.Fatal(err)
		}
		s := l.follow(resp, cancel)
		l.t.Cleanup(s.leave)
		return s
	}
	conn := l.dial()
	head, body := "GET / HTTP/1.0\r\nHost: x\r\n", []byte(nil)
	if l.post != nil {
		body, _ = io.ReadAll(l.post())
		head = fmt.Sprintf("POST / HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n", len(body))
	}
	for i := 0; i < len(header); i += 2 {
		head += header[i] + ": " + header[i+1] + "\r\n"
	}
	if _, err := conn.Write(append([]byte(head+"\r\n"), body...)); err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.follow(resp, func() { conn.Close() })
}

// dial opens a connection to the server, with TLS if it has it.
func (l *lab) dial() net.Conn {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.server.Listener.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	if l.proto == "TLS" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	l.t.Cleanup(func() { conn.Close() })
	return conn
}

// ended checks how the stream ended, and that the handler has returned, to middleware whose
// context has ended if and only if the client has left.
func (l *lab) ended(want error) End {
	l.t.Helper()
	e := <-l.end
	isCause(l.t, e.Cause, want)
	detached := l.o.Detach && e.Direct
	err := <-l.unwound
	if l.proto == "HTTP/2" && e.Cause != nil && errors.Is(want, ErrFailed) {
		return e // the stream was reset, which may have ended the context of the request or not yet
	}
	if (err != nil) != (errors.Is(want, ErrClientGone) && !detached) {
		l.t.Errorf("the stream ended by %v, and the request's context by %v", want, err)
	}
	return e
}

func TestConformanceResume(t *testing.T) {
	onEachWay(t, testenv.Sized(2, len(shapes)), nil, func(t *testing.T, l *lab) {
		c := l.open()
		equal(t, "status", c.StatusCode, 200)
		equal(t, "type", c.Header.Get("Content-Type"), streamHeader)
		equal(t, "heartbeats", c.Header.Get("Heartbeat-Interval"), "15")
		equal(t, "header of middleware", c.Header.Get("X-Middleware"), "was here")
		if c.Header.Get("Date") == "" || c.Header.Get("Content-Length") != "" {
			t.Errorf("header: %v", c.Header)
		}
		start := c.primed(t)
		ids := publish(t, l.hub, "t", "a", "b\nc")
		equal(t, "first", c.block(t), event(ids[0], "a"))
		equal(t, "second", c.block(t), "data: b\ndata: c\nid: "+ids[1]+"\n\n")
		c.leave()
		e := l.ended(ErrClientGone)
		equal(t, "events", e.Events, 2)

		// The first ones leave the window.
		ids = append(ids, publish(t, l.hub, "t", "d", "e", "f", "g")...)
		c = l.open("Last-Event-ID", start)
		equal(t, "prelude", c.block(t), prelude+event(ids[0], "a"))
		c.block(t)
		for i, data := range []string{"d", "e", "f", "g"} {
			equal(t, "resumed", c.block(t), event(ids[i+2], data))
		}
		c.leave()
		l.ended(ErrClientGone)
	})
}

func TestConformanceGap(t *testing.T) {
	onEachWay(t, testenv.Sized(2, len(shapes)), nil, func(t *testing.T, l *lab) {
		start := publish(t, l.hub, "t", "0")[0]
		for i := range 20 {
			publish(t, l.hub, "t", fmt.Sprint(i))
		}
		c := l.open("Last-Event-ID", start)
		equal(t, "gap", c.block(t), prelude+gapEvent)
		if b := c.block(t); !strings.HasPrefix(b, "data: 12\n") {
			t.Errorf("first after the gap: %q", b)
		}
	})
}

func TestConformanceSnapshot(t *testing.T) {
	onEachWay(t, testenv.Sized(2, len(shapes)), func(f *Feed, _ *Options) {
		f.Snapshot = func(context.Context) (any, error) { return "state", nil }
	}, func(t *testing.T, l *lab) {
		first := publish(t, l.hub, "t", "a")[0]
		c := l.open()
		equal(t, "snapshot", c.block(t), prelude+snapshotEvent(first, "state"))
		next := publish(t, l.hub, "t", "b")[0]
		equal(t, "change", c.block(t), event(next, "b"))
		c.leave()
		l.ended(ErrClientGone)
		c = l.open("Last-Event-ID", "of-another-life")
		equal(t, "gap", c.block(t), prelude+gapEvent)
		equal(t, "snapshot again", c.block(t), snapshotEvent(next, "state"))
		last := publish(t, l.hub, "t", "c")[0]
		equal(t, "change after it", c.block(t), event(last, "c"))
	})
}

func TestConformanceHeartbeat(t *testing.T) {
	onEachWay(t, testenv.Sized(2, len(shapes)), func(_ *Feed, o *Options) { o.Heartbeat = 5 * time.Millisecond }, func(t *testing.T, l *lab) {
		c := l.open()
		equal(t, "stated", c.Header.Get("Heartbeat-Interval"), "0.005")
		c.primed(t)
		for range 5 {
			line, err := c.r.ReadString('\n')
			if err != nil || line != ":\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
	})
}

func TestConformanceEnds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Feed, *Options)
		act    func(t *testing.T, l *lab)
		rest   string
		cause  error
	}{
		{"rotation", func(_ *Feed, o *Options) { o.MaxLifetime = 20 * time.Millisecond }, nil, "", ErrRotated},
		{"expiry", nil, nil, "retry: N\n", ErrExpired},
		{"drain", nil, func(_ *testing.T, l *lab) { l.o.Drain.Begin() }, "retry: N\n", ErrShutdown},
		{"shutdown of the hub", nil, func(t *testing.T, l *lab) {
			if err := l.hub.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}, "retry: N\n", ErrShutdown},
		{"close", nil, func(_ *testing.T, l *lab) { l.finish() }, "close", ErrFinished},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachWay(t, testenv.Sized(1, len(shapes)), func(f *Feed, o *Options) {
				o.Drain = &Drain{Window: 10 * time.Millisecond}
				if tc.change != nil {
					tc.change(f, o)
				}
			}, func(t *testing.T, l *lab) {
				if tc.cause == ErrExpired {
					// From the request on: a busy machine needs its time to connect.
					expire := func(_ *http.Request, o *Options) { o.ExpireAt = time.Now().Add(time.Second) }
					l.each.Store(&expire)
				}
				c := l.open()
				if tc.act != nil {
					c.primed(t)
					tc.act(t, l)
				}
				text := c.rest(t)
				if tc.act == nil {
					_, text, _ = strings.Cut(text, "\n\n")
				}
				if tc.rest == "close" {
					text, _, _ = strings.Cut(strings.TrimPrefix(text, "retry: N\nevent: "), "\n")
				}
				equal(t, "rest", text, tc.rest)
				l.ended(tc.cause)
			})
		})
	}
}

// TestConformanceFailure: what is broken off does not look like an end.
func TestConformanceFailure(t *testing.T) {
	onEachWay(t, testenv.Sized(1, 2), func(f *Feed, o *Options) {
		// The client reads when all is published, however long that takes.
		o.Retry, o.WriteTimeout = time.Millisecond, time.Hour
		var loads atomic.Int32
		f.Snapshot = func(context.Context) (any, error) {
			if loads.Add(1) > 1 {
				return nil, errors.New("no state")
			}
			return "state", nil
		}
	}, func(t *testing.T, l *lab) {
		c := l.open()
		c.block(t)
		// More than the sockets take, so that the stream falls behind what is retained.
		for range 30 {
			publish(t, l.hub, "t", strings.Repeat("x", 900<<10))
		}
		_, err := io.ReadAll(c.r)
		if err == nil {
			t.Error("the client takes it for a clean end")
		}
		l.ended(ErrFailed)
	})
}

// TestConformanceLarge: a message that no socket takes at once.
func TestConformanceLarge(t *testing.T) {
	onEachWay(t, testenv.Sized(1, 2), nil, func(t *testing.T, l *lab) {
		c := l.open()
		c.primed(t)
		data := strings.Repeat("0123456789abcdef", 60<<10)
		var ids []string
		for range 6 {
			ids = append(ids, publish(t, l.hub, "t", data)...)
		}
		for _, id := range ids {
			if got := c.block(t); got != event(id, data) {
				t.Fatalf("got %d bytes, want %d", len(got), len(event(id, data)))
			}
		}
		equal(t, "then", event(publish(t, l.hub, "t", "x")[0], "x"), c.block(t))
	})
}

// TestConformanceInput: what a client sends behind its request is no harm, and its leaving is
// noticed at once, by a half-closed connection too.
func TestConformanceInput(t *testing.T) {
	onEachWay(t, testenv.Sized(2, len(shapes)), func(_ *Feed, o *Options) { o.Heartbeat = time.Hour }, func(t *testing.T, l *lab) {
		if l.proto == "HTTP/2" {
			t.Skip("a stream of HTTP/2 has no connection of its own")
		}
		request := "GET / " + strings.Replace(l.proto, "TLS", "HTTP/1.1", 1) + "\r\nHost: x\r\n\r\n"
		conn := l.dial()
		if _, err := conn.Write([]byte(request + request + "garbage\x00")); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		for line := ""; !strings.HasPrefix(line, "id: "); {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			if err := half.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		if way := l.proto; way == "TLS" {
			conn.Close()
		}
		e := <-l.end
		isCause(t, e.Cause, ErrClientGone)
	})
}

// TestConformanceStalled: a client that takes nothing is given up after the write timeout, and
// holds nobody else.
func TestConformanceStalled(t *testing.T) {
	onEachWay(t, testenv.Sized(1, 2), nil, func(t *testing.T, l *lab) {
		if l.proto == "HTTP/2" {
			t.Skip("the client's own buffers take it")
		}
		timeout := func(r *http.Request, o *Options) {
			o.WriteTimeout = time.Hour // the other one reads when it gets to it
			if r.URL.Path == "/stalled" {
				o.WriteTimeout = 100 * time.Millisecond
			}
		}
		l.each.Store(&timeout)
		conn := l.dial()
		if _, err := conn.Write([]byte("GET /stalled " + strings.Replace(l.proto, "TLS", "HTTP/1.1", 1) + "\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		other := l.open()
		other.primed(t)
		data := string(bytes.Repeat([]byte("x"), 900<<10))
		for range 12 {
			id := publish(t, l.hub, "t", data)[0]
			if b := other.block(t); !strings.HasSuffix(b, "id: "+id+"\n\n") {
				t.Fatal("the other client missed one")
			}
		}
		e := <-l.end
		if !errors.Is(e.Cause, ErrWriteFailed) && !errors.Is(e.Cause, ErrClientGone) {
			t.Errorf("cause %v", e.Cause)
		}
		other.leave()
	})
}

// TestConformanceLeaseAndLimits: a stream that ends gives its place back, and a lease ends it.
func TestConformanceLeaseAndLimits(t *testing.T) {
	onEachWay(t, testenv.Sized(2, len(shapes)), func(f *Feed, o *Options) {
		o.Limits = &Limits{Max: 1}
		h := f.Hub
		f.Hello = func(context.Context) (sse.Event, error) {
			return sse.Event{Type: "hello", Data: fmt.Sprint(h != nil)}, nil
		}
	}, func(t *testing.T, l *lab) {
		own := l.o.Limits
		c := l.open()
		equal(t, "hello", c.block(t), prelude+"event: hello\ndata: true\n\n")
		equal(t, "checkpoint", strings.HasPrefix(c.block(t), "event: checkpoint\n"), true)
		equal(t, "open", own.Open(), 1)
		equal(t, "second", l.open().StatusCode, 503)
		if err := <-l.unwound; err != nil {
			t.Error(err)
		}
		c.leave()
		l.ended(ErrClientGone)
		for own.Open() != 0 {
			runtime.Gosched() // a detached stream gives its place back behind OnEnd
		}
	})
}

// TestConformanceContextEnds: a context that middleware ends ends the stream as a handler that
// returns does: the client sees the end of the response.
func TestConformanceContextEnds(t *testing.T) {
	reason := errors.New("the user has signed out")
	onEachWay(t, testenv.Sized(2, len(shapes)), func(_ *Feed, o *Options) { o.Detach = false }, func(t *testing.T, l *lab) {
		ends := make(chan context.CancelCauseFunc, 1)
		change := func(ctx context.Context) context.Context {
			ctx, end := context.WithCancelCause(ctx)
			ends <- end
			return ctx
		}
		l.context.Store(&change)
		c := l.open()
		c.primed(t)
		(<-ends)(reason)
		equal(t, "rest", c.rest(t), "")
		l.ended(reason)
	})
}

// TestConformanceContextNeverEnds: the places of a stream come back whatever its context does.
func TestConformanceContextNeverEnds(t *testing.T) {
	onEachWay(t, testenv.Sized(2, len(shapes)), func(_ *Feed, o *Options) { o.Limits, o.Drain = &Limits{Max: 1}, &Drain{} }, func(t *testing.T, l *lab) {
		change := context.WithoutCancel
		l.context.Store(&change)
		c := l.open()
		c.primed(t)
		l.finish()
		c.block(t)
		equal(t, "rest", c.rest(t), "")
		isCause(t, (<-l.end).Cause, ErrFinished)
		l.o.Drain.Begin()
		if err := l.o.Drain.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		equal(t, "open", l.o.Limits.Open(), 0)
	})
}

// TestConformancePanic: what Filter or Map panics with ends the stream, not as a clean end, and
// goes on to where the handler is called.
func TestConformancePanic(t *testing.T) {
	explode := func(_ string, m *hub.Message) {
		if string(m.Data) == "bad" {
			panic(http.ErrAbortHandler) // which the server does not print
		}
	}
	for name, change := range map[string]func(*Feed){
		"filter": func(f *Feed) {
			f.Filter = func(topic string, m *hub.Message) bool { explode(topic, m); return true }
		},
		"map": func(f *Feed) {
			f.Map = func(topic string, m *hub.Message) []sse.Event { explode(topic, m); return mapSame(topic, m) }
		},
	} {
		for _, topics := range [][]string{{"t"}, {"t", "a"}} {
			t.Run(fmt.Sprint(name, " ", len(topics)), func(t *testing.T) {
				onWays(t, topics, func(_ *lab, f *Feed, _ *Options) {
					change(f)
				}, func(t *testing.T, l *lab) {
					c := l.open()
					c.primed(t)
					id := publish(t, l.hub, "t", "good")[0]
					equal(t, "before", c.block(t), event(id, "good"))
					publish(t, l.hub, "t", "bad")
					b, err := io.ReadAll(c.r)
					if err == nil {
						t.Errorf("the client takes it for a clean end, after %q", b)
					}
					if l.proto != "HTTP/1.0" { // a reset may overtake it
						equal(t, "last", string(b), "event: stream-error\ndata: {}\n\n")
					}
					isCause(t, (<-l.end).Cause, ErrPanicked)
					t.Log("the context of the request, behind the handler:", <-l.unwound)
					for l.hub.Stats().Subscriptions > 0 {
						runtime.Gosched() // a detached stream lets go behind OnEnd
					}
				})
			})
		}
	}
}

// TestConformanceSlowCode: user code that does not return holds its own connection and no other,
// and its stream ends when it has returned.
func TestConformanceSlowCode(t *testing.T) {
	for _, topics := range [][]string{{"t"}, {"t", "a"}} {
		t.Run(fmt.Sprint(len(topics)), func(t *testing.T) {
			onWays(t, topics, func(l *lab, f *Feed, _ *Options) {
				l.blocked, l.release = make(chan struct{}), make(chan struct{})
				var others atomic.Bool
				f.Filter = func(_ string, m *hub.Message) bool {
					if string(m.Data) == "slow" && !others.Swap(true) {
						close(l.blocked)
						<-l.release
					}
					return true
				}
			}, func(t *testing.T, l *lab) {
				release := sync.OnceFunc(func() { close(l.release) })
				defer release()
				clients := make([]*follower, 5)
				for i := range clients {
					clients[i] = l.open()
					clients[i].primed(t)
				}
				// So often that their code is trusted, and run by the shards.
				read := func(c *follower, ids []string, data string) {
					for _, id := range ids {
						equal(t, "message", c.block(t), event(id, data))
					}
				}
				for range 10 {
					ids := publish(t, l.hub, "t", "quick")
					for _, c := range clients {
						read(c, ids, "quick")
					}
				}
				slow := publish(t, l.hub, "t", "slow")
				<-l.blocked
				rest := publish(t, l.hub, "t", "a", "a") // fewer than the topic's window has
				passed := make(chan *follower, len(clients))
				for _, c := range clients {
					go func() {
						if c.block(t) == event(slow[0], "slow") {
							read(c, rest, "a")
							passed <- c
						}
					}()
				}
				for range len(clients) - 1 {
					<-passed
				}
				release()
				(<-passed).leave()
				for _, c := range clients {
					c.leave()
				}
				for range clients {
					l.ended(ErrClientGone)
				}
			})
		})
	}
}
