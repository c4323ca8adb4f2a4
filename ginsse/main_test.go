package ginsse_test

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testenv.Main(m)
}

// deadline is how long a test waits for what must happen. It only matters when a test fails.
const deadline = 2 * time.Minute

var quiet = ginsse.Options{Logger: slog.New(slog.DiscardHandler)}

// seq is what a generator returns.
type seq = iter.Seq2[sse.Event, error]

// newHub returns a hub over a memory backend, both closed with the test.
func newHub(t testing.TB) *hub.Hub {
	t.Helper()
	backend := memory.New(memory.Options{})
	h, err := hub.New(backend, hub.Options{Logger: quiet.Logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := backend.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return h
}

// engine returns a Gin engine without middleware that has the routes.
func engine(t testing.TB, routes ...ginsse.Controller) *gin.Engine {
	t.Helper()
	r := gin.New()
	mount(t, r, routes...)
	return r
}

func mount(t testing.TB, r gin.IRouter, routes ...ginsse.Controller) {
	t.Helper()
	if err := ginsse.Mount(r, routes...); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, h *hub.Hub, topic, data string) string {
	t.Helper()
	id, err := h.Publish(t.Context(), topic, hub.Message{Data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return string(id)
}

// newServer starts a server that is closed with the test.
func newServer(t testing.TB, handler http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// get serves one request to its end; headers are name and value in turn.
func get(handler http.Handler, target string, headers ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, request(target, headers...))
	return w
}

func request(target string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	addHeaders(r, headers)
	return r
}

func addHeaders(r *http.Request, headers []string) {
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
}

// isRefusal checks a status with the JSON that says why, and that no stream was begun.
func isRefusal(t testing.TB, w *httptest.ResponseRecorder, code int, text string) {
	t.Helper()
	var body struct{ Error string }
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Errorf("body %q: %v", w.Body, err)
	}
	if w.Code != code || body.Error != text {
		t.Errorf("%d %q, want %d %q", w.Code, body.Error, code, text)
	}
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("Content-Type %q", got)
	}
}

// stream is one connection to a route.
type stream struct {
	*http.Response
	*sse.Decoder
	leave func()
}

// open opens a stream; headers are name and value in turn. The client leaves at the end of the
// test.
func open(t testing.TB, client *http.Client, url string, headers ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	addHeaders(r, headers)
	resp, err := client.Do(r)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s := &stream{resp, sse.NewDecoder(resp.Body), func() {
		cancel()
		_ = resp.Body.Close()
	}}
	t.Cleanup(s.leave)
	return s
}

// expect reads events and compares them, written as "type|id|data".
func (s *stream) expect(t testing.TB, want ...string) {
	t.Helper()
	for _, w := range want {
		e, err := s.Decode()
		if err != nil {
			t.Fatalf("instead of %q: %v", w, err)
		}
		if got := e.Type + "|" + e.ID + "|" + e.Text(); got != w {
			t.Fatalf("event %q, want %q", got, w)
		}
	}
}

// expectEnd checks that the stream ends, cleanly or not.
func (s *stream) expectEnd(t testing.TB, clean bool) {
	t.Helper()
	if e, err := s.Decode(); err == nil || (err == io.EOF) != clean {
		t.Errorf("the stream went on with %+v, %v; want a clean end: %v", e, err, clean)
	}
}

// receive waits for a value that must come.
func receive[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	select {
	case v = <-c:
	case <-timeout.C:
		t.Fatal("it did not come")
	}
	return v
}

func events(list ...sse.Event) seq {
	return func(yield func(sse.Event, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}
