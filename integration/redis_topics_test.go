package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// manyTopics is how many topics one instance follows.
const manyTopics = 10_000

// goroutinesMore is how many goroutines an instance may have more when it follows topics, however
// many: those of its few connections, and the runtime's own.
const goroutinesMore = 24

// followTopics subscribes to so many topics, some at a time. The subscriptions are closed with the
// test.
func followTopics(t testing.TB, h *hub.Hub, topics int) []*hub.Subscription {
	t.Helper()
	subscriptions := make([]*hub.Subscription, topics)
	inParallel(t, topics, func(i int) (err error) {
		subscriptions[i], err = h.Subscribe(context.Background(), topicName(i), hub.Latest())
		return err
	})
	t.Cleanup(func() {
		for _, s := range subscriptions {
			s.Close()
		}
	})
	return subscriptions
}

// inParallel calls f with each number below n, on 64 goroutines, and fails the test with the first
// error.
func inParallel(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	const workers = 64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// heap returns how many bytes are in use after a garbage collection.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyTopics: a hub that follows many topics has one Pub/Sub connection to each Redis node and
// no goroutine per topic, idle and after messages; and every topic's message arrives.
func TestManyTopics(t *testing.T) {
	for _, test := range []struct {
		name   string
		start  func(testing.TB) servers
		topics int
	}{
		{"server", startSingle, testenv.Sized(2000, manyTopics)},
		{"cluster", startCluster, testenv.Sized(500, 2000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.start(t)
			h := newHubOver(t, s.newBackend(t), hub.Options{})
			other := newHubOver(t, s.newBackend(t), hub.Options{})
			// One topic first: what is there once, and not for each topic, is there before the
			// count.
			followTopics(t, h, 1)
			if _, err := other.Publish(t.Context(), topicName(0), hub.Message{}); err != nil {
				t.Fatal(err)
			}
			goroutines, bytes := runtime.NumGoroutine(), heap()
			subscriptions := followTopics(t, h, test.topics)

			check := func(when string) {
				t.Helper()
				eventually(t, "the goroutines that followed have ended "+when, func() error {
					if n := runtime.NumGoroutine(); n > goroutines+goroutinesMore {
						return fmt.Errorf("%d goroutines, %d before", n, goroutines)
					}
					return nil
				})
				channels := 0
				for i, node := range s {
					connections, n := node.pubsub(t)
					if connections != 1 {
						t.Errorf("%s: %d Pub/Sub connections to node %d, want 1", when, connections, i)
					}
					if n < test.topics/len(s)/2 {
						t.Errorf("%s: node %d announces %d of %d topics", when, i, n, test.topics)
					}
					channels += n
				}
				if channels != test.topics {
					t.Errorf("%s: %d channels, want %d", when, channels, test.topics)
				}
			}
			check("after following")
			t.Logf("%d topics: %d goroutines, %d with one topic; %d bytes of memory for each topic and its subscription",
				test.topics, runtime.NumGoroutine(), goroutines, (heap()-bytes)/int64(test.topics))

			inParallel(t, test.topics, func(i int) error {
				_, err := other.Publish(t.Context(), topicName(i), hub.Message{Data: binary.BigEndian.AppendUint64(nil, uint64(i)), Binary: true})
				return err
			})
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			for i, sub := range subscriptions {
				if i == 0 {
					continue // has the message of before the count, or not
				}
				m, err := only(ctx, sub)
				if err != nil || binary.BigEndian.Uint64(m.Data) != uint64(i) {
					t.Fatalf("topic %d: message %v, %v", i, m, err)
				}
			}
			check("after a message for each topic")
		})
	}
}

// only returns the one message that a subscription has, or will have, without a goroutine of its
// own.
func only(ctx context.Context, s *hub.Subscription) (*hub.Message, error) {
	for {
		b := s.Poll(nil, 10, 1<<20)
		switch b.Status {
		case hub.Ready:
			if len(b.Entries) != 1 || b.Gap {
				return nil, fmt.Errorf("%d messages (gap %v), want one", len(b.Entries), b.Gap)
			}
			return &b.Entries[0].Message, nil
		case hub.Waiting:
			select {
			case <-b.Changed:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		case hub.Behind:
			if err := s.Fetch(ctx); err != nil {
				return nil, err
			}
		case hub.Ended:
			return nil, fmt.Errorf("ended: %w", b.Err)
		}
	}
}
