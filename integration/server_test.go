package integration

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

// deadline is how long a test waits for what must happen. It is generous: it only matters when a
// test fails.
const deadline = 2 * time.Minute

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newHub returns a hub over a memory backend, both closed with the test.
func newHub(t testing.TB, o memory.Options, options ...hub.Options) *hub.Hub {
	t.Helper()
	backend := memory.New(o)
	ho := append(options, hub.Options{})[0]
	ho.Logger = quiet
	h, err := hub.New(backend, ho)
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

type topicParams struct{ Topic string }

// serve starts a Gin server with the feed /topics/:topic over a hub.
func serve(t testing.TB, h *hub.Hub, o ginsse.Options) *httptest.Server {
	t.Helper()
	o.Logger = quiet
	r := gin.New()
	if err := ginsse.Mount(r, ginsse.SSE[topicParams]("/topics/:topic").Options(o).Topic(h, "{topic}")); err != nil {
		t.Fatal(err)
	}
	return newServer(t, r)
}

// seq is what a generator returns.
type seq = iter.Seq2[sse.Event, error]

// discard is a writer for what a test does not look at.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// newServer starts a server that is closed with the test.
func newServer(t testing.TB, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// connection is one request to a feed.
type connection struct {
	*sse.Decoder
	status int
	body   io.ReadCloser
	cancel context.CancelFunc
}

// connect opens a feed, with a cursor unless it is "".
func connect(t testing.TB, client *http.Client, url, cursor string) *connection {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := client.Do(req)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	return &connection{Decoder: sse.NewDecoder(resp.Body), status: resp.StatusCode, body: resp.Body, cancel: cancel}
}

// drop breaks the connection off.
func (c *connection) drop() {
	c.cancel()
	_ = c.body.Close()
}

// next returns the next event, and fails the test when there is none.
func (c *connection) next(t testing.TB) sse.Event {
	t.Helper()
	e, err := c.Decode()
	if err != nil {
		t.Fatalf("reading the stream: %v", err)
	}
	return e
}
