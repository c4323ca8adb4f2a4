package redisstream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// audience is a reader that follows a topic through a hub, and notes what it gets; "gap" stands for
// a gap that was said.
type audience struct {
	mu  sync.Mutex
	got []string
}

func attend(t testing.TB, h *hub.Hub, topic string, from hub.Position) *audience {
	t.Helper()
	sub, err := h.Subscribe(t.Context(), topic, from, hub.MarkGaps())
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	return listen(t, sub)
}

func listen(t testing.TB, sub *hub.Subscription) *audience {
	t.Helper()
	a := &audience{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for m, err := range sub.All() {
			if err != nil {
				return
			}
			a.mu.Lock()
			if m.Gap {
				a.got = append(a.got, "gap")
			}
			a.got = append(a.got, string(m.Data))
			a.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		sub.Close()
		wg.Wait()
	})
	return a
}

func (a *audience) all() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.got, " ")
}

// persist publishes until Redis takes it.
func persist(t testing.TB, b hub.Backend, topic, text string) hub.ID {
	t.Helper()
	var id hub.ID
	waitFor(t, "Publish", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var err error
		id, err = b.Publish(ctx, topic, hub.Message{Data: []byte(text), Key: text})
		return err == nil
	})
	return id
}

func newHub(t testing.TB, b hub.Backend) *hub.Hub {
	t.Helper()
	h, err := hub.New(b, hub.Options{CheckEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = h.Shutdown(ctx)
	})
	return h
}

// demote makes a server the replica of one that is not there, which keeps what it has, and a master
// again.
func demote(t *testing.T, s *server, key string) {
	t.Helper()
	ctx := t.Context()
	if err := s.Do(ctx, "REPLICAOF", "127.0.0.1", freePort(t)).Err(); err != nil {
		t.Error(err)
	}
	waitFor(t, "a refusal", func() bool {
		return isReply(s.XAdd(ctx, &redis.XAddArgs{Stream: key + "x", Values: []any{"a", "b"}}).Err())
	})
	waitFor(t, "a master", func() bool { return s.Do(ctx, "REPLICAOF", "NO", "ONE").Err() == nil })
}

func TestFaults(t *testing.T) {
	const topic = "t"
	for _, test := range []struct {
		name   string
		args   []string
		do     func(t *testing.T, s *server, key string)
		gap    bool // must be said before any later message
		pubsub bool
		// To a reader that was away and had seen all but the last message; otherwise it
		// continues.
		absent bool
	}{
		{name: "killed and restarted with AOF", args: []string{"--appendonly", "yes", "--appendfsync", "always"}, do: func(_ *testing.T, s *server, _ string) {
			s.program.Kill()
			s.program.Start()
		}},
		{name: "restarted empty", do: func(_ *testing.T, s *server, _ string) {
			s.program.Kill()
			s.program.Start()
		}, gap: true, absent: true},
		{name: "FLUSHALL", do: func(t *testing.T, s *server, _ string) { s.FlushAll(t.Context()) }, gap: true, absent: true},
		{name: "DEL", do: func(t *testing.T, s *server, key string) { s.Del(t.Context(), key) }, gap: true, absent: true},
		{name: "expiry", do: func(t *testing.T, s *server, key string) {
			s.PExpire(t.Context(), key, time.Millisecond)
			waitFor(t, "expiry", func() bool { return s.Exists(t.Context(), key).Val() == 0 })
		}, gap: true, absent: true},
		{name: "evicted of all keys", do: evict("allkeys-lru"), gap: true, absent: true},
		{name: "evicted of keys that expire", do: evict("volatile-ttl"), gap: true, absent: true},
		{name: "Pub/Sub connections killed", do: func(t *testing.T, s *server, _ string) {
			if n := s.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Val(); n == 0 {
				t.Error("there was none")
			}
		}, pubsub: true},
		{name: "all trimmed", do: func(t *testing.T, s *server, key string) { s.XTrimMaxLen(t.Context(), key, 0) }, absent: true},
		{name: "trimmed behind the readers", do: func(t *testing.T, s *server, key string) { s.XTrimMaxLen(t.Context(), key, 3) }},
		{name: "an entry of another program", do: func(t *testing.T, s *server, key string) {
			s.Do(t.Context(), "XADD", key, "*", "hr", "1", "data", "\xff", "type", "gap", "odd", "")
			s.Do(t.Context(), "XADD", key, "*", "a", "b")
		}},
		{name: "a replica for a while", do: demote},
		{name: "a replica without its master for a while", args: []string{"--replica-serve-stale-data", "no"}, do: demote},
		{name: "busy for a while", args: []string{"--busy-reply-threshold", "10"}, do: func(t *testing.T, s *server, key string) {
			looping := make(chan error, 1)
			go func() { looping <- s.Eval(context.Background(), "while true do end", nil).Err() }()
			waitFor(t, "BUSY", func() bool { return redis.HasErrorPrefix(s.Type(t.Context(), key).Err(), "BUSY") })
			if err := s.ScriptKill(t.Context()).Err(); err != nil {
				t.Error(err)
			}
			if err := <-looping; err == nil {
				t.Error("the script that never ends ended by itself")
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			modes(t, func(t *testing.T, o Options) {
				t.Parallel()
				if test.pubsub && o.Follow != FollowPubSub {
					t.Skip("there is no Pub/Sub connection")
				}
				s := startServer(t, test.args...)
				r := newRig(t, s.addr, o)
				h := newHub(t, r.Backend)
				connected := attend(t, h, topic, hub.Latest())
				var ids []hub.ID
				for i := range 10 {
					ids = append(ids, mustPublish(t, r, topic, "m"+itoa(i)))
				}
				before := "m0 m1 m2 m3 m4 m5 m6 m7 m8 m9"
				waitFor(t, "the messages before", func() bool { return connected.all() == before })

				test.do(t, s, r.keys.stream(topic))
				began := time.Now()
				persist(t, r, topic, "later")
				waitFor(t, "the message after, at the connected reader", func() bool { return strings.HasSuffix(connected.all(), " later") })
				t.Logf("recovery took %v", time.Since(began))
				rest := strings.TrimPrefix(connected.all(), before+" ")
				if said := strings.HasPrefix(rest, "gap "); said != test.gap {
					t.Errorf("the connected reader got %q", rest)
				}

				away := attend(t, newHub(t, newRig(t, s.addr, o).Backend), topic, hub.After(ids[8]))
				waitFor(t, "the message after, at the reader that was away", func() bool { return strings.HasSuffix(away.all(), "later") })
				if said := strings.HasPrefix(away.all(), "gap "); said != test.absent {
					t.Errorf("the reader that was away got %q", away.all())
				}
				if !test.absent && !strings.HasPrefix(away.all(), "m9 ") {
					t.Errorf("the reader that was away got %q, and not what it missed", away.all())
				}
			})
		})
	}
}

func TestPubSubKilledUnderLoad(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{})
	a := attend(t, newHub(t, r.Backend), "t", hub.Latest())
	var want []string
	for i := range 2000 {
		if i%250 == 100 {
			s.ClientKillByFilter(t.Context(), "TYPE", "pubsub")
		}
		text := itoa(i)
		mustPublish(t, r, "t", text)
		want = append(want, text)
	}
	waitFor(t, "all messages", func() bool { return strings.HasSuffix(a.all(), " 1999") })
	if a.all() != strings.Join(want, " ") {
		t.Error("the reader did not get exactly what was published")
	}
}

// TestCallsWhileDown counts how often a backend with many topics tries to reach a server that is
// gone, and how fast it is back.
func TestCallsWhileDown(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--appendonly", "yes")
	r := newRig(t, s.addr, Options{})
	h := newHub(t, r.Backend)
	var as []*audience
	for i := range 50 {
		as = append(as, attend(t, h, "t"+itoa(i), hub.Latest()))
	}
	s.program.Kill()
	waitFor(t, "the end of the live path", func() bool { return len(r.sessions()) == 0 })
	calls := func() int64 { return r.gate.dials.Load() + r.gate.sent.Load() }
	counting, before := time.Now(), calls()
	const span = 3 * time.Second
	timer := time.NewTimer(span)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	var wg sync.WaitGroup
	for down := true; down; {
		select {
		case <-pace.C:
			wg.Go(func() {
				if _, err := r.Publish(t.Context(), "t0", hub.Message{}); !errors.Is(err, hub.ErrRejected) {
					t.Errorf("Publish: %v, want ErrRejected", err)
				}
			})
		case <-timer.C:
			down = false
		}
	}
	// Calls are spaced in time: a slow machine makes the span longer, and no more of them.
	if n, took := calls()-before, time.Since(counting); n > int64(50*took.Seconds()) {
		t.Errorf("%d calls in %v", n, took)
	}
	wg.Wait()
	s.program.Start()
	began := time.Now()
	for i := range as {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			// The backend spaces attempts.
			for err := hub.ErrRejected; err != nil && ctx.Err() == nil; {
				_, err = r.Publish(ctx, "t"+itoa(i), hub.Message{Data: []byte("back")})
			}
		})
	}
	wg.Wait()
	for _, a := range as {
		waitFor(t, "a message", func() bool { return a.all() == "back" })
	}
	t.Logf("recovery took %v", time.Since(began))
}

func TestOneConnectionForAllTopics(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{})
	pubsubs := func() int {
		list := s.ClientList(t.Context()).Val()
		return strings.Count(list, "flags=P")
	}
	const topics = 1000
	var wg sync.WaitGroup
	stops := make([]func(), topics)
	recs := make([]*recorder, topics)
	for i := range topics {
		wg.Go(func() {
			recs[i] = &recorder{}
			var err error
			if _, stops[i], err = r.Follow(t.Context(), "t"+itoa(i), recs[i]); err != nil {
				t.Errorf("Follow: %v", err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if n := pubsubs(); n != 1 {
		t.Errorf("%d Pub/Sub connections for %d topics", n, topics)
	}
	for i := range topics {
		wg.Go(func() { mustPublish(t, r, "t"+itoa(i), "x") })
	}
	wg.Wait()
	for _, rec := range recs {
		waitFor(t, "a message", func() bool { return rec.has("x") })
	}
	s.freeze()
	began := time.Now()
	for _, stop := range stops {
		stop()
	}
	// Each of them would wait for seconds if it waited for Redis.
	if d := time.Since(began); d > time.Minute {
		t.Errorf("%d stops while Redis was frozen took %v", topics, d)
	}
	s.thaw()
	waitFor(t, "the end of the connection", func() bool { return pubsubs() == 0 })
}

// TestFollowAgainAtOnce lets a topic go and follows it again, over and over, with the unsubscribing
// still under way.
func TestFollowAgainAtOnce(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		keep, _, _ := mustFollow(t, r, "other")
		for i := range 200 {
			rec, _, stop := mustFollow(t, r, "t")
			text := itoa(i)
			mustPublish(t, r, "t", text)
			waitFor(t, "the message published after Follow", func() bool { return rec.has(text) })
			if n := len(rec.texts()); n != 1 {
				t.Fatalf("%d messages, want the one after the tail", n)
			}
			stop()
			if i%3 == 0 { // a Follow that is given up
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if _, _, err := r.Follow(ctx, "t", rec); !errors.Is(err, context.Canceled) {
					t.Fatalf("Follow: %v", err)
				}
			}
		}
		mustPublish(t, r, "other", "x")
		waitFor(t, "a message of the other topic", func() bool { return keep.has("x") })
	})
}

func TestPlacesOfEmptyTopics(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{})
	_, tail, _ := mustFollow(t, r, "t")
	now, _ := s.Time(t.Context()).Result()
	old := placeID(uint64(now.Add(-r.opts.expiry()).UnixMilli()))
	future := placeID(uint64(now.Add(time.Hour).UnixMilli()))
	gap := func(after hub.ID, want bool) {
		t.Helper()
		if p := mustRead(t, r, "t", after); p.Gap != want {
			t.Errorf("Read after %q: gap: %v, %d messages", after, p.Gap, len(p.Messages))
		}
	}
	gap(tail, false)
	gap(old, true)
	gap(future, true)
	first, _ := parseID(string(mustPublish(t, r, "t", itoa(0))))
	for i := range 299 {
		mustPublish(t, r, "t", itoa(i+1))
	}
	gap(tail, false)
	gap(old, true)
	// There were messages then: nobody was given that position.
	testenv.Eventually(t, "the first message is of the past", func() error {
		now, err := s.Time(t.Context()).Result()
		if err == nil && uint64(now.UnixMilli()) <= first.ms {
			err = errors.New(now.String())
		}
		return err
	})
	gap(placeID(first.ms), false)
	gap(placeID(first.ms+1), true)
	s.XTrimMaxLenApprox(t.Context(), r.keys.stream("t"), 50, 0)
	gap(tail, true)
}

// TestStreamThatBeginsAgain deletes a topic and publishes to it within the same millisecond.
func TestStreamThatBeginsAgain(t *testing.T) {
	m := startMini(t)
	r := newRig(t, m.Addr(), Options{})
	at := time.UnixMilli(1800000000000)
	m.SetTime(at)
	old := []hub.ID{mustPublish(t, r, "t", "a"), mustPublish(t, r, "t", "b")}
	m.Del(r.keys.stream("t"))
	m.SetTime(at.Add(time.Microsecond))
	for _, id := range []hub.ID{mustPublish(t, r, "t", "c"), mustPublish(t, r, "t", "d")} {
		for _, other := range old {
			if id == other {
				t.Errorf("the ID %q was given twice", id)
			}
		}
	}
	for _, id := range old {
		// Which of the two are newer is chance; the oldest are read by who has had nothing.
		if p := mustRead(t, r, "t", id); !p.Gap {
			t.Errorf("Read after %q: no gap, %d messages", id, len(p.Messages))
		}
	}
}
