package feed_test

import (
	"context"
	"fmt"
	"iter"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// A feed ends when its topic is finished, which makes this example end too.
func ExampleHandler() {
	h, err := hub.New(memory.New(memory.Options{}), hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	defer func() { _ = h.Shutdown(ctx) }()
	for _, word := range []string{"one", "two"} {
		if _, err := h.Publish(ctx, "words", hub.Message{Type: "word", Data: []byte(word)}); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := h.Finish(ctx, "words"); err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET /words", feed.Handler(feed.Of(h, "words"), feed.Options{Start: hub.Earliest()}))
	server := httptest.NewServer(mux)
	defer server.Close()

	client := sse.Client{URL: server.URL + "/words"}
	for event, err := range client.Stream(ctx).All() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %q\n", event.Type, event.Text())
		if event.Type == "close" {
			break
		}
	}
	// Output:
	// word "one"
	// word "two"
	// close ""
}

func ExampleHandlerFunc() {
	h, err := hub.New(memory.New(memory.Options{}), hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	handler := feed.HandlerFunc(func(r *http.Request) (feed.Feed, error) {
		if r.Header.Get("Authorization") == "" {
			return feed.Feed{}, feed.Status(http.StatusUnauthorized, nil)
		}
		return feed.Of(h, hub.JoinTopic("tickets", r.PathValue("ticket"))), nil
	}, feed.Options{})

	mux := http.NewServeMux()
	mux.Handle("GET /tickets/{ticket}/events", handler)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/tickets/42/events", nil))
	fmt.Println(w.Code)
	// Output: 401
}

func ExampleGenerate() {
	countdown := func(w http.ResponseWriter, r *http.Request) {
		err := feed.Generate(w, r, func(context.Context) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) {
				defer fmt.Println("cleaned up")
				for n := 3; n > 0; n-- {
					if !yield(sse.Event{Type: "tick", Data: n}, nil) {
						return
					}
				}
			}
		}, feed.Options{Retry: time.Second})
		if err != nil {
			slog.Warn("countdown", "err", err)
		}
	}
	w := httptest.NewRecorder()
	countdown(w, httptest.NewRequest(http.MethodGet, "/", nil))
	fmt.Print(regexp.MustCompile(`retry: \d+`).ReplaceAllString(w.Body.String(), "retry: between 1000 and 1500"))
	// Output:
	// cleaned up
	// : ok
	// retry: between 1000 and 1500
	// event: tick
	// data: 3
	//
	// event: tick
	// data: 2
	//
	// event: tick
	// data: 1
}
