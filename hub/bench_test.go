package hub

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// wireEncoder is about what a feed does with a message.
type wireEncoder struct{}

func (wireEncoder) Encode(m *Message) []byte {
	return fmt.Appendf(nil, "event: %s\ndata: %s\nid: %s\n\n", m.Type, m.Data, m.ID)
}

func TestPollFromTheWindowAllocatesNothing(t *testing.T) {
	b := newFake(chained)
	h := open(t, b, Options{})
	s, err := h.Subscribe(t.Context(), "t", Latest())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b.add("t", 1000)
	buf := make([]*Entry, 0, 4)
	delivered := 0
	if n := testing.AllocsPerRun(200, func() {
		batch := s.Poll(buf, 4, 1<<20)
		delivered += len(batch.Entries)
	}); n != 0 {
		t.Errorf("%v allocations for each Poll", n)
	}
	if delivered != 4*201 {
		t.Errorf("%d entries were delivered", delivered)
	}
}

// BenchmarkPublishAndPoll measures a message's way from Publish through the window to readers
// that take their entries with Poll, in wire form.
func BenchmarkPublishAndPoll(b *testing.B) {
	for _, readers := range []int{1, 1000} {
		b.Run(fmt.Sprint(readers), func(b *testing.B) {
			h := open(b, &loopBackend{}, Options{})
			subscriptions := make([]*Subscription, readers)
			for i := range subscriptions {
				s, err := h.Subscribe(context.Background(), "t", Latest())
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				subscriptions[i] = s
			}
			data := make([]byte, 200)
			buf := make([]*Entry, 0, 64)
			var by Encoder = wireEncoder{}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := h.Publish(context.Background(), "t", Message{Type: "bench", Data: data}); err != nil {
					b.Fatal(err)
				}
				for _, s := range subscriptions {
					batch := s.Poll(buf, 64, 1<<20)
					if len(batch.Entries) != 1 {
						b.Fatalf("Poll: %+v", batch)
					}
					batch.Entries[0].Encoded(by)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(readers), "ns/delivery")
		})
	}
}

// BenchmarkReplayFromTheWindow measures readers that resume at the beginning of a full window.
func BenchmarkReplayFromTheWindow(b *testing.B) {
	h := open(b, &loopBackend{}, Options{})
	first, err := h.Subscribe(context.Background(), "t", Latest())
	if err != nil {
		b.Fatal(err)
	}
	defer first.Close()
	for range 1000 {
		if _, err := h.Publish(context.Background(), "t", Message{Data: make([]byte, 200)}); err != nil {
			b.Fatal(err)
		}
	}
	buf := make([]*Entry, 0, 64)
	n := 0
	for b.Loop() {
		s, err := h.Subscribe(context.Background(), "t", After(first.Start()))
		if err != nil {
			b.Fatal(err)
		}
		for batch := s.Poll(buf, 64, 1<<20); batch.Status == Ready; batch = s.Poll(buf, 64, 1<<20) {
			n += len(batch.Entries)
		}
		s.Close()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
}

// loopBackend delivers what is published and retains nothing.
type loopBackend struct {
	stillBackend
	mu   sync.Mutex
	n    int
	sink Sink
}

func (l *loopBackend) Publish(_ context.Context, _ string, m Message) (ID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	m.ID = ID(fmt.Sprint(l.n))
	l.sink.Deliver(m)
	return m.ID, nil
}

func (l *loopBackend) Follow(_ context.Context, _ string, sink Sink) (ID, func(), error) {
	l.sink = sink
	return "0", func() {}, nil
}
