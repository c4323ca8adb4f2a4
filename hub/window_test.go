package hub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestWindowBounds(t *testing.T) {
	message := Message{Data: make([]byte, 1000)}
	size := windowSize(&Message{ID: "10", Prev: "10", Data: message.Data})
	tests := []struct {
		name string
		o    Options
		want int
	}{
		{"by count", Options{Window: 7}, 7},
		{"by bytes", Options{WindowBytes: int64(5 * size)}, 5},
		{"by the lesser", Options{Window: 3, WindowBytes: int64(5 * size)}, 3},
		{"at least one message", Options{WindowBytes: 1}, 1},
		{"at least one message in all", Options{Window: 1}, 1},
		{"by default", Options{}, 1024},
		{"by default, negative", Options{Window: -1, WindowBytes: -1, TotalBytes: -1, MaxMessage: -1, IdleDelay: -1, CheckEvery: -1}, 1024},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			eachReplay(t, test.o, func(t *testing.T, b *fake, h *Hub) {
				r := subscribe(t, h, "t", Latest())
				for range 10 { // IDs of one and four digits differ in size
					b.add("t", 1)
				}
				for range 1200 {
					b.append("t", message)
				}
				f := h.topics["t"]
				if got := f.log.Len(); got > test.want || got < test.want-1 {
					t.Errorf("%d messages are in the window, want %d", got, test.want)
				}
				if got := h.Stats().WindowBytes; got != f.log.Bytes() || got == 0 {
					t.Errorf("%d bytes are counted, %d are in the window", got, f.log.Bytes())
				}
				r.want(upTo(1, 1210))
				r.Close()
				time.Sleep(time.Minute)
				if s := h.Stats(); s.WindowBytes != 0 || s.Topics != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

func TestTotalBytes(t *testing.T) {
	const total = 200_000
	each(t, Options{TotalBytes: total}, func(t *testing.T, b *fake, h *Hub) {
		random := rand.New(rand.NewPCG(1, 1))
		var readers []reader
		for i := range 20 {
			readers = append(readers, subscribe(t, h, fmt.Sprint("t", i), Latest()))
		}
		var stamps time.Duration
		for range 2000 {
			stamps++
			topic := fmt.Sprint("t", random.IntN(len(readers)))
			// All topics share one clock, so that the oldest of all are known.
			b.mu.Lock()
			tt := b.topic(topic)
			tt.n++
			m := Message{ID: ID(fmt.Sprint(tt.n)), Prev: tt.last(), Time: time.Unix(0, 0).Add(stamps), Data: make([]byte, random.IntN(3000))}
			tt.all[m.ID] = m
			tt.retained = append(tt.retained, m)
			b.mu.Unlock()
			b.deliver(topic, m.ID)
			if got := h.Stats().WindowBytes; got > total {
				t.Fatalf("%d bytes of windows", got)
			}
		}
		oldest, n := time.Unix(0, 0).Add(time.Hour), 0
		for _, f := range h.topics {
			n += f.log.Len()
			if at, ok := (swept{f}).Oldest(); ok && at.Before(oldest) {
				oldest = at
			}
		}
		// What is kept are the newest of all: as many as there are, and none older than the oldest.
		if want := time.Unix(0, 0).Add(stamps - time.Duration(n) + 1); !oldest.Equal(want) || n < 30 {
			t.Errorf("%d messages are kept, the oldest of %v, want %v", n, oldest.UnixNano(), want.UnixNano())
		}
		for _, r := range readers {
			r.Close()
		}
		time.Sleep(time.Minute)
		if s := h.Stats(); s.WindowBytes != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestTotalBytesCountsWhatIsHeld: while the backend cannot be read, held messages take the place
// of windows.
func TestTotalBytesCountsWhatIsHeld(t *testing.T) {
	const total, topics = 100_000, 20
	eachReplay(t, Options{TotalBytes: total}, func(t *testing.T, b *fake, h *Hub) {
		var readers []reader
		for i := range topics {
			readers = append(readers, subscribe(t, h, fmt.Sprint("t", i), Latest()))
		}
		b.script(func() {
			b.onRead = func(context.Context, fakeRead, func() Page) (Page, error) { return Page{}, context.DeadlineExceeded }
		})
		for i := range topics {
			b.restored(fmt.Sprint("t", i), "")
		}
		for range 50 {
			for i := range topics {
				b.append(fmt.Sprint("t", i), Message{Data: make([]byte, 500)})
				if got := h.Stats().WindowBytes; got > total {
					t.Fatalf("%d bytes", got)
				}
			}
		}
		held := int64(0)
		for _, f := range h.topics {
			held += f.heldBytes
		}
		if got := h.Stats().WindowBytes; got != held || held == 0 {
			t.Fatalf("%d bytes are counted, %d held", got, held)
		}
		b.script(func() { b.onRead = nil })
		time.Sleep(time.Minute)
		for _, r := range readers {
			r.want(upTo(1, 50))
		}
	})
}

func TestTotalBytesManyPublishers(t *testing.T) {
	const total = 300_000
	b := newFake(unchained)
	h := open(t, b, Options{TotalBytes: total})
	var wg sync.WaitGroup
	for i := range 8 {
		topic := fmt.Sprint("t", i)
		s, err := h.Subscribe(t.Context(), topic, Latest())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		wg.Go(func() {
			for range 500 {
				b.append(topic, Message{Data: make([]byte, 1000)})
			}
		})
	}
	wg.Wait()
	h.sweeper.sweep()
	if got := h.Stats().WindowBytes; got > total || got < total/2 {
		t.Errorf("%d bytes of windows", got)
	}
}

// TestMemoryOfAnEmptyTopic follows 10,000 topics that have no messages.
func TestMemoryOfAnEmptyTopic(t *testing.T) {
	const topics = 10_000
	b := &stillBackend{}
	h := open(t, b, Options{})
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	subscriptions := make([]*Subscription, topics)
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprint("topic/", i)
	}
	before := heap()
	for i := range subscriptions {
		s, err := h.Subscribe(context.Background(), names[i], Latest())
		if err != nil {
			t.Fatal(err)
		}
		subscriptions[i] = s
	}
	each := (heap() - before) / topics
	t.Logf("%d bytes for each topic with one reader", each)
	if each > 2048 {
		t.Errorf("%d bytes for each topic", each)
	}
	for _, s := range subscriptions {
		s.Close()
	}
}

// stillBackend has no messages and holds nothing of the topics that are followed.
type stillBackend struct{ Backend }

func (*stillBackend) IsID(ID) bool { return true }

func (*stillBackend) Publish(context.Context, string, Message) (ID, error) { return "1", nil }
func (*stillBackend) Follow(context.Context, string, Sink) (ID, func(), error) {
	return "0", func() {}, nil
}
func (*stillBackend) Read(_ context.Context, _ string, after ID, _ int) (Page, error) {
	return Page{Next: after}, nil
}
func (*stillBackend) Traits() Traits { return Traits{Name: "still", Replay: true} }
func (*stillBackend) Close() error   { return nil }
