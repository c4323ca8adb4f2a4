package redisstream

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// slowLink is a server and the slow link to it.
type slowLink struct {
	*server
	relay *testenv.Relay
}

func newSlowLink(t *testing.T, args ...string) *slowLink {
	s := startServer(t, args...)
	return &slowLink{s, testenv.NewRelay(t, s.addr)}
}

// fill publishes messages of a size, past the link. Each begins with its number.
func (l *slowLink) fill(t *testing.T, topic string, n, size int) {
	t.Helper()
	b := newRig(t, l.addr, Options{})
	for from := 0; from < n; from += 100 {
		var wg sync.WaitGroup
		for i := from; i < min(from+100, n); i++ {
			// One after the other, for their order.
			if _, err := b.Publish(t.Context(), topic, hub.Message{Data: heavy(i, size)}); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
	}
}

func heavy(i, size int) []byte {
	return append([]byte(fmt.Sprintf("%08d", i)), bytes.Repeat([]byte("x"), size-8)...)
}

// arrivals notes when a subscription's messages come.
type arrivals struct {
	mu          sync.Mutex
	first, last time.Time
	numbers     []string // "gap" for one
}

func arrive(t testing.TB, sub *hub.Subscription) *arrivals {
	a := &arrivals{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for m, err := range sub.All() {
			if err != nil {
				return
			}
			a.mu.Lock()
			if a.last = time.Now(); a.first.IsZero() {
				a.first = a.last
			}
			if m.Gap {
				a.numbers = append(a.numbers, "gap")
			}
			a.numbers = append(a.numbers, string(m.Data[:8]))
			a.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		sub.Close()
		wg.Wait()
	})
	return a
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.numbers)
}

// TestSlowLink reads what is larger than the link carries within a timeout.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name           string
		n, long, size  int
		rate, longRate int
	}{
		{"64 KiB", 48, 400, 64 << 10, 4 << 20, 2_500_000},
	} {
		modes(t, func(t *testing.T, o Options) {
			n, rate := testenv.Sized(test.n, test.long), testenv.Sized(test.rate, test.longRate)
			l := newSlowLink(t)
			l.fill(t, "t", n, test.size)
			l.relay.Rate(rate)
			h := newHub(t, newRig(t, l.relay.Addr, o).Backend)
			began := time.Now()
			sub, err := h.Subscribe(t.Context(), "t", hub.Earliest())
			if err != nil {
				t.Fatal(err)
			}
			a := arrive(t, sub)
			deadline := time.Now().Add(55 * time.Second)
			for a.count() < n && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
			}
			need := time.Duration(n*test.size) * time.Second / time.Duration(rate)
			t.Logf("%d of %d: first after %v, all after %v of %v; %d bytes of %d", a.count(), n,
				a.first.Sub(began), a.last.Sub(began), need, l.relay.Passed(), n*test.size)
		})
	}
}

// TestManyTopicsOverALongLink follows many topics at once, and has them all healed at once.
func TestManyTopicsOverALongLink(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		l := newSlowLink(t)
		l.relay.Delay(50 * time.Millisecond)
		h := newHub(t, newRig(t, l.relay.Addr, o).Backend)
		n := testenv.Sized(200, 500)
		began := time.Now()
		readers := make([]*audience, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { readers[i] = attend(t, h, "t"+itoa(i), hub.Latest()) })
		}
		wg.Wait()
		followed := time.Since(began)
		l.relay.Cut()
		began = time.Now()
		past := newRig(t, l.addr, Options{})
		for i := range n {
			wg.Go(func() { mustPublish(t, past, "t"+itoa(i), "m") })
		}
		wg.Wait()
		waitFor(t, "all readers", func() bool {
			for _, r := range readers {
				if r.all() != "m" {
					return false
				}
			}
			return true
		})
		t.Logf("followed after %v, healed after %v", followed, time.Since(began))
	})
}

// TestLiveOnASlowLink publishes more than the link carries, and then the last message.
func TestLiveOnASlowLink(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		l := newSlowLink(t)
		l.relay.Rate(3_000_000)
		h := newHub(t, newRig(t, l.relay.Addr, o).Backend)
		sub, err := h.Subscribe(t.Context(), "t", hub.Latest(), hub.MarkGaps())
		if err != nil {
			t.Fatal(err)
		}
		a := arrive(t, sub)
		const n = 150
		past := newRig(t, l.addr, Options{})
		began := time.Now()
		tick := time.NewTicker(200 * time.Millisecond)
		for i := range n {
			<-tick.C
			if _, err := past.Publish(t.Context(), "t", hub.Message{Data: heavy(i, 1<<20)}); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d when all are published, %d bytes passed", a.count(), l.relay.Passed())
		deadline := time.Now().Add(60 * time.Second)
		for a.count() < n && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("%d of %d; last after %v, %d bytes passed; %+v", a.count(), n, a.last.Sub(began), l.relay.Passed(), h.Stats())
	})
}
