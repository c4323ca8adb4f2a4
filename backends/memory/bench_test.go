package memory

import (
	"fmt"
	"testing"

	"github.com/headrace/headrace/hub"
)

type nowhere struct{}

func (nowhere) Deliver(...hub.Message) {}
func (nowhere) Broken(error)           {}
func (nowhere) Restored(hub.ID)        {}

func BenchmarkPublish(b *testing.B) {
	m := hub.Message{Type: "note", Data: make([]byte, 256)}
	for _, followers := range []int{0, 1, 1000} {
		b.Run(fmt.Sprint("followers=", followers), func(b *testing.B) {
			be := New(Options{MaxMessages: 1000})
			defer be.Close()
			for range followers {
				follow(b, be, "t", nowhere{})
			}
			b.ReportAllocs()
			for b.Loop() {
				publish(b, be, "t", m)
			}
		})
	}
	b.Run("topic per goroutine", func(b *testing.B) {
		be := New(Options{MaxMessages: 1000})
		defer be.Close()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			topic := fmt.Sprintf("t%p", pb)
			for pb.Next() {
				publish(b, be, topic, m)
			}
		})
	})
}

func BenchmarkRead(b *testing.B) {
	be := New(Options{MaxMessages: 10_000})
	defer be.Close()
	var ids []hub.ID
	for range 10_000 {
		ids = append(ids, publish(b, be, "t", hub.Message{Type: "note", Data: make([]byte, 256)}))
	}
	for _, tc := range []struct {
		name  string
		after hub.ID
	}{{"newest", ids[len(ids)-1]}, {"page of 256", ids[len(ids)/2]}} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := be.Read(b.Context(), "t", tc.after, 256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
