package hub

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkPoll measures one Poll from the window: that finds nothing, one message, and as many
// as it may take.
func BenchmarkPoll(b *testing.B) {
	for _, batch := range []int{0, 1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			h := open(b, &loopBackend{}, Options{})
			s, err := h.Subscribe(b.Context(), "t", Latest())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			begin := s.seq
			for range batch {
				if _, err := h.Publish(context.Background(), "t", Message{Type: "note", Data: make([]byte, 200)}); err != nil {
					b.Fatal(err)
				}
			}
			buf := make([]*Entry, 0, 64)
			b.ReportAllocs()
			for b.Loop() {
				s.seq = begin
				if got := s.Poll(buf, 64, 64<<10); len(got.Entries) != batch {
					b.Fatalf("%+v", got)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(max(batch, 1)), "ns/delivery")
		})
	}
}

// BenchmarkPollParallel measures readers of one topic that poll at the same moment, on as many
// goroutines as there are CPUs: what they share is the topic's lock.
func BenchmarkPollParallel(b *testing.B) {
	h := open(b, &loopBackend{}, Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s, err := h.Subscribe(b.Context(), "t", Latest())
		if err != nil {
			b.Error(err)
			return
		}
		defer s.Close()
		buf := make([]*Entry, 0, 64)
		for pb.Next() {
			s.Poll(buf, 64, 64<<10)
		}
	})
}
