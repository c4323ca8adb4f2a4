package sse_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/sse"
)

// embedding is a writer as middleware often has it: it flushes, and has no Unwrap.
type embedding struct{ http.ResponseWriter }

func (w embedding) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// TestRespondBelowEmbeddingWriters: the server's deadlines are reached through writers that hide
// them, so the server's WriteTimeout does not end the stream and Abort does.
func TestRespondBelowEmbeddingWriters(t *testing.T) {
	next := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.Respond(&embedding{embedding{w}}, r)
		if err != nil {
			t.Error(err)
			return
		}
		<-next
		if err := stream.Send(sse.Event{Data: "late"}); err != nil {
			t.Errorf("after the server's WriteTimeout: %v", err)
		}
		if err := stream.Abort(); err != nil {
			t.Errorf("Abort: %v", err)
		}
	}))
	server.Config.WriteTimeout = 50 * time.Millisecond
	server.Start()
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	timer := time.AfterFunc(2*server.Config.WriteTimeout, func() { close(next) })
	defer timer.Stop()
	decoder := sse.NewDecoder(resp.Body)
	if e, err := decoder.Decode(); err != nil || e.Text() != "late" {
		t.Fatalf("got %+v, %v", e, err)
	}
	if _, err := decoder.Decode(); err == nil || err.Error() == "EOF" {
		t.Errorf("an aborted stream ended with %v", err)
	}
}

// pieces is a response writer that takes a while for each write, by a fake clock, and keeps to
// its deadline.
type pieces struct {
	header   http.Header
	perWrite time.Duration
	deadline time.Time
	written  int
	short    bool
}

func (w *pieces) Header() http.Header                { return w.header }
func (w *pieces) WriteHeader(int)                    {}
func (w *pieces) FlushError() error                  { return nil }
func (w *pieces) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }
func (w *pieces) Write(p []byte) (int, error) {
	time.Sleep(w.perWrite)
	if !w.deadline.IsZero() && time.Now().After(w.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	n := len(p)
	if w.short {
		n /= 2
	}
	w.written += n
	return n, nil
}

// TestLargeFrameOfSlowClient: a client that takes each piece in time gets a frame that as a whole
// takes longer than the write timeout.
func TestLargeFrameOfSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &pieces{header: http.Header{}, perWrite: 8 * time.Second}
		stream, err := sse.Respond(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		frame, begun := bytes.Repeat([]byte("x"), 1<<20), w.written
		if err := stream.Write(frame); err != nil || w.written-begun != len(frame) {
			t.Errorf("%d bytes written, %v", w.written-begun, err)
		}
		w.perWrite = 11 * time.Second
		if err := stream.Write(frame); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a client that does not take a piece in time: %v", err)
		}
	})
}

func TestShortWriteIsAnError(t *testing.T) {
	w := &pieces{header: http.Header{}}
	stream, err := sse.Respond(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	w.short = true
	if err := stream.Send(sse.Event{Data: "x"}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Send: %v", err)
	}
}

// TestRequestWithUnsentBody: a client that announces a body and does not send it gets its stream,
// and does not keep the server waiting.
func TestRequestWithUnsentBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.Respond(w, r)
		if err == nil {
			err = stream.Send(sse.Event{Data: "here"})
		}
		if err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	for _, header := range []string{"Content-Length: 1", "Transfer-Encoding: chunked"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\n"+header+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(conn)
		if !bytes.Contains(got, []byte("data: here")) {
			t.Errorf("%s: got %q", header, got)
		}
		_ = conn.Close()
	}
}

func TestLastEventIDOfOddRequests(t *testing.T) {
	for query, want := range map[string]string{
		"last_event_id=foo%zz":                    "foo%zz",
		"last_event_id=foo;x":                     "foo;x",
		"last_event_id=&last_event_id=foo":        "foo",
		"lastEventId=&last_event_id=a+b%2D":       "a b-",
		"a;b&lastEventId=1":                       "1",
		"last_event_id=&lastEventId=&x=1":         "",
		"xlast_event_id=1&last_event_idx=2&=3&&=": "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		if got, ok := sse.LastEventID(r); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", query, got, ok)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/?last_event_id=query", nil)
	r.Header["Last-Event-Id"] = []string{"", "second"}
	if got, _ := sse.LastEventID(r); got != "second" {
		t.Errorf("a header that is there twice: %q", got)
	}
}
