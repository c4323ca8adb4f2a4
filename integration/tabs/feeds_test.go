package tabs

import (
	"context"
	_ "embed" // for the page
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/js"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

//go:embed feed.html
var feedHTML []byte

// TestFeeds: the module as it is, on feeds of every shape: tabs that come later get what any client
// gets, and all of them the same messages.
func TestFeeds(t *testing.T) {
	testenv.Long(t)
	open := chromium(t)
	var newest atomic.Int64 // of the state that a snapshot loads
	shapes := map[string]func(*feed.Feed){
		"plain":  func(*feed.Feed) {},
		"hello":  func(f *feed.Feed) { f.Hello = hello },
		"topics": func(f *feed.Feed) { f.Topics = append(f.Topics, "silent"); f.Hello = hello },
		"snapshot": func(f *feed.Feed) {
			f.Snapshot = func(context.Context) (any, error) { return newest.Load(), nil }
		},
		"mapped": func(f *feed.Feed) {
			f.Map = func(_ string, m *hub.Message) []sse.Event {
				return []sse.Event{{Type: "half", Data: m.Data}, {Data: m.Data}}
			}
		},
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
			backend := memory.New(memory.Options{})
			h, err := hub.New(backend, hub.Options{Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			f := feed.Of(h, "numbers")
			shape(&f)
			limits := &feed.Limits{}
			mux := http.NewServeMux()
			mux.Handle("/feed", feed.Handler(f, feed.Options{Logger: quiet, Limits: limits}))
			mux.Handle("/js/", js.Handler())
			mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(feedHTML) })
			server := httptest.NewServer(mux)
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := h.Shutdown(ctx); err != nil {
					t.Error(err)
				}
				server.CloseClientConnections()
				server.Close()
				_ = backend.Close()
			})
			newest.Store(0)
			publish := func(n int) {
				for range n {
					if _, err := h.Publish(t.Context(), "numbers", hub.Message{Data: strconv.AppendInt(nil, newest.Add(1), 10)}); err != nil {
						t.Fatal(err)
					}
				}
			}
			one := func() {
				t.Helper()
				until(t, func() error {
					if n := limits.Open(); n != 1 {
						return fmt.Errorf("%d streams", n)
					}
					return nil
				})
			}
			c := &crowd{site: &site{t: t, url: server.URL}, open: open, tabs: make(map[string]tab)}
			first := make(map[string]int64)
			add := func() {
				t.Helper()
				c.add(1, "")
				tab := strconv.Itoa(c.next)
				first[tab] = newest.Load() + 1
				c.until(tab, `feed.state === "live" && (seen.starts.length > 0)`)
				publish(5)
			}
			publish(3)
			for range 3 {
				add()
			}
			one()
			c.remove("1")
			publish(5)
			add()
			one()
			hellos := 0
			if f.Hello != nil {
				hellos = 1
			}
			for tab := range c.tabs {
				c.until(tab, fmt.Sprintf("seen.numbers.at(-1) === %d", newest.Load()))
				want := fmt.Sprintf("%t,%d,%d", true, 1, hellos)
				var got string
				c.eval(tab, fmt.Sprintf("[seen.numbers.join() === Array.from({ length: %d }, (_, i) => %d + i).join(), seen.starts.length, "+
					"Math.min(1, seen.hellos)].join()", newest.Load()-first[tab]+1, first[tab]), &got)
				var all string
				c.eval(tab, "JSON.stringify(seen)", &all)
				if got != want {
					t.Errorf("tab %s has got, from %d to %d: %s", tab, first[tab], newest.Load(), all)
				}
				if name == "mapped" {
					c.until(tab, "seen.halves.join() === seen.numbers.join()")
				}
			}
			if _, err := h.Finish(t.Context(), "numbers"); err != nil {
				t.Fatal(err)
			}
			if name == "topics" {
				if _, err := h.Finish(t.Context(), "silent"); err != nil {
					t.Fatal(err)
				}
			}
			for tab := range c.tabs {
				c.until(tab, `seen.closes === 1 && feed.state === "ended"`)
			}
			until(t, func() error {
				if n := limits.Open(); n != 0 {
					return fmt.Errorf("%d streams", n)
				}
				return nil
			})
		})
	}
}

func hello(context.Context) (sse.Event, error) {
	return sse.Event{Type: "hello", Data: []byte(time.Now().String())}, nil
}
