package redisstream

import (
	"bytes"
	"fmt"
	"strconv"
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

func newSlowLink(t testing.TB, args ...string) *slowLink {
	s := startServer(t, args...)
	return &slowLink{s, testenv.NewRelay(t, s.addr)}
}

// weighing is a message of a size that begins with its number.
func weighing(i, size int) hub.Message {
	return hub.Message{Data: append(fmt.Appendf(nil, "%08d", i), bytes.Repeat([]byte("x"), size-8)...)}
}

// arrivals are the messages that a subscription has brought.
type arrivals struct {
	mu          sync.Mutex
	numbers     []int // -1 for a gap
	first, last time.Time
	end         chan struct{} // closed when the last message came
}

// arrive collects what a subscription brings up to the message with the number n-1.
func arrive(t testing.TB, sub *hub.Subscription, n int) *arrivals {
	a := &arrivals{end: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for m, err := range sub.All() {
			if err != nil {
				return
			}
			number, err := strconv.Atoi(string(m.Data[:8]))
			if err != nil {
				t.Error(err)
			}
			a.mu.Lock()
			if a.last = time.Now(); a.first.IsZero() {
				a.first = a.last
			}
			if m.Gap {
				a.numbers = append(a.numbers, -1)
			}
			a.numbers = append(a.numbers, number)
			a.mu.Unlock()
			if number == n-1 {
				close(a.end)
				return
			}
		}
	})
	t.Cleanup(func() {
		sub.Close()
		wg.Wait()
	})
	return a
}

// await waits for the last message, and fails the test when anything is missing without a gap.
func (a *arrivals) await(t testing.TB) {
	t.Helper()
	select {
	case <-a.end:
	case <-time.After(5 * time.Minute): // it only ends what would hang
		t.Error("the last message does not come")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next, gap := 0, false
	for _, n := range a.numbers {
		switch {
		case n == -1:
			gap = true
		case n < next || n > next && !gap:
			t.Fatalf("message %d came instead of %d; gap: %v", n, next, gap)
		default:
			next, gap = n+1, false
		}
	}
}

// TestSlowLink reads what takes the link longer than a command may.
func TestSlowLink(t *testing.T) {
	long := testenv.IsLong()
	t.Parallel()
	type part struct{ n, size int }
	for _, test := range []struct {
		name     string
		parts    []part
		longer   int // times as many messages
		rate     int
		longRate int
		least    bool // little besides the messages goes over the link
	}{
		{"64 KiB", []part{{40, 64 << 10}}, 10, 4_000_000, 2_500_000, true},
		{"64 KiB very slowly", []part{{6, 64 << 10}}, 10, 500_000, 100_000, true},
		{"1 MiB", []part{{3, 1 << 20}}, 10, 4_000_000, 2_500_000, true},
		{"small", []part{{1800, 200}}, 5, 4_000_000, 2_500_000, false},
		{"small, then large, then small", []part{{300, 200}, {10, 64 << 10}, {300, 200}}, 10, 4_000_000, 2_500_000, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			modes(t, func(t *testing.T, o Options) {
				t.Parallel()
				rate, times := test.rate, 1
				if long {
					rate, times = test.longRate, test.longer
				}
				l := newSlowLink(t)
				past := newRig(t, l.addr, Options{})
				n, size := 0, 0
				for _, p := range test.parts {
					for range p.n * times {
						if _, err := past.Publish(t.Context(), "t", weighing(n, p.size)); err != nil {
							t.Fatal(err)
						}
						n++
						size += p.size
					}
				}
				l.relay.Rate(rate)
				h := newHub(t, newRig(t, l.relay.Addr, o).Backend)
				began := time.Now()
				sub, err := h.Subscribe(t.Context(), "t", hub.Earliest())
				if err != nil {
					t.Fatal(err)
				}
				a := arrive(t, sub, n)
				a.await(t)
				first, all, passed := a.first.Sub(began), a.last.Sub(began), l.relay.Passed()
				need := time.Duration(size) * time.Second / time.Duration(rate)
				t.Logf("the first after %v, all after %v of %v; %.2f of their bytes", first, all, need, float64(passed)/float64(size))
				if len(a.numbers) != n {
					t.Errorf("%d messages and gaps, want %d", len(a.numbers), n)
				}
				if test.least && passed > int64(size)*13/10 {
					t.Errorf("%d bytes passed for %d", passed, size)
				}
				if long && (first > 5*time.Second || test.least && all > need*3/2+time.Second) {
					t.Errorf("the first message came after %v, all after %v of %v", first, all, need)
				}
			})
		})
	}
}

// TestLiveOnASlowLink publishes more than the link carries, until the server closes the connection
// of a follower that lags too far behind.
func TestLiveOnASlowLink(t *testing.T) {
	long := testenv.IsLong()
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		n, size, rate, every, limit := 60, 256<<10, 5_000_000, 10*time.Millisecond, "pubsub 1mb 1mb 1"
		if long {
			n, size, rate, every, limit = 150, 1_000_000, 3_000_000, 200*time.Millisecond, "pubsub 32mb 8mb 60"
		}
		l := newSlowLink(t, "--client-output-buffer-limit", limit)
		l.relay.Rate(rate)
		h := newHub(t, newRig(t, l.relay.Addr, o).Backend)
		sub, err := h.Subscribe(t.Context(), "t", hub.Latest(), hub.MarkGaps())
		if err != nil {
			t.Fatal(err)
		}
		a := arrive(t, sub, n)
		past := newRig(t, l.addr, Options{})
		began := time.Now()
		pace := time.NewTicker(every)
		defer pace.Stop()
		for i := range n {
			<-pace.C
			if _, err := past.Publish(t.Context(), "t", weighing(i, size)); err != nil {
				t.Fatal(err)
			}
		}
		a.await(t)
		all, need := a.last.Sub(began), time.Duration(n*size)*time.Second/time.Duration(rate)
		t.Logf("%d messages and gaps of %d after %v of %v, %.2f of their bytes", len(a.numbers), n, all, need,
			float64(l.relay.Passed())/float64(n*size))
		if long && all > 2*need {
			t.Errorf("the last message came after %v of %v", all, need)
		}
	})
}

// TestManyTopicsOverALongWay follows many topics at once, and has them all healed at once. How long
// that takes depends on the round trips and not on the topics. It runs by itself: what else the
// machine does would be measured too.
func TestManyTopicsOverALongWay(t *testing.T) {
	long := testenv.IsLong()
	modes(t, func(t *testing.T, o Options) {
		n := testenv.Sized(200, 500)
		l := newSlowLink(t)
		l.relay.Delay(50 * time.Millisecond)
		past := newRig(t, l.addr, Options{})
		toAll := func(text string) {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { mustPublish(t, past, "t"+itoa(i), text) })
			}
			wg.Wait()
		}
		toAll("before")
		h := newHub(t, newRig(t, l.relay.Addr, o).Backend)
		began := time.Now()
		readers := make([]*audience, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { readers[i] = attend(t, h, "t"+itoa(i), hub.Latest()) })
		}
		wg.Wait()
		followed := time.Since(began)

		l.relay.Down()
		toAll("meanwhile")
		l.relay.Open()
		began = time.Now()
		waitFor(t, "all readers", func() bool {
			for _, r := range readers {
				if r.all() != "meanwhile" {
					return false
				}
			}
			return true
		})
		healed := time.Since(began)
		t.Logf("%d topics: followed after %v, healed after %v", n, followed, healed)
		if long && (followed > 2*time.Second || healed > 3*time.Second) {
			t.Errorf("%d topics: followed after %v, healed after %v", n, followed, healed)
		}
	})
}
