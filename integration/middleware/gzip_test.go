package middleware

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	gingzip "github.com/gin-contrib/gzip"
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

// deadline is how long the test waits for what must happen. It only matters when the test fails.
const deadline = time.Minute

// place is a way in which a compressed route is served.
type place struct {
	name  string
	level int
	http2 bool
}

var places = []place{
	{"HTTP/1.1", gingzip.DefaultCompression, false},
	{"HTTP/2", gingzip.BestSpeed, true},
}

// serve starts a server that is closed with the test.
func (p place) serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	if p.http2 {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

var quiet = ginsse.Options{Logger: slog.New(slog.DiscardHandler)}

// TestGzip holds that a generator and a feed arrive event by event through compression, each before
// the next is made, and end cleanly.
func TestGzip(t *testing.T) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			h := newHub(t)
			received := make(chan struct{})
			generator := ginsse.SSE[struct{}]("/generator").Options(quiet).Handle(func(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
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
			r.Use(gin.RecoveryWithWriter(io.Discard), gingzip.Gzip(place.level))
			if err := ginsse.Mount(r, generator, ginsse.SSE[struct{}]("/feed").Options(quiet).Topic(h, "x")); err != nil {
				t.Fatal(err)
			}
			server := place.serve(t, r)

			d := open(t, server, "/generator")
			for i := range 3 {
				expect(t, d, fmt.Sprint("||", i))
				received <- struct{}{}
			}
			expectEnd(t, d)

			d = open(t, server, "/feed")
			if e, err := d.Decode(); err != nil || e.Type != "checkpoint" {
				t.Fatalf("%+v, %v", e, err)
			}
			for range 3 {
				id, err := h.Publish(t.Context(), "x", hub.Message{Data: []byte("text")})
				if err != nil {
					t.Fatal(err)
				}
				expect(t, d, "|"+string(id)+"|text")
			}
			if err := h.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			expectEnd(t, d)
		})
	}
}

// TestSnapshotThroughGzip holds that a document whose length is known passes middleware that
// changes it.
func TestSnapshotThroughGzip(t *testing.T) {
	text := strings.Repeat("state ", 1000)
	r := gin.New()
	r.Use(gingzip.Gzip(gingzip.DefaultCompression))
	route := ginsse.SSE[struct{}]("/x").Options(quiet).Topic(newHub(t), "x").
		Snapshot(func(*ginsse.Context[struct{}]) (any, error) { return text, nil })
	if err := ginsse.Mount(r, route); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.Client().Do(req) // the client asks for gzip and takes it off
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != `"`+text+`"` || !resp.Uncompressed {
		t.Errorf("%d bytes, compressed: %v, %v", len(got), resp.Uncompressed, err)
	}
}

// newHub returns a hub over a memory backend, both closed with the test.
func newHub(t *testing.T) *hub.Hub {
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

// open opens a stream that is compressed. The client leaves at the end of the test.
func open(t *testing.T, s *httptest.Server, path string) *sse.Decoder {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The transport leaves a response alone whose encoding it did not ask for by itself.
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("Content-Encoding %q", got)
	}
	plain, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return sse.NewDecoder(plain)
}

// expect reads an event and compares it, written as "type|id|data".
func expect(t *testing.T, d *sse.Decoder, want string) {
	t.Helper()
	e, err := d.Decode()
	if err != nil {
		t.Fatalf("instead of %q: %v", want, err)
	}
	if got := e.Type + "|" + e.ID + "|" + e.Text(); got != want {
		t.Fatalf("event %q, want %q", got, want)
	}
}

// expectEnd checks that the stream ends cleanly.
func expectEnd(t *testing.T, d *sse.Decoder) {
	t.Helper()
	if e, err := d.Decode(); err != io.EOF {
		t.Errorf("the stream went on with %+v, %v; want a clean end", e, err)
	}
}
