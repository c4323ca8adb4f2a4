package redisstream

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// modes runs a test with each way of getting live messages.
func modes(t *testing.T, f func(t *testing.T, o Options)) {
	t.Run("pubsub", func(t *testing.T) { f(t, Options{}) })
	t.Run("xread", func(t *testing.T) { f(t, Options{Follow: FollowXRead}) })
}

// evict makes the server evict a key for want of memory, and gives it memory again.
func evict(policy string) func(*testing.T, *server, string) {
	return func(t *testing.T, s *server, key string) {
		t.Helper()
		s.ConfigSet(t.Context(), "maxmemory-policy", policy)
		s.ConfigSet(t.Context(), "maxmemory", "1")
		waitFor(t, "eviction", func() bool { return s.Exists(t.Context(), key).Val() == 0 })
		s.ConfigSet(t.Context(), "maxmemory", "0")
	}
}

// TestTrimmedUnderReaders trims by whole nodes, as operators do, while messages are published and
// read.
func TestTrimmedUnderReaders(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		s := startServer(t)
		r := newRig(t, s.addr, o)
		a := attend(t, newHub(t, r.Backend), "t", hub.Latest())
		var want []string
		var ids []hub.ID
		for i := range 1500 {
			text := "m" + itoa(i)
			ids = append(ids, mustPublish(t, r, "t", text))
			want = append(want, text)
			if i%50 == 49 {
				// The connected reader has all that is removed now, and perhaps not all that is
				// there.
				waitFor(t, "messages", func() bool { return strings.Contains(a.all()+" ", " m"+itoa(i-20)+" ") })
				s.XTrimMaxLenApprox(t.Context(), r.keys.stream("t"), 100, 0)
			}
		}
		waitFor(t, "the last message", func() bool { return strings.HasSuffix(a.all(), " m1499") })
		if a.all() != strings.Join(want, " ") {
			t.Error("the connected reader did not get exactly what was published")
		}
		if n := s.XLen(t.Context(), r.keys.stream("t")).Val(); n > 300 {
			t.Fatalf("%d entries are left: nothing was trimmed", n)
		}
		other := newHub(t, newRig(t, s.addr, o).Backend)
		for _, test := range []struct {
			seen int
			gap  bool
		}{{100, true}, {1450, false}} {
			away := attend(t, other, "t", hub.After(ids[test.seen]))
			waitFor(t, "the last message", func() bool { return strings.HasSuffix(away.all(), "m1499") })
			if said := strings.HasPrefix(away.all(), "gap "); said != test.gap {
				t.Errorf("the reader that had seen m%d was told of a gap: %v", test.seen, said)
			}
			if !test.gap && away.all() != strings.Join(want[test.seen+1:], " ") {
				t.Errorf("the reader that had seen m%d got %s", test.seen, away.all())
			}
		}
	})
}

// TestReplicaTakesOver replaces the master by a replica that lacks messages that were acknowledged
// and seen.
func TestReplicaTakesOver(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		master := startServer(t, "--repl-diskless-sync-delay", "0")
		replica := startServer(t, "--replicaof", "127.0.0.1 "+master.addr[len("127.0.0.1:"):])
		r := newRig(t, master.addr, o)
		h := newHub(t, r.Backend)
		connected := attend(t, h, "t", hub.Latest())
		var kept hub.ID
		for i := range 5 {
			kept = mustPublish(t, r, "t", "m"+itoa(i))
		}
		waitFor(t, "the replica", func() bool { return replica.XLen(t.Context(), r.keys.stream("t")).Val() == 5 })
		unaware := attend(t, h, "quiet", hub.Latest())
		waitFor(t, "replication to end", func() bool { return replica.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err() == nil })
		var lost hub.ID
		for i := range 3 {
			lost = mustPublish(t, r, "t", "lost"+itoa(i))
		}
		before := "m0 m1 m2 m3 m4 lost0 lost1 lost2"
		waitFor(t, "the messages before", func() bool { return connected.all() == before })

		// Whoever resolves the master's address gets the replica's from now on, as a sentinel would
		// tell.
		r.gate.instead.Store(&replica.addr)
		master.program.Kill()
		persist(t, r, "t", "later")
		persist(t, r, "quiet", "later")
		waitFor(t, "the message after", func() bool { return strings.HasSuffix(connected.all(), "later") && unaware.all() != "" })
		if got := connected.all(); !strings.HasPrefix(got, before+" gap ") {
			t.Errorf("the reader that had seen what was lost got %s", got)
		}
		if unaware.all() != "later" {
			t.Errorf("the reader of another topic got %s", unaware.all())
		}
		other := newHub(t, newRig(t, replica.addr, o).Backend)
		for _, test := range []struct {
			what string
			from hub.ID
			gap  bool
		}{{"what was lost", lost, true}, {"what was kept", kept, false}} {
			away := attend(t, other, "t", hub.After(test.from))
			waitFor(t, "the message after", func() bool { return strings.HasSuffix(away.all(), "later") })
			if said := strings.HasPrefix(away.all(), "gap "); said != test.gap {
				t.Errorf("a reader that was away and had seen %s got %s", test.what, away.all())
			}
		}
	})
}

// TestSubscribeAndCancel begins and ends subscriptions to topics where nothing happens.
func TestSubscribeAndCancel(t *testing.T) {
	testenv.Long(t)
	modes(t, func(t *testing.T, o Options) {
		s := startServer(t)
		r := newRig(t, s.addr, o)
		h, err := hub.New(r.Backend, hub.Options{IdleDelay: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
		once := func(topic string) time.Duration {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sub, err := h.Subscribe(ctx, topic, hub.Latest())
			if err != nil {
				t.Fatal(err)
			}
			reading, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				close(reading)
				for _, err := range sub.All() {
					if err != nil {
						return
					}
				}
			}()
			<-reading
			began := time.Now()
			cancel()
			sub.Close()
			<-done
			return time.Since(began)
		}
		count := func() (goroutines, connections int) {
			return runtime.NumGoroutine(), strings.Count(s.ClientList(t.Context()).Val(), "\n")
		}
		idle := func() bool {
			r.live.mu.RLock()
			defer r.live.mu.RUnlock()
			for _, n := range r.live.byClient { // its connection stays, see live.watch
				if len(n.topics)+len(n.fresh) > 0 {
					return false
				}
			}
			return r.xreaders == nil || len(readers(r)) == 0
		}
		// At once, so that the pool has opened as many connections as it is going to need: it keeps
		// them for a while.
		var warm sync.WaitGroup
		for i := range 4 {
			warm.Go(func() { once("warm" + itoa(i)) })
		}
		warm.Wait()
		waitFor(t, "the end of the subscriptions", idle)
		goroutines, connections := count()
		const topics = 1000
		var ending time.Duration
		for i := range topics {
			// Each of them would wait for seconds if it waited for Redis.
			if ending += once("t" + itoa(i)); ending > time.Minute {
				t.Fatalf("%d subscriptions took %v to end", i+1, ending)
			}
		}
		waitFor(t, "all goroutines and connections to end", func() bool {
			g, c := count()
			return idle() && g <= goroutines && c <= connections
		})
	})
}
