package feed

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
)

// bothVersions runs a test in a bubble over HTTP/1.1 and HTTP/2.
func bothVersions(t *testing.T, f func(t *testing.T, http2 bool)) {
	for name, http2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, http2) })
		})
	}
}

// TestWriteTimeout: the server's WriteTimeout does not cut a stream, and a stream does not leave
// a deadline of its own behind.
func TestWriteTimeout(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd, NoRotation: true}), http2, func(s *http.Server) {
			s.WriteTimeout = time.Second
		})
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		for range 5 {
			time.Sleep(5 * time.Second)
			ids := publish(t, h, "t", "a")
			equal(t, "message", c.block(t), event(ids[0], "a"))
		}
		last := finish(t, h, "t")
		equal(t, "end", c.rest(t), "retry: N\nevent: close\ndata: \nid: "+last+"\n\n")
		isCause(t, (<-end).Cause, ErrFinished)
	})
}

func TestHeartbeatOnTheWire(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet()}), http2, nil)
		defer stop()
		begin := time.Now()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		for i := range 3 {
			line, err := c.r.ReadString('\n')
			if err != nil || line != ":\n" {
				t.Fatalf("got %q, %v", line, err)
			}
			equal(t, "heartbeat after", time.Since(begin), time.Duration(i+1)*15*time.Second)
		}
		c.leave()
	})
}

func TestRotation(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd}), http2, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		start := c.primed(t)
		if got := c.rest(t); strings.Trim(got, ":\n") != "" {
			t.Errorf("not a clean end: %q", got)
		}
		e := <-end
		isCause(t, e.Cause, ErrRotated)
		if e.Duration < 48*time.Minute || e.Duration > 72*time.Minute {
			t.Errorf("rotated after %v", e.Duration)
		}
		ids := publish(t, h, "t", "a")
		equal(t, "afterwards", connect(t, client, "http://memory/", start).block(t), prelude+event(ids[0], "a"))
	})
}

func TestExpiry(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd, ExpireAt: time.Now().Add(5 * time.Second)}), http2, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		equal(t, "rest", c.rest(t), "retry: N\n")
		e := <-end
		isCause(t, e.Cause, ErrExpired)
		if e.Duration > 5*time.Second || e.Duration < 4750*time.Millisecond {
			t.Errorf("expired after %v", e.Duration)
		}
	})
}

// TestSlowClient: a client that takes nothing is given up after the write timeout, and does not
// hold a publisher.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd}), false, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		// More than the client's transport buffers without being read.
		big := strings.Repeat("x", 64<<10)
		begin := time.Now()
		publish(t, h, "t", big, big, big)
		equal(t, "publishing took", time.Since(begin), 0)
		e := <-end
		isCause(t, e.Cause, ErrWriteFailed)
		equal(t, "given up after", e.Duration, 10*time.Second)
		c.leave()
	})
}

// TestClientLeaves while the stream waits: noticed at once.
func TestClientLeaves(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd}), http2, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		time.Sleep(time.Second)
		c.leave()
		e := <-end
		isCause(t, e.Cause, ErrClientGone)
		equal(t, "noticed after", e.Duration, time.Second)
		synctest.Wait()
		equal(t, "subscriptions", h.Stats().Subscriptions, 0)
	})
}

// TestClientLeavesDuringWrite uses a bare connection, whose other end sees nothing until it reads.
func TestClientLeavesDuringWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		n := newMemNet()
		server := &http.Server{Handler: Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd})}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(n)
		}()
		conn, err := n.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		resp := ask(t, conn)
		newStream(resp).primed(t)
		publish(t, h, "t", strings.Repeat("x", 64<<10))
		synctest.Wait() // the write blocks
		time.Sleep(time.Second)
		conn.Close()
		e := <-end
		if e.Cause == nil || e.Duration != time.Second {
			t.Errorf("ended after %v by %v", e.Duration, e.Cause)
		}
		equal(t, "events", e.Events, 0)
		server.Close()
		<-served
	})
}

// ask asks for a stream on a bare connection.
func ask(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: memory\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestShutdown: every stream ends with another reconnection time, cleanly, and Shutdown waits for
// all (G9).
func TestShutdown(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd}), http2, nil)
		defer stop()
		var streams []*follower
		for range 5 {
			c := connect(t, client, "http://memory/", "")
			c.primed(t)
			streams = append(streams, c)
		}
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(t.Context()) }()
		for _, c := range streams {
			equal(t, "rest", c.rest(t), "retry: N\n")
			isCause(t, (<-end).Cause, ErrShutdown)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestServerShutdown is the recipe of the package comment.
func TestServerShutdown(t *testing.T) {
	bothVersions(t, func(t *testing.T, http2 bool) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		var server *http.Server
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd}), http2, func(s *http.Server) {
			server = s
			ctx, cancel := context.WithCancelCause(context.Background())
			s.BaseContext = func(net.Listener) context.Context { return ctx }
			s.RegisterOnShutdown(func() { cancel(ErrShutdown) })
		})
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		done := make(chan error, 1)
		go func() { done <- server.Shutdown(t.Context()) }()
		equal(t, "rest", c.rest(t), "retry: N\n")
		isCause(t, (<-end).Cause, ErrShutdown)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDrainOfAFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		drain := &Drain{}
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), Drain: drain}), false, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		drain.Begin()
		equal(t, "rest", c.rest(t), "retry: N\n")
	})
}
