package brokertest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// restartIsNoSilentLoss: messages are numbered and published without repeats, so what a reader sees
// tells what it missed. A broker that is declared durable has all that it acknowledged after the
// restart. That is seen in the broker, or by readers that miss nothing.
func restartIsNoSilentLoss(t testing.TB, b Broker) {
	if b.Restart == nil {
		t.Skip("Broker.Restart is not set")
	}
	topic := NewTopic()
	pair := b.pair(t)
	hubs := [2]*hub.Hub{NewHub(t, pair[0]), NewHub(t, pair[1])}
	readers := [2]*Reader{Read(t, hubs[0], topic), Read(t, hubs[1], topic)}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acked := newNumbers()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			attempt, done := context.WithTimeout(ctx, 5*time.Second)
			_, err := hubs[n%2].Publish(attempt, topic, hub.Message{Data: []byte(strconv.Itoa(n))})
			done()
			if err == nil {
				acked.add(n)
			}
			// Neither a flood while all is well nor a spin while the broker is down.
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	const before, after = 50, 50
	b.awaitAcked(t, acked, before)
	for _, r := range readers {
		r.Until(t, b.Timeout, "messages before the restart", func(ms []hub.Message) bool { return len(ms) >= before/2 })
	}
	b.Restart(t)
	sofar, _ := acked.all()
	restarted := b.awaitAcked(t, acked, len(sofar)+after)

	// A reader is whole again when it shows what is published now, not merely when it shows
	// something that waited in the broker.
	for i, r := range readers {
		r.Until(t, b.HealTimeout, fmt.Sprintf("delivery to instance %d after the restart", i), func(ms []hub.Message) bool {
			return len(ms) > 0 && number(ms[len(ms)-1]) > restarted
		})
	}
	cancel()
	wg.Wait()
	published, _ := acked.all()
	mayLose := true
	switch {
	case b.Traits.Durable && b.Kept != nil:
		checkKept(t, published, b.Kept(t, topic))
	case b.Traits.Durable:
		mayLose = false
	}
	for i, r := range readers {
		last := published[len(published)-1]
		r.Until(t, b.Timeout, fmt.Sprintf("the last message at instance %d", i), func(ms []hub.Message) bool {
			return number(ms[len(ms)-1]) >= last
		})
		if lost := checkLosses(t, fmt.Sprintf("instance %d", i), published, r.Messages()); lost > 0 && !mayLose {
			t.Errorf("instance %d: %d messages are lost, though the broker is declared durable", i, lost)
		}
	}
}

// awaitAcked waits until n messages were published and returns the number of the last one.
func (b Broker) awaitAcked(t testing.TB, acked *numbers, n int) int {
	t.Helper()
	timer := time.NewTimer(b.HealTimeout)
	defer timer.Stop()
	for {
		all, changed := acked.all()
		if len(all) >= n {
			return all[len(all)-1]
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("%d of %d messages could be published within %v", len(all), n, b.HealTimeout)
		}
	}
}

// checkLosses: what a reader got is in order, without repeats, and where a published number is
// missing a gap is said before a later one. It returns how many are missing.
func checkLosses(t testing.TB, who string, published []int, got []hub.Message) (lost int) {
	t.Helper()
	place, gaps := 0, 0
	for _, m := range got {
		n := number(m)
		if n <= place {
			t.Errorf("%s: %d came after %d", who, n, place)
			continue
		}
		missing := 0
		for _, p := range published {
			if place < p && p < n {
				missing++
			}
		}
		if missing > 0 && !m.Gap {
			t.Errorf("%s: %d messages between %d and %d are missing, and no gap was said", who, missing, place, n)
		}
		if m.Gap {
			gaps++
		}
		lost += missing
		place = n
	}
	t.Logf("%s: %d published, %d received, %d lost, %d gaps said", who, len(published), len(got), lost, gaps)
	return lost
}

func checkKept(t testing.TB, published []int, kept []string) {
	t.Helper()
	has := make(map[string]bool)
	for _, data := range kept {
		has[data] = true
	}
	missing := 0
	for _, n := range published {
		if !has[strconv.Itoa(n)] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d messages are gone from the broker, though it is declared durable", missing, len(published))
	}
	t.Logf("%d published, %d in the broker", len(published), len(kept))
}

func number(m hub.Message) int {
	n, err := strconv.Atoi(string(m.Data))
	if err != nil {
		return -1
	}
	return n
}

// numbers are the numbers of the messages that were published.
type numbers struct {
	mu      sync.Mutex
	list    []int
	changed chan struct{} // closed and replaced with each number
}

func newNumbers() *numbers { return &numbers{changed: make(chan struct{})} }

func (n *numbers) add(i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, i)
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *numbers) all() (list []int, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list), n.changed
}
