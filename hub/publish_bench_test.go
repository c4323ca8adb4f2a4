package hub_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// benchHub returns a hub over a backend in memory that is shut down after the benchmark.
func benchHub(b *testing.B) *hub.Hub {
	b.Helper()
	backend := memory.New(memory.Options{})
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			b.Error(err)
		}
		if err := backend.Close(); err != nil {
			b.Error(err)
		}
	})
	return h
}

// benchWatcher counts nothing and wakes nobody.
type benchWatcher struct{ _ byte }

func (*benchWatcher) Wake() {}

// BenchmarkPublish measures publishing to a topic that nobody follows, and to one with so many
// followers, that is subscriptions, which share so many watchers as the connections of an engine
// do. None of them polls.
func BenchmarkPublish(b *testing.B) {
	for _, bc := range []struct{ followers, watchers int }{{0, 0}, {1, 0}, {1, 1}, {1000, 1}, {1000, 1000}} {
		b.Run(fmt.Sprintf("followers=%d/watchers=%d", bc.followers, bc.watchers), func(b *testing.B) {
			h := benchHub(b)
			watchers := make([]benchWatcher, bc.watchers)
			for i := range bc.followers {
				s, err := h.Subscribe(b.Context(), "t", hub.Latest())
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				if bc.watchers > 0 {
					s.Watch(&watchers[i%bc.watchers], &watchers[i%bc.watchers])
				}
			}
			m := hub.Message{Type: "note", Data: make([]byte, 200)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Publish(context.Background(), "t", m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// note is a value as applications publish them.
type note struct {
	Ticket int64  `json:"ticket"`
	Author string `json:"author"`
	Text   string `json:"text"`
}

func (note) MessageType() string { return "note" }

// BenchmarkTopicPublish measures what a typed topic adds to BenchmarkPublish.
func BenchmarkTopicPublish(b *testing.B) {
	b.Run("value=string", func(b *testing.B) { benchTopic(b, "what the note says") })
	b.Run("value=struct", func(b *testing.B) { benchTopic(b, note{Ticket: 7, Author: "ann", Text: "what the note says"}) })
}

func benchTopic[T any](b *testing.B, v T) {
	topic := hub.NewTopic[T](benchHub(b), "t")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := topic.Publish(context.Background(), v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSubscribe measures opening and closing one more subscription to a topic that is
// followed, under a context that ends like that of a request.
func BenchmarkSubscribe(b *testing.B) {
	h := benchHub(b)
	first, err := h.Subscribe(b.Context(), "t", hub.Latest())
	if err != nil {
		b.Fatal(err)
	}
	defer first.Close()
	var middle hub.ID
	for i := range 1000 {
		id, err := h.Publish(context.Background(), "t", hub.Message{Data: make([]byte, 200)})
		if err != nil {
			b.Fatal(err)
		}
		if i == 500 {
			middle = id
		}
	}
	for _, bc := range []struct {
		name string
		at   hub.Position
	}{
		{"at=latest", hub.Latest()},
		{"at=window", hub.After(middle)},
		{"at=elsewhere", hub.After("elsewhere")},
	} {
		b.Run(bc.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				s, err := h.Subscribe(ctx, "t", bc.at, hub.MarkGaps())
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}
