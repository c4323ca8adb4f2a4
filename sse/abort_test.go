package sse

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAbort(t *testing.T) {
	t.Run("HTTP1", func(t *testing.T) {
		if err := abortedEnd(t, false); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the client got %v", err)
		}
	})
	t.Run("HTTP2", func(t *testing.T) {
		if err := abortedEnd(t, true); err == nil || !strings.Contains(err.Error(), "stream error") {
			t.Errorf("the client got %v", err)
		}
	})
}

// abortedEnd returns how a stream ends for the client when the handler aborts.
func abortedEnd(t *testing.T, http2 bool) error {
	received := make(chan struct{})
	resp := serve(t, http2, nil, func(w http.ResponseWriter, r *http.Request) {
		out, err := Respond(wrapper{w}, r)
		if err != nil {
			t.Error(err)
			return
		}
		if err := out.Send(Event{Data: "a"}); err != nil {
			t.Error(err)
		}
		<-received
		if err := out.Abort(); err != nil {
			t.Errorf("Abort: %v", err)
		}
		if err := out.Send(Event{Data: "b"}); err == nil {
			t.Error("sent after Abort")
		}
	})
	d := NewDecoder(resp.Body)
	if e, err := d.Decode(); err != nil || e.Text() != "a" {
		t.Fatalf("%v, %v", e, err)
	}
	close(received)
	_, err := d.Decode()
	return err
}

// On HTTP/1.0 the end of the connection is the end of the response: an abort has
// to be a reset.
func TestAbortHTTP10(t *testing.T) {
	for _, abort := range []bool{false, true} {
		received := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			out, err := Respond(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			if err := out.Send(Event{Data: "a"}); err != nil {
				t.Error(err)
			}
			<-received
			if abort {
				if err := out.Abort(); err != nil {
					t.Errorf("Abort: %v", err)
				}
			}
		}))
		defer server.Close()
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		d := NewDecoder(resp.Body)
		if e, err := d.Decode(); err != nil || e.Text() != "a" {
			t.Fatalf("%v, %v", e, err)
		}
		close(received)
		if _, err := d.Decode(); (err != io.EOF) != abort {
			t.Errorf("abort %v: the client got %v", abort, err)
		}
	}
}

// hijackable has no deadlines, as some middleware's writers.
type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, nil, nil }

func TestAbortWithoutDeadlines(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	w, err := Respond(&hijackable{httptest.NewRecorder(), server}, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
	if err := w.Heartbeat(); err == nil {
		t.Error("sent after Abort")
	}
}

// Abort frees a write that blocks and the deadline it sets stays.
func TestAbortDuringWrite(t *testing.T) {
	c := &controlled{ResponseRecorder: httptest.NewRecorder(), expired: make(chan struct{})}
	w, err := Respond(c, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	c.block = make(chan struct{})
	sent := make(chan error)
	go func() { sent <- w.Send(Event{Data: "a"}) }()
	<-c.block
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	if err := <-sent; err == nil {
		t.Error("the write that Abort ended reports success")
	}
	if last := c.deadlines[len(c.deadlines)-1]; !last.Equal(time.Unix(1, 0)) {
		t.Errorf("the deadline is %v at the end", last)
	}
}

// controlled notes deadlines; its writes block until one in the past is set, and
// then succeed, which is the worst moment for Abort.
type controlled struct {
	*httptest.ResponseRecorder
	mu        sync.Mutex
	deadlines []time.Time
	expired   chan struct{}
	block     chan struct{}
}

func (c *controlled) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines = append(c.deadlines, t)
	if !t.IsZero() && t.Before(time.Now()) {
		close(c.expired)
	}
	return nil
}

func (c *controlled) Write(p []byte) (int, error) {
	if c.block != nil {
		close(c.block)
		<-c.expired
	}
	return len(p), nil
}
