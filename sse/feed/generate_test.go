package feed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/sse"
)

type yieldFunc = func(sse.Event, error) bool

// generator returns a handler that runs f, with the error of Generate sent to errs unless that is
// nil.
func generator(o Options, errs chan<- error, f func(ctx context.Context, yield yieldFunc)) http.Handler {
	if o.Logger == nil {
		o.Logger = quiet()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := Generate(w, r, func(ctx context.Context) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) { f(ctx, yield) }
		}, o)
		if errs != nil {
			errs <- err
		}
	})
}

func TestGenerate(t *testing.T) {
	onEnd, end := ends()
	errs := make(chan error, 1)
	w := record(generator(Options{OnEnd: onEnd}, errs, func(_ context.Context, yield yieldFunc) {
		for i := range 3 {
			yield(sse.Event{Type: "tick", Data: i}, nil)
		}
	}), get("/"))
	if err := <-errs; err != nil {
		t.Error(err)
	}
	equal(t, "body", retryLine.ReplaceAllString(w.Body.String(), "retry: N\n"),
		prelude+"event: tick\ndata: 0\n\nevent: tick\ndata: 1\n\nevent: tick\ndata: 2\n\n")
	e := <-end
	isCause(t, e.Cause, ErrFinished)
	equal(t, "events", e.Events, 3)
	equal(t, "bytes", e.Bytes, int64(w.Body.Len()))
}

func TestGenerateRefusals(t *testing.T) {
	for _, tc := range []struct {
		method, accept string
		code           int
		err            error
	}{
		{"POST", "", 405, ErrMethod},
		{"GET", "application/json", 406, ErrAccept},
		{"HEAD", "", 200, nil},
	} {
		errs := make(chan error, 1)
		r := httptest.NewRequest(tc.method, "/", nil)
		r.Header.Set("Accept", tc.accept)
		w := record(generator(Options{}, errs, func(context.Context, yieldFunc) { t.Error("the generator was started") }), r)
		equal(t, tc.method+" status", w.Code, tc.code)
		if err := <-errs; !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", tc.method, err)
		}
	}
	errs := make(chan error, 1)
	h := generator(Options{}, errs, func(context.Context, yieldFunc) { t.Error("the generator was started") })
	equal(t, "buffered", record(http.TimeoutHandler(h, time.Minute, ""), get("/")).Code, 500)
	isCause(t, <-errs, sse.ErrNotFlushable)
}

// TestGenerateClientLeaves: the context ends at once, yield returns false, and deferred functions
// ran before the handler returned.
func TestGenerateClientLeaves(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		errs := make(chan error, 1)
		deferred := false
		var told time.Time
		client, stop := memServer(generator(Options{Heartbeat: time.Hour}, errs, func(ctx context.Context, yield yieldFunc) {
			defer func() { deferred = true }()
			yield(sse.Event{Data: "a"}, nil)
			<-ctx.Done()
			told = time.Now()
			isCause(t, context.Cause(ctx), ErrClientGone)
			equal(t, "yield", yield(sse.Event{Data: "a"}, nil), false)
		}), http2, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		equal(t, "first", c.block(t), prelude+"data: a\n\n")
		left := time.Now().Add(20 * time.Second)
		time.Sleep(20 * time.Second)
		c.leave()
		isCause(t, <-errs, ErrClientGone)
		equal(t, "told at", told, left)
		equal(t, "deferred functions ran", deferred, true)
	})
}

func TestGenerateHeartbeats(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		client, stop := memServer(generator(Options{}, nil, func(_ context.Context, yield yieldFunc) {
			time.Sleep(50 * time.Second)
			yield(sse.Event{Data: "a"}, nil)
		}), http2, func(s *http.Server) { s.WriteTimeout = time.Second })
		defer stop()
		c := connect(t, client, "http://memory/", "")
		equal(t, "body", c.rest(t), prelude+":\n:\n:\ndata: a\n\n")
	})
}

// recovering is like the recovery middleware of frameworks: the panic ends there, and the handler
// returns.
func recovering(next http.Handler, recovered chan<- any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { recovered <- recover() }()
		next.ServeHTTP(w, r)
	})
}

// broken are generators that must not end like good ones.
var broken = map[string]func(ctx context.Context, yield yieldFunc){
	"panic": func(_ context.Context, yield yieldFunc) {
		yield(sse.Event{Data: "a"}, nil)
		panic("boom")
	},
	"error": func(_ context.Context, yield yieldFunc) {
		yield(sse.Event{Data: "a"}, nil)
		yield(sse.Event{}, errors.New("password=secret"))
	},
}

// TestGenerateBrokenHTTP1: what the client reads is neither the last chunk nor, over HTTP/1.0, an
// orderly end, although a middleware recovered.
func TestGenerateBrokenHTTP1(t *testing.T) {
	for name, f := range broken {
		for _, version := range []string{"1.0", "1.1"} {
			t.Run(name+" over "+version, func(t *testing.T) {
				recovered := make(chan any, 1)
				seen := make(chan struct{})
				logger, log := logged()
				s := server(t, recovering(generator(Options{Logger: logger}, nil, func(ctx context.Context, yield yieldFunc) {
					f(ctx, func(e sse.Event, err error) bool {
						ok := yield(e, err)
						if err == nil {
							<-seen // a reset overtakes what was sent before it
						}
						return ok
					})
				}), recovered))
				conn, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprintf(conn, "GET / HTTP/%s\r\nHost: x\r\n\r\n", version)
				r := bufio.NewReader(conn)
				var head strings.Builder
				for !strings.Contains(head.String(), "data: a\n\n") {
					b, err := r.ReadByte()
					if err != nil {
						t.Fatal(err)
					}
					head.WriteByte(b)
				}
				close(seen)
				rest, err := io.ReadAll(r)
				text := head.String() + string(rest)
				if version == "1.0" && err == nil {
					t.Errorf("an orderly end after %q", text)
				}
				if strings.HasSuffix(text, "0\r\n\r\n") {
					t.Errorf("the last chunk was sent: %q", text)
				}
				if name == "error" && version == "1.1" && !strings.Contains(text, "event: stream-error\ndata: {}\n\n") {
					t.Errorf("no stream-error in %q", text)
				}
				if strings.Contains(text, "secret") {
					t.Errorf("the client was told: %q", text)
				}
				if got, want := <-recovered, map[string]any{"panic": "boom"}[name]; got != want {
					t.Errorf("recovered %v, want %v", got, want)
				}
				if !strings.Contains(log(), "level=WARN") || !strings.Contains(log(), "stream aborted") {
					t.Errorf("log: %s", log())
				}
				if name == "error" && !strings.Contains(log(), "secret") {
					t.Errorf("the log does not say why: %s", log())
				}
			})
		}
	}
}

// TestGenerateBrokenClients: a client of net/http sees an error and not the end, over both
// versions.
func TestGenerateBrokenClients(t *testing.T) {
	for name, f := range broken {
		for _, over := range []string{"HTTP1", "HTTP1 and TLS", "HTTP2"} {
			t.Run(name+" over "+over, func(t *testing.T) {
				recovered := make(chan any, 1)
				s := httptest.NewUnstartedServer(recovering(generator(Options{}, nil, f), recovered))
				s.EnableHTTP2 = over == "HTTP2"
				if over == "HTTP1" {
					s.Start()
				} else {
					s.StartTLS()
				}
				t.Cleanup(s.Close)
				c := connect(t, s.Client(), s.URL, "")
				_, err := io.ReadAll(c.r)
				if err == nil {
					t.Error("the stream ended cleanly")
				}
				if over == "HTTP1" && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("the client saw %v", err)
				}
				<-recovered
			})
		}
	}
}

func TestGenerateShutdown(t *testing.T) {
	for _, kind := range []string{"context", "drain"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				errs := make(chan error, 1)
				drain := &Drain{}
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				client, stop := memServer(generator(Options{Drain: drain}, errs, func(ctx context.Context, _ yieldFunc) {
					<-ctx.Done()
					isCause(t, context.Cause(ctx), ErrShutdown)
				}), false, func(s *http.Server) {
					s.BaseContext = func(net.Listener) context.Context { return ctx }
				})
				defer stop()
				c := connect(t, client, "http://memory/", "")
				synctest.Wait()
				if kind == "context" {
					cancel(ErrShutdown)
				} else {
					drain.Begin()
				}
				equal(t, "body", c.rest(t), prelude+"retry: N\n")
				if err := <-errs; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
