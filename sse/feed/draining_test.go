package feed_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// TestGenerateOverHubShutdown (G9): a generator that passes on what its subscription yields ends
// like a feed when the hub shuts down: whole, with a time to come back.
func TestGenerateOverHubShutdown(t *testing.T) {
	backend := memory.New(memory.Options{})
	defer backend.Close()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var end feed.End
	options := feed.Options{Logger: slog.New(slog.DiscardHandler), OnEnd: func(e feed.End) { end = e }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := feed.Generate(w, r, func(ctx context.Context) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) {
				sub, err := h.Subscribe(ctx, "t", hub.Latest())
				if err != nil {
					yield(sse.Event{}, err)
					return
				}
				if !yield(sse.Event{Data: "ready"}, nil) {
					return
				}
				for m, err := range sub.All() {
					if !yield(sse.Event{Data: m.Data}, err) {
						return
					}
				}
			}
		}, options)
		if err != nil {
			t.Errorf("Generate: %v", err)
		}
	}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if e, err := sse.NewDecoder(oneByte{resp.Body}).Decode(); err != nil || e.Text() != "ready" {
		t.Fatalf("got %+v, %v", e, err)
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !regexp.MustCompile(`^retry: \d+\n$`).Match(rest) {
		t.Errorf("the stream ended with %q, %v; want a retry line and a clean end", rest, err)
	}
	server.Close() // waits for the handler, and so for OnEnd
	if !errors.Is(end.Cause, feed.ErrShutdown) {
		t.Errorf("cause %v", end.Cause)
	}
}

// oneByte reads one byte at a time, so that a decoder takes nothing beyond its event.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }
