package sse

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestSetHeaders(t *testing.T) {
	tests := []struct {
		name       string
		major      int
		connection string
		want       string
	}{
		{"HTTP/1", 1, "", "keep-alive"},
		{"HTTP/1 that closes", 1, "close", "close"},
		{"HTTP/2", 2, "", ""},
		{"HTTP/2 with a header of HTTP/1", 2, "close", ""},
		{"HTTP/3", 3, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{"Content-Length": {"5"}, "Content-Type": {"text/html"}, "X-Other": {"kept"}}
			if test.connection != "" {
				h.Set("Connection", test.connection)
			}
			SetHeaders(h, test.major)
			for name, want := range map[string]string{
				"Content-Type":      "text/event-stream; charset=utf-8",
				"Cache-Control":     "no-cache, no-transform",
				"X-Accel-Buffering": "no",
				"Content-Length":    "",
				"Connection":        test.want,
				"X-Other":           "kept",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestLastEventID(t *testing.T) {
	tests := []struct {
		name   string
		url    string
		header []string
		id     string
		ok     bool
	}{
		{name: "none", url: "/"},
		{name: "header", url: "/", header: []string{"1-0"}, id: "1-0", ok: true},
		{name: "empty header states nothing", url: "/", header: []string{""}},
		{name: "empty header, query", url: "/?lastEventId=2", header: []string{""}, id: "2", ok: true},
		{name: "lastEventId", url: "/?lastEventId=2", id: "2", ok: true},
		{name: "last_event_id", url: "/?last_event_id=3", id: "3", ok: true},
		{name: "header before query", url: "/?lastEventId=2&last_event_id=3", header: []string{"1"}, id: "1", ok: true},
		{name: "the last of several", url: "/?lastEventId=2&last_event_id=3&last-event-id=4", id: "4", ok: true},
		{name: "the last that is not empty", url: "/?lastEventId=2&lastEventId=3&lastEventId=", id: "3", ok: true},
		{name: "mercure", url: "/?lastEventID=2", id: "2", ok: true},
		{name: "mercure before", url: "/?Last-Event-ID=2", id: "2", ok: true},
		{name: "kebab", url: "/?last-event-id=2", id: "2", ok: true},
		{name: "EventSource polyfill", url: "/?evs_last_event_id=2&evs_preamble", id: "2", ok: true},
		{name: "encoded name", url: "/?last%2Devent%5Fid=2", id: "2", ok: true},
		{name: "other names", url: "/?lastEvent=1&eventId=1&lastEventIds=1&xlastEventId=1&last%20event%20id=1&lastEventId%00=1"},
		{name: "header of several", url: "/?lastEventId=2", header: []string{"1", "3"}, id: "1", ok: true},
		{name: "empty lastEventId", url: "/?last_event_id=3&lastEventId=", id: "3", ok: true},
		{name: "empty query", url: "/?lastEventId="},
		{name: "other case", url: "/?LASTEventId=1", id: "1", ok: true},
		{name: "any bytes", url: "/?lastEventId=%00%0a%ff", id: "\x00\n\xff", ok: true},
		{name: "UTF-8 header", url: "/", header: []string{"é"}, id: "é", ok: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, test.url, nil)
			if test.header != nil {
				r.Header["Last-Event-Id"] = test.header
			}
			if id, ok := LastEventID(r); id != test.id || ok != test.ok {
				t.Errorf("got %q, %v; want %q, %v", id, ok, test.id, test.ok)
			}
		})
	}
	if _, ok := LastEventID(&http.Request{}); ok {
		t.Error("a request without URL states an id")
	}
}

// bare is a response writer that can do nothing but write.
type bare struct{ h http.Header }

func (b bare) Header() http.Header       { return b.h }
func (b bare) Write([]byte) (int, error) { panic("written to") }
func (b bare) WriteHeader(int)           { panic("status sent") }

// discard costs nothing, and is a type that cannot be compared.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
func (d discard) Flush()                      {}

func TestRespondOnAnyType(t *testing.T) {
	for _, w := range []http.ResponseWriter{discard{http.Header{}}, wrapper{discard{http.Header{}}}} {
		if _, err := Respond(w, httptest.NewRequest(http.MethodGet, "/", nil)); err != nil {
			t.Errorf("%T: %v", w, err)
		}
	}
}

// wrapper always has a Flush, as Gin's writer does.
type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w wrapper) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// plainWrapper has nothing but Unwrap.
type plainWrapper struct{ http.ResponseWriter }

func (w plainWrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestRespondRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		w    http.ResponseWriter
	}{
		{"bare", bare{http.Header{}}},
		{"wrapped", plainWrapper{bare{http.Header{}}}},
		{"wrapped with a Flush of its own", wrapper{plainWrapper{bare{http.Header{}}}}},
	} {
		w, err := Respond(test.w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w != nil || !errors.Is(err, ErrNotFlushable) {
			t.Errorf("%s: %v, %v", test.name, w, err)
		}
		if len(test.w.Header()) != 0 {
			t.Errorf("%s: headers %v were set", test.name, test.w.Header())
		}
	}
}

func TestRespondUnderTimeoutHandler(t *testing.T) {
	answered := make(chan error, 1)
	h := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := Respond(wrapper{w}, r)
		answered <- err
		http.Error(w, "no stream here", http.StatusInternalServerError)
	}), time.Minute, "")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	if err := <-answered; !errors.Is(err, ErrNotFlushable) {
		t.Errorf("error %v", err)
	}
	if rec.Code != http.StatusInternalServerError || rec.Header().Get("X-Accel-Buffering") != "" {
		t.Errorf("status %d, headers %v", rec.Code, rec.Header())
	}
}

func TestRespondOnRecorder(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(http.ResponseWriter) http.ResponseWriter
	}{
		{"recorder", func(w http.ResponseWriter) http.ResponseWriter { return w }},
		{"wrapper with Flush", func(w http.ResponseWriter) http.ResponseWriter { return wrapper{w} }},
		{"wrapper with Unwrap only", func(w http.ResponseWriter) http.ResponseWriter { return plainWrapper{w} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			rec.Header().Set("Content-Length", "5")
			w, err := Respond(test.wrap(rec), httptest.NewRequest(http.MethodGet, "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			if !rec.Flushed || rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "text/event-stream; charset=utf-8" {
				t.Errorf("flushed %v, status %d, headers %v", rec.Flushed, rec.Code, rec.Header())
			}
			if err := w.Send(Event{ID: "1", Data: "a"}); err != nil {
				t.Error(err)
			}
			if err := w.Send(Event{ID: "\n"}); !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v", err)
			}
			if err := w.Write([]byte("data: b\n\n"), nil, []byte("data: c\n\n")); err != nil {
				t.Error(err)
			}
			if err := w.Heartbeat(); err != nil {
				t.Error(err)
			}
			// Behind middleware a stream begins with a comment.
			if got, want := strings.TrimPrefix(rec.Body.String(), Heartbeat), "data: a\nid: 1\n\ndata: b\n\ndata: c\n\n:\n"; got != want {
				t.Errorf("body %q, want %q", got, want)
			}
			if err := w.Abort(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Abort: %v", err)
			}
			if err := w.Send(Event{Data: "d"}); err == nil {
				t.Error("sent after Abort")
			}
		})
	}
}

// TestRespondAfterBody: a handler may read the request's body, and is told when the client leaves.
func TestRespondAfterBody(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"with a length": strings.NewReader("hello"),
		"in chunks":     struct{ io.Reader }{strings.NewReader("hello")},
	} {
		t.Run(name, func(t *testing.T) {
			went := make(chan struct{})
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(went)
				asked, _ := io.ReadAll(r.Body)
				out, err := Respond(w, r)
				if err != nil {
					t.Error(err)
					return
				}
				// A context that ends by the body's end does so beside the handler; by then there
				// were a thousand chances.
				for range 1000 {
					if err := out.Send(Event{Data: string(asked)}); err != nil || r.Context().Err() != nil {
						t.Errorf("the client has left: %v, %v", err, r.Context().Err())
						return
					}
				}
				_ = out.Send(Event{Type: "last", Data: ""})
				<-r.Context().Done()
			}))
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for d := NewDecoder(resp.Body); ; {
				e, err := d.Decode()
				if err != nil {
					t.Fatal(err)
				}
				if e.Type == "last" {
					break
				}
			}
			cancel()
			<-went
		})
	}
}
