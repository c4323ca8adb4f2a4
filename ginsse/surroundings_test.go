package ginsse_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// place is a way in which a route is served and read. Compression is tested in
// integration/middleware.
type place struct {
	name  string
	use   []gin.HandlerFunc
	serve func(testing.TB, http.Handler) *httptest.Server
	open  func(testing.TB, *httptest.Server, string) *stream
}

var places = []place{
	{"HTTP/1.1", nil, newServer, openPlain},
	{"HTTP/1.0", nil, newServer, openHTTP10},
	{"HTTP/2", nil, newHTTP2Server, openPlain},
	{"a writer with Unwrap", []gin.HandlerFunc{wrap}, newServer, openPlain},
	{"a writer without Unwrap", []gin.HandlerFunc{hide}, newServer, openPlain},
	{"writers in each other", []gin.HandlerFunc{hide, wrap, hide}, newServer, openPlain},
}

func openPlain(t testing.TB, s *httptest.Server, path string) *stream {
	t.Helper()
	return open(t, s.Client(), s.URL+path, "Accept", "text/event-stream")
}

func newHTTP2Server(t testing.TB, handler http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func openHTTP10(t testing.TB, s *httptest.Server, path string) *stream {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{resp, sse.NewDecoder(resp.Body), func() { conn.Close() }}
}

// hide is middleware that counts what is written, by a writer that has no way to the one below,
// as many do.
func hide(c *gin.Context) {
	c.Writer = &counting{ResponseWriter: c.Writer}
	c.Next()
}

// wrap is the same with such a way.
func wrap(c *gin.Context) {
	c.Writer = &unwrapping{counting{ResponseWriter: c.Writer}}
	c.Next()
}

type counting struct {
	gin.ResponseWriter
	n int
}

func (w *counting) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += n
	return n, err
}

type unwrapping struct{ counting }

func (w *unwrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestPlaces holds that a generator and a feed arrive event by event, each before the next is
// made, and end cleanly.
func TestPlaces(t *testing.T) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			h := newHub(t)
			received := make(chan struct{})
			route := ginsse.SSE[none]("/generator").Options(quiet).Handle(func(c *ginsse.Context[none]) seq {
				return func(yield func(sse.Event, error) bool) {
					for i := range 3 {
						if !yield(sse.Event{Data: i}, nil) {
							return
						}
						select {
						case <-received:
						case <-c.Context().Done():
							return
						}
					}
				}
			})
			r := gin.New()
			r.Use(gin.RecoveryWithWriter(io.Discard))
			r.Use(place.use...)
			mount(t, r, route, ginsse.SSE[none]("/feed").Options(quiet).Topic(h, "x"))
			server := place.serve(t, r)

			s := place.open(t, server, "/generator")
			for i := range 3 {
				s.expect(t, fmt.Sprint("||", i))
				received <- struct{}{}
			}
			s.expectEnd(t, true)

			s = place.open(t, server, "/feed")
			if e, err := s.Decode(); err != nil || e.Type != "checkpoint" {
				t.Fatalf("%+v, %v", e, err)
			}
			for range 3 {
				id := publish(t, h, "x", "text")
				s.expect(t, "|"+id+"|text")
			}
			if err := h.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.expectEnd(t, true)
		})
	}
}

// TestRecorder holds that a route can be tested without a server.
func TestRecorder(t *testing.T) {
	h := newHub(t)
	id := publish(t, h, "x", "1")
	if _, err := h.Finish(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	o := quiet
	o.Start = hub.Earliest()
	w := get(engine(t, ginsse.SSE[none]("/x").Options(o).Topic(h, "x")), "/x")
	if got := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(got, "\ndata: 1\nid: "+id+"\n\n") || !strings.Contains(got, "event: close\n") || !w.Flushed {
		t.Errorf("%d %q", w.Code, got)
	}
}

// TestServerWriteTimeout holds that streams outlive http.Server.WriteTimeout: it is over when so
// many heartbeats have come.
func TestServerWriteTimeout(t *testing.T) {
	for _, place := range places {
		if place.name == "HTTP/1.0" || place.name == "HTTP/2" {
			continue // the lines are read as they come
		}
		for _, path := range []string{"/x", "/feed"} {
			t.Run(place.name+path, func(t *testing.T) {
				t.Parallel()
				outliveWriteTimeout(t, place.use, path, func(s *http.Server) (*http.Client, string) {
					server := httptest.NewUnstartedServer(s.Handler)
					server.Config.WriteTimeout = s.WriteTimeout
					server.Start()
					t.Cleanup(server.Close)
					return server.Client(), server.URL
				})
			})
		}
	}
}

// TestServerWriteTimeoutHTTP2 is that for HTTP/2, where a stream ends as soon as the time is
// over: a busy machine needs it all to connect. So time is fake, and connections are pipes.
func TestServerWriteTimeoutHTTP2(t *testing.T) {
	for _, path := range []string{"/x", "/feed"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				outliveWriteTimeout(t, nil, path, func(s *http.Server) (*http.Client, string) {
					conns := make(pipes)
					s.Protocols = new(http.Protocols)
					s.Protocols.SetUnencryptedHTTP2(true)
					served := make(chan error, 1)
					go func() { served <- s.Serve(conns) }()
					transport := &http.Transport{Protocols: s.Protocols, DialContext: conns.dial}
					t.Cleanup(func() {
						transport.CloseIdleConnections()
						_ = s.Close()
						if err := <-served; err == nil {
							t.Error("a server that was closed has no error")
						}
					})
					return &http.Client{Transport: transport}, "http://pipe"
				})
			})
		})
	}
}

// pipes is a listener whose connections stay in the process.
type pipes chan net.Conn

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p <- far
	return near, nil
}

// Accept implements net.Listener.
func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (p pipes) Close() error {
	close(p)
	return nil
}

// Addr implements net.Listener.
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// outliveWriteTimeout reads a route's stream over a server with a write timeout, until twice that
// time is over, and what comes then.
func outliveWriteTimeout(t *testing.T, use []gin.HandlerFunc, path string, start func(*http.Server) (*http.Client, string)) {
	t.Helper()
	const timeout, heartbeat = 200 * time.Millisecond, 25 * time.Millisecond
	o := quiet
	o.Heartbeat = heartbeat
	h := newHub(t)
	enough := make(chan struct{})
	r := gin.New()
	r.Use(use...)
	mount(t, r, ginsse.SSE[none]("/feed").Options(o).Topic(h, "x"),
		generator(func(c *ginsse.Context[none], yield func(sse.Event, error) bool) {
			select {
			case <-enough:
				yield(sse.Event{Data: "last"}, nil)
			case <-c.Context().Done():
			}
		}).Options(o))
	client, url := start(&http.Server{Handler: r, WriteTimeout: timeout})
	st := open(t, client, url+path)
	body := bufio.NewReader(st.Body)
	for beats := 0; beats < int(2*timeout/heartbeat); {
		line, err := body.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d heartbeats: %v", beats, err)
		}
		if line == ":\n" {
			beats++
		}
	}
	close(enough)
	publish(t, h, "x", "last")
	st.Decoder = sse.NewDecoder(body)
	if e, err := st.Decode(); err != nil || e.Text() != "last" {
		t.Errorf("%+v, %v", e, err)
	}
	st.leave()
}

// TestUnflushable holds that behind http.TimeoutHandler, which keeps everything back, a route
// says so at once, to the client and to the operator.
func TestUnflushable(t *testing.T) {
	var log bytes.Buffer
	o := ginsse.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	var left []*gin.Error
	r := gin.New()
	r.Use(func(c *gin.Context) { c.Next(); left = c.Errors })
	mount(t, r,
		ginsse.SSE[none]("/feed").Options(o).Topic(newHub(t), "x"),
		ginsse.SSE[none]("/generator").Options(o).Handle(func(*ginsse.Context[none]) seq {
			t.Error("the generator was started")
			return events()
		}))
	for _, path := range []string{"/feed", "/generator"} {
		log.Reset()
		w := get(http.TimeoutHandler(r, deadline, ""), path)
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "ok") {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "TimeoutHandler") || !strings.Contains(log.String(), path) {
			t.Errorf("%s: %d lines in the log: %s", path, n, &log)
		}
		if len(left) != 1 {
			t.Errorf("c.Errors: %v", left)
		}
	}
}

// TestGinLogger holds that access logs have the stream's status and size, when it has ended.
func TestGinLogger(t *testing.T) {
	var lines []gin.LogFormatterParams
	r := gin.New()
	r.Use(gin.LoggerWithConfig(gin.LoggerConfig{Output: io.Discard, Formatter: func(p gin.LogFormatterParams) string {
		lines = append(lines, p)
		return ""
	}}))
	mount(t, r, ginsse.SSE[struct{ N int }]("/x/:n").Options(quiet).Handle(func(*ginsse.Context[struct{ N int }]) seq { return events(sse.Event{Data: "a"}) }))
	stream, refused := get(r, "/x/1?q=1"), get(r, "/x/"+canary)
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, w := range []*httptest.ResponseRecorder{stream, refused} {
		if p := lines[i]; p.StatusCode != w.Code || p.BodySize != w.Body.Len() || strings.Contains(p.ErrorMessage, canary) {
			t.Errorf("logged %d, %d bytes, %q; sent %d, %d bytes", p.StatusCode, p.BodySize, p.ErrorMessage, w.Code, w.Body.Len())
		}
	}
	if lines[0].ErrorMessage != "" || lines[1].ErrorMessage == "" {
		t.Errorf("errors %q and %q", lines[0].ErrorMessage, lines[1].ErrorMessage)
	}
}

// TestMiddlewareBehindStream holds that middleware that writes and flushes when the stream is
// over, or goes on without the handler, breaks nothing.
func TestMiddlewareBehindStream(t *testing.T) {
	for _, detach := range []bool{false, true} {
		t.Run(fmt.Sprintf("detach=%t", detach), func(t *testing.T) {
			h := newHub(t)
			o := quiet
			o.Detach = detach
			wrote := make(chan error, 1)
			r := gin.New()
			r.Use(func(c *gin.Context) {
				c.Next()
				_, err := c.Writer.WriteString("late")
				c.Writer.Flush()
				_ = http.NewResponseController(c.Writer).Flush()
				c.Writer.WriteHeaderNow()
				wrote <- err
			})
			mount(t, r, ginsse.SSE[none]("/x").Options(o).Topic(h, "x"))
			w := openWhole(t, newServer(t, r), "/x")
			if _, err := h.Finish(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(w.Body); err != nil || strings.Contains(string(rest), "late") {
				t.Errorf("the stream ended with %q, %v", rest, err)
			}
			if err := receive(t, wrote); !errors.Is(err, http.ErrHijacked) {
				t.Errorf("writing behind the stream: %v", err)
			}
		})
	}
}

// TestErrorMiddleware holds that middleware that answers behind a stream, as those do that make
// JSON of c.Errors, adds nothing to it and to the server's log, however the stream was written.
func TestErrorMiddleware(t *testing.T) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			h := newHub(t)
			answered := make(chan int, 1)
			r := gin.New()
			r.Use(func(c *gin.Context) {
				c.Next()
				c.JSON(http.StatusTeapot, gin.H{"data": canary})
				c.String(http.StatusTeapot, "data: "+canary+"\n\n")
				c.AbortWithStatus(http.StatusTeapot)
				c.Writer.WriteHeaderNow()
				c.Writer.Flush()
				_ = http.NewResponseController(c.Writer).Flush()
				answered <- c.Writer.Status()
			})
			r.Use(place.use...)
			mount(t, r, ginsse.SSE[none]("/feed").Options(quiet).Topic(h, "x"), ginsse.SSE[none]("/generator").Options(quiet).Handle(func(*ginsse.Context[none]) seq {
				return events(sse.Event{Data: "a"})
			}))
			server := place.serve(t, r)
			var said bytes.Buffer
			server.Config.ErrorLog = log.New(&said, "", 0) // nothing was served yet
			for _, path := range []string{"/generator", "/feed"} {
				s := place.open(t, server, path)
				if path == "/feed" {
					if _, err := h.Finish(t.Context(), "x"); err != nil {
						t.Fatal(err)
					}
				}
				rest, err := io.ReadAll(s.Body)
				if err != nil || strings.Contains(string(rest), canary) {
					t.Errorf("%s: %q, %v", path, rest, err)
				}
				if got := receive(t, answered); got != http.StatusOK {
					t.Errorf("%s: middleware sees status %d", path, got)
				}
			}
			server.Close()
			if said.Len() > 0 {
				t.Errorf("the server's log: %s", &said)
			}
		})
	}
}

// TestAnswerWithoutBody holds that middleware cannot change an answer that has no body, or add to a
// refusal that is a stream.
func TestAnswerWithoutBody(t *testing.T) {
	h := newHub(t)
	r := gin.New()
	r.Use(func(c *gin.Context) {
		c.Next()
		c.JSON(http.StatusTeapot, gin.H{"data": canary})
	})
	absent, drained := quiet, quiet
	absent.Absent = http.StatusNoContent
	drained.Drain = &feed.Drain{}
	drained.Drain.Begin()
	mount(t, r, ginsse.SSE[none]("/absent").Options(absent).Topic(h, "absent"), ginsse.SSE[none]("/feed").Options(quiet).Topic(h, "x"),
		ginsse.SSE[none]("/drained").Options(drained).Topic(h, "x"),
		ginsse.SSE[none]("/refused").Options(quiet).Guard(func(*ginsse.Context[none]) error { return ginsse.Status(503, errors.New("later")) }).Topic(h, "x"),
		ginsse.SSE[none]("/generator").Options(quiet).Handle(func(*ginsse.Context[none]) seq { return events() }))
	server := httptest.NewServer(r)
	defer server.Close()
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/absent", 204}, {"HEAD", "/absent", 204}, {"HEAD", "/feed", 200}, {"HEAD", "/generator", 200},
		{"HEAD", "/drained", 200}, {"HEAD", "/refused", 200}, {"GET", "/drained", 200}, {"GET", "/refused", 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != test.status || bytes.Contains(body, []byte(canary)) || strings.Contains(resp.Header.Get("Content-Type"), "json") {
			t.Errorf("%s %s: %d, %q, %v", test.method, test.path, resp.StatusCode, body, resp.Header)
		}
	}
}

// TestMiddlewareBehindPanic is that for a stream that ends with a panic.
func TestMiddlewareBehindPanic(t *testing.T) {
	h := newHub(t)
	o := quiet
	o.OnEnd = func(feed.End) { panic("of OnEnd") }
	flushed := make(chan any, 1)
	r := gin.New()
	r.Use(func(c *gin.Context) {
		defer func() { flushed <- recover() }()
		c.Next()
		c.Writer.Flush()
	}, gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { c.AbortWithStatus(http.StatusInternalServerError) }))
	mount(t, r, ginsse.SSE[none]("/x").Options(o).Topic(h, "x"))
	w := openWhole(t, newServer(t, r), "/x")
	if _, err := h.Finish(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if p := receive(t, flushed); p != nil {
		t.Errorf("panic: %v", p)
	}
	w.Body.Close()
}

// TestMethods holds that a route is one for GET and HEAD, and other methods are what Gin makes of
// them.
func TestMethods(t *testing.T) {
	r := engine(t, generator(func(*ginsse.Context[none], func(sse.Event, error) bool) { t.Error("the generator was started") }))
	for _, allowed := range []bool{false, true} {
		r.HandleMethodNotAllowed = allowed
		want := http.StatusNotFound
		if allowed {
			want = http.StatusMethodNotAllowed
		}
		for _, method := range []string{http.MethodPost, http.MethodOptions, http.MethodPut, http.MethodDelete} {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest(method, "/x", nil))
			if w.Code != want || allowed && w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: %d, Allow %q; want %d", method, w.Code, w.Header().Get("Allow"), want)
			}
		}
	}
}

func TestAccept(t *testing.T) {
	h := newHub(t)
	var topic string
	r := engine(t, generator(func(*ginsse.Context[none], func(sse.Event, error) bool) {}), ginsse.SSE[none]("/feed").Options(lookOnly(&topic)).Topic(h, "x"))
	for accept, want := range map[string]int{
		"":                                     200,
		"text/event-stream":                    200,
		"TEXT/Event-Stream":                    200,
		"text/event-stream; charset=utf-8":     200,
		"text/event-stream;q=0.1":              200,
		"*/*":                                  200,
		"text/*":                               200,
		"text/html, */*;q=0.1":                 200,
		"application/json, text/event-stream":  200,
		" , ,":                                 200,
		"application/json":                     406,
		"text/html":                            406,
		"text/event-stream;q=0":                406,
		"text/event-stream ; q=0.000":          406,
		"*/*;q=0":                              406,
		"event-stream":                         200, // nothing that can be read
		"event-stream, text/html":              406,
		"text/event-streams":                   406,
		"application/*":                        406,
		strings.Repeat("application/x, ", 999): 406,
		";;;===,,,\"":                          200,
	} {
		for _, path := range []string{"/x", "/feed"} {
			var headers []string
			if accept != "" {
				headers = []string{"Accept", accept}
			}
			if w := get(r, path, headers...); w.Code != want {
				t.Errorf("%s with Accept %.60q: %d, want %d", path, accept, w.Code, want)
			}
		}
	}
}

// TestHeadersOfMiddleware holds that what middleware has set for the response, CORS for one, is
// sent with the stream, and nothing of the kind comes by itself.
func TestHeadersOfMiddleware(t *testing.T) {
	server := newServer(t, engine(t,
		generator(func(*ginsse.Context[none], func(sse.Event, error) bool) {}),
		ginsse.SSE[none]("/cors").Options(quiet).Use(func(c *gin.Context) {
			c.Header("Access-Control-Allow-Origin", "https://example.org")
			c.Header("Vary", "Origin")
			c.SetCookie("seen", "1", 0, "/", "", true, true)
		}).Handle(func(*ginsse.Context[none]) seq { return events() })))
	with := open(t, server.Client(), server.URL+"/cors", "Origin", "https://example.org").Header
	if with.Get("Access-Control-Allow-Origin") != "https://example.org" || with.Get("Vary") != "Origin" || with.Get("Set-Cookie") == "" {
		t.Errorf("headers %v", with)
	}
	without := open(t, server.Client(), server.URL+"/x", "Origin", "https://example.org").Header
	for name := range without {
		if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
			t.Errorf("%s: %v", name, without[name])
		}
	}
}

// TestManyStreams (FAILURES S21): streams at once, some left early, each sees its own request
// only, though Gin uses its contexts again.
func TestManyStreams(t *testing.T) {
	type params struct {
		Org string
		N   int
		Tag string `query:"tag"`
	}
	const streams = 200
	started := make(chan struct{}, streams)
	meet := make(chan struct{})
	r := gin.New()
	var group sync.WaitGroup
	r.Use(func(c *gin.Context) {
		c.Set("n", c.Param("n"))
		c.Next()
	})
	mount(t, r.Group("/:org"), ginsse.SSE[params]("/:n").Options(quiet).Handle(func(c *ginsse.Context[params]) seq {
		return func(yield func(sse.Event, error) bool) {
			p, ctx := c.Params, c.Context()
			left := make(chan struct{})
			group.Go(func() { // what may outlive the handler
				<-ctx.Done()
				close(left)
				_ = fmt.Sprint(p, context.Cause(ctx))
			})
			started <- struct{}{}
			for i := 0; ; i++ {
				if !yield(sse.Event{Data: fmt.Sprintf("%s %d %s %s %s %s",
					c.Params.Org, c.Params.N, c.Params.Tag, c.Gin().GetString("n"), c.Gin().Param("n"), c.Request().URL.Path)}, nil) || i == 3 {
					return
				}
				select {
				case <-meet:
				case <-left:
					return
				}
			}
		}
	}))
	server := newServer(t, r)
	var clients sync.WaitGroup
	for n := range streams {
		clients.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/acme/%d?tag=t%d", server.URL, n, n), nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := server.Client().Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			d := sse.NewDecoder(resp.Body)
			for i := range 4 {
				e, err := d.Decode()
				if want := fmt.Sprintf("acme %[1]d t%[1]d %[1]d %[1]d /acme/%[1]d", n); err != nil || e.Text() != want {
					t.Errorf("stream %d, event %d: %q, %v", n, i, e.Text(), err)
					return
				}
				if n%3 == 0 && i == 1 {
					return
				}
			}
		})
	}
	for range streams {
		receive(t, started)
	}
	close(meet)
	clients.Wait()
	server.Close()
	group.Wait()
}
