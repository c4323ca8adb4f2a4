package sse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// serve starts a server for one handler and returns its answer to a GET.
func serve(t *testing.T, http2 bool, configure func(*http.Server), h http.HandlerFunc) *http.Response {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = http2
	if configure != nil {
		configure(server.Config)
	}
	if http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	want := 1
	if http2 {
		want = 2
	}
	if resp.ProtoMajor != want {
		t.Fatalf("the server speaks %s", resp.Proto)
	}
	return resp
}

// pipes is a listener whose connections stay in the process.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// serveInBubble is serve within a synctest bubble: connections are pipes, and HTTP/2 comes
// without TLS.
func serveInBubble(t *testing.T, http2 bool, configure func(*http.Server), h http.HandlerFunc) *http.Response {
	t.Helper()
	listener, protocols := newPipes(), new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	server := &http.Server{Handler: h, Protocols: protocols}
	if configure != nil {
		configure(server)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	transport := &http.Transport{DialContext: listener.dial, Protocols: protocols}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		if err := <-served; err == nil {
			t.Error("a server that was closed has no error")
		}
	})
	resp, err := (&http.Client{Transport: transport}).Get("http://pipe/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// onBothInBubble has fake time: what a write timeout of real time leaves to a busy machine may be
// too little.
func onBothInBubble(t *testing.T, test func(t *testing.T, http2 bool)) {
	onBoth(t, func(t *testing.T, http2 bool) {
		synctest.Test(t, func(t *testing.T) { test(t, http2) })
	})
}

func onBoth(t *testing.T, test func(t *testing.T, http2 bool)) {
	t.Run("HTTP1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP2", func(t *testing.T) { test(t, true) })
}

func TestRespondSendsHeadersAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, http2 bool) {
		release := make(chan struct{})
		resp := serve(t, http2, nil, func(w http.ResponseWriter, r *http.Request) {
			if _, err := Respond(w, r); err != nil {
				t.Error(err)
			}
			<-release
		})
		defer close(release)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" || resp.ContentLength != -1 {
			t.Errorf("status %d, headers %v", resp.StatusCode, resp.Header)
		}
	})
}

func TestWriterSendsEachEventAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, http2 bool) {
		next := make(chan struct{})
		resp := serve(t, http2, nil, func(w http.ResponseWriter, r *http.Request) {
			out, err := Respond(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			large := strings.Repeat("x", 3*batchBytes)
			for _, send := range []func() error{
				func() error { return out.Send(Event{ID: "1", Data: "a"}) },
				func() error { return out.Write([]byte("data: b\n"), []byte("data: c\n\n")) },
				func() error { return out.Send(Event{Data: large}) },
				func() error {
					return out.Write([]byte("data: "), []byte(large), []byte("\n"), []byte("data: d\n\n"))
				},
			} {
				if err := send(); err != nil {
					t.Error(err)
				}
				<-next
			}
		})
		d := NewDecoder(resp.Body)
		for _, want := range []int{1, 3, 3 * batchBytes, 3*batchBytes + 2} {
			e, err := d.Decode()
			if err != nil || len(e.Text()) != want || e.ID != "1" {
				t.Fatalf("%.20q, %v; want %d bytes", e.Text(), err, want)
			}
			next <- struct{}{}
		}
		if _, err := d.Decode(); err != io.EOF {
			t.Errorf("the clean end is %v", err)
		}
	})
}

// The stream outlives the server's WriteTimeout.
func TestStreamOutlivesWriteTimeout(t *testing.T) {
	onBothInBubble(t, func(t *testing.T, http2 bool) {
		const timeout = 200 * time.Millisecond
		resp := serveInBubble(t, http2, func(s *http.Server) { s.WriteTimeout = timeout }, func(w http.ResponseWriter, r *http.Request) {
			out, err := Respond(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			for range 2 {
				past(t, 2*timeout)
				if err := out.Send(Event{Data: "a"}); err != nil {
					t.Errorf("after %v: %v", 2*timeout, err)
				}
			}
		})
		events := 0
		for _, err := range Read(resp.Body) {
			if err != nil {
				t.Error(err)
			}
			events++
		}
		if events != 2 {
			t.Errorf("%d events", events)
		}
	})
}

// The write timeout itself, once cleared, must not end a quiet stream either.
func TestWriteTimeoutCountsWritesOnly(t *testing.T) {
	onBothInBubble(t, func(t *testing.T, http2 bool) {
		const timeout = 100 * time.Millisecond
		resp := serveInBubble(t, http2, nil, func(w http.ResponseWriter, r *http.Request) {
			out, err := Respond(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			out.SetWriteTimeout(timeout)
			for range 2 {
				if err := out.Send(Event{Data: "a"}); err != nil {
					t.Error(err)
				}
				past(t, 2*timeout)
			}
		})
		events := 0
		for _, err := range Read(resp.Body) {
			if err != nil {
				t.Error(err)
			}
			events++
		}
		if events != 2 {
			t.Errorf("%d events", events)
		}
	})
}

// past returns when a connection's deadline of d has run out, which is how the
// server measures its timeouts.
func past(t *testing.T, d time.Duration) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_ = a.SetReadDeadline(time.Now().Add(d))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("waiting ended with %v", err)
	}
}

// A client that reads nothing blocks the writer for the write timeout at most,
// and the error stays.
func TestWriterGivesUpOnStalledClients(t *testing.T) {
	onBoth(t, func(t *testing.T, http2 bool) {
		failed := make(chan error, 2)
		resp := serve(t, http2, nil, func(w http.ResponseWriter, r *http.Request) {
			// The wrapper's Flush reports nothing, as Gin's: the error has to come
			// from the writer below it.
			out, err := Respond(wrapper{w}, r)
			if err != nil {
				t.Error(err)
				return
			}
			out.SetWriteTimeout(50 * time.Millisecond)
			event := Event{Data: strings.Repeat("x", 1<<20)}
			for err == nil {
				err = out.Send(event)
			}
			failed <- err
			failed <- out.Heartbeat()
		})
		first, second := <-failed, <-failed
		if first == nil || second != first {
			t.Errorf("first %v, then %v", first, second)
		}
		for _, err := range Read(resp.Body) {
			if err != nil {
				return
			}
		}
		t.Error("the client saw a clean end")
	})
}

// What is below middleware is left alone where nobody knows what has come through to it.
func TestUnknownServerIsNotFlushedPastMiddleware(t *testing.T) {
	inner := &failing{ResponseRecorder: httptest.NewRecorder(), err: errors.New("flushed")}
	w, err := Respond(wrapper{inner}, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(Event{Data: "a"}); err != nil {
		t.Errorf("Send: %v", err)
	}
	if !inner.Flushed {
		t.Error("the wrapper was not flushed")
	}
}

type failing struct {
	*httptest.ResponseRecorder
	err error
}

func (f *failing) FlushError() error { return f.err }

func (f *failing) Flush() { f.Flushed = true } // what wrapper calls

// Writes and flushes go through the outermost writer.
func TestWriterGoesThroughMiddleware(t *testing.T) {
	inner := httptest.NewRecorder()
	outer := &buffering{ResponseWriter: inner}
	w, err := Respond(outer, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(Event{Data: "a"}); err != nil {
		t.Fatal(err)
	}
	if outer.size != len(":\ndata: a\n\n") || inner.Body.String() != ":\nDATA: A\n\n" {
		t.Errorf("outer saw %d bytes, inner got %q", outer.size, inner.Body.String())
	}
}

// buffering holds what is written until it is flushed, as compression does.
type buffering struct {
	http.ResponseWriter
	held bytes.Buffer
	size int
}

func (b *buffering) Unwrap() http.ResponseWriter { return b.ResponseWriter }
func (b *buffering) Write(p []byte) (int, error) {
	b.size += len(p)
	return b.held.Write(bytes.ToUpper(p))
}
func (b *buffering) FlushError() error {
	_, err := b.held.WriteTo(b.ResponseWriter)
	return err
}

func TestWriterArmsAndClearsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &controlled{ResponseRecorder: httptest.NewRecorder()}
		w, err := Respond(c, httptest.NewRequest(http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, timeout := range []time.Duration{DefaultWriteTimeout, time.Second, 0} {
			if timeout != DefaultWriteTimeout {
				w.SetWriteTimeout(timeout)
			}
			c.deadlines = nil
			if err := w.Send(Event{Data: "a"}); err != nil {
				t.Fatal(err)
			}
			armed := time.Now().Add(timeout)
			if timeout == 0 {
				armed = time.Time{}
			}
			if len(c.deadlines) != 2 || !c.deadlines[0].Equal(armed) || !c.deadlines[1].IsZero() {
				t.Errorf("%v: deadlines %v", timeout, c.deadlines)
			}
		}
	})
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		w, err := Respond(rec, httptest.NewRequest(http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		body := func() string {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			defer rec.Body.Reset()
			return rec.Body.String()
		}
		stop := w.KeepAlive(10 * time.Second)
		time.Sleep(10*time.Second - 1)
		if got := body(); got != "" {
			t.Errorf("too early: %q", got)
		}
		time.Sleep(1)
		if got := body(); got != Heartbeat {
			t.Errorf("after the interval: %q", got)
		}
		time.Sleep(30 * time.Second)
		if got := body(); got != ":\n:\n:\n" {
			t.Errorf("after three more: %q", got)
		}
		// A write puts the next heartbeat off.
		time.Sleep(9 * time.Second)
		if err := w.Send(Event{Data: "a"}); err != nil {
			t.Fatal(err)
		}
		body()
		time.Sleep(10*time.Second - 1)
		if got := body(); got != "" {
			t.Errorf("too early after a write: %q", got)
		}
		time.Sleep(1)
		if got := body(); got != Heartbeat {
			t.Errorf("the interval after a write: %q", got)
		}
		stop()
		stop()
		time.Sleep(time.Minute)
		if got := body(); got != "" {
			t.Errorf("after stop: %q", got)
		}
		w.KeepAlive(0)()
	})
}

func TestWriterIsSafeForConcurrentUse(t *testing.T) {
	rec := httptest.NewRecorder()
	w, err := Respond(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	stop := w.KeepAlive(time.Nanosecond)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if err := w.Send(Event{ID: "1", Data: "a\nb"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	events := 0
	for e, err := range Read(rec.Body) {
		if err != nil || e.Text() != "a\nb" {
			t.Fatalf("%+v, %v", e, err)
		}
		events++
	}
	if events != 400 {
		t.Errorf("%d events", events)
	}
}
