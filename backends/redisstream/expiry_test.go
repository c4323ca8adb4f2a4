package redisstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// ttls are how long a topic's keys are there, by what their names have behind that of the stream;
// -1 for ever.
func ttls(t testing.TB, admin *redis.Client, stream string) map[string]time.Duration {
	t.Helper()
	left := make(map[string]time.Duration)
	for _, key := range admin.Keys(t.Context(), "*").Val() {
		if suffix, ok := strings.CutPrefix(key, stream); ok {
			left[suffix] = admin.PTTL(t.Context(), key).Val()
		}
	}
	return left
}

// TestEveryKeyExpires looks at all keys of topics after everything that can be done to them.
func TestEveryKeyExpires(t *testing.T) {
	const window, minutes = 2 * time.Hour, 10 * time.Minute
	both(t, func(t *testing.T, addr string) {
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		for i, test := range []struct {
			o                       Options
			topic                   string
			open, finished, deleted time.Duration // 0 for ever
		}{
			{Options{}, "t", 48 * time.Hour, 48 * time.Hour, 48 * time.Hour},
			{Options{MaxAge: 10 * time.Second}, "t", minutes, 45 * time.Second, minutes},
			{Options{MaxAge: time.Minute}, "t", minutes, 2 * time.Minute, minutes},
			{Options{MaxAge: time.Hour}, "t", 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
			{Options{MaxAge: time.Second, MinExpiry: 30 * time.Second}, "t", 30 * time.Second, 30 * time.Second, 30 * time.Second},
			{Options{MaxAge: time.Second, MinExpiry: time.Hour}, "t", time.Hour, 45 * time.Second, time.Hour},
			{Options{FinishedExpiry: time.Minute}, "t", 48 * time.Hour, time.Minute, 48 * time.Hour},
			{Options{MaxAge: time.Second, FinishedExpiry: time.Hour}, "t", minutes, minutes, minutes},
			{Options{KeepForever: true}, "t", 0, 0, 24 * time.Hour},
			{Options{KeepForever: true, FinishedExpiry: time.Minute}, "t", 0, time.Minute, 24 * time.Hour},
			{Options{Retention: []hub.Retention{{Prefix: "b/", Age: 10 * time.Second}}}, "b/t", minutes, 45 * time.Second, minutes},
			{Options{Retention: []hub.Retention{{Prefix: "b/", Age: 10 * time.Second}}}, "t", 48 * time.Hour, 48 * time.Hour, 48 * time.Hour},
			{Options{KeepForever: true, Retention: []hub.Retention{{Prefix: "b/", Age: time.Hour, Bytes: 1 << 20}}}, "b/t", 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
			{Options{Retention: []hub.Retention{{Prefix: "b/", Messages: 100}}, FinishedExpiry: time.Minute}, "b/t", 48 * time.Hour, time.Minute, 48 * time.Hour},
		} {
			test.o.Prefix, test.o.KeyWindow, test.o.MaxKeys = itoa(i)+":", window, 3
			r := newRig(t, addr, test.o)
			stream := r.keys.stream(test.topic)
			now := ""
			wants := func(expiry time.Duration, there string) {
				t.Helper()
				left := ttls(t, admin, stream)
				for suffix := range strings.SplitSeq(there, " ") {
					if _, ok := left[strings.TrimPrefix(suffix, "stream")]; !ok {
						t.Errorf("%d, %s: %s is not there", i, now, suffix)
					}
				}
				for suffix, d := range left {
					most, least := expiry, expiry-time.Minute/4
					switch {
					case strings.HasPrefix(suffix, ":keys"):
						most, least = window*17/16+2*time.Millisecond, window
					case suffix != "" && expiry > 0:
						least = 1 // it may expire before the stream
					}
					if expiry == 0 && !strings.HasPrefix(suffix, ":keys") {
						// Behind an end that was none, what was erased may be forgotten.
						if d >= 0 && (suffix == "" || test.finished == 0) {
							t.Errorf("%d, %s: %q expires in %v", i, now, suffix, d)
						}
					} else if d > most || d < least {
						t.Errorf("%d, %s: %q expires in %v, want %v", i, now, suffix, d, most)
					}
				}
			}
			step := func(what string, expiry time.Duration, there string, f func() error) {
				t.Helper()
				now = what
				if err := f(); err != nil {
					t.Fatalf("%d, %s: %v", i, now, err)
				}
				wants(expiry, there)
			}
			erase := func(n int) func() error {
				return func() error { return r.Erase(t.Context(), test.topic, everything(t, r, test.topic)[n].ID) }
			}
			publish := func(ms ...hub.Message) func() error {
				return func() error { _, err := appendTo(r, test.topic, ms); return err }
			}
			step("publish", test.open, "stream", publish(hub.Message{}))
			step("publish together", test.open, "stream", publish(hub.Message{}, hub.Message{}))
			step("a key", test.open, "stream :keys", publish(keyed(0, 1)...))
			step("many keys", test.open, "stream :keys :keys:former", publish(keyed(0, 10)...))
			step("erase", test.open, "stream :erased", erase(1))
			step("erase the first", test.open, "stream :erased :front", erase(0))
			step("publish again", test.open, "stream :erased :front", publish(hub.Message{}))
			step("finish", test.finished, "stream :erased :front :keys :keys:former", publish(hub.Message{Final: true}))
			step("finish again", test.finished, "stream", publish(hub.Message{Final: true}))
			step("erase behind the end", test.finished, "stream :erased", erase(3))
			step("publish behind the end", test.open, "stream", publish(hub.Message{AfterEnd: true}))
			step("finish together", test.finished, "stream", publish(hub.Message{}, hub.Message{}, hub.Message{Final: true}))
			step("delete", test.deleted, "stream", func() error { return r.Delete(t.Context(), test.topic) })
			if left := ttls(t, admin, stream); len(left) != 1 {
				t.Errorf("%d: a deleted topic has left %v", i, left)
			}
			step("publish anew", test.open, "stream", publish(hub.Message{}))
			step("finish anew", test.finished, "stream", publish(hub.Message{Final: true}))
		}
	})
}

// TestFinishedTopicsAreGone: with a short retention nothing is left of finished topics after a
// minute.
func TestFinishedTopicsAreGone(t *testing.T) {
	t.Parallel()
	o, topics := Options{MaxAge: 10 * time.Second}, 8000
	if !testenv.IsLong() {
		o.FinishedExpiry, topics = 100*time.Millisecond, 200
	}
	s := startServer(t)
	r := newRig(t, s.addr, o)
	for i := range topics {
		topic := "t" + itoa(i)
		id := mustPublish(t, r, topic, strings.Repeat("x", 1000))
		if i%10 == 0 {
			mustErase(t, r, topic, id)
		}
		if _, err := r.Publish(t.Context(), topic, hub.Message{Final: true}); err != nil {
			t.Fatal(err)
		}
	}
	finished := time.Now()
	before := s.info(t, "memory", "used_memory:")
	testenv.Eventually(t, "the end of all keys", func() error {
		if n := s.DBSize(t.Context()).Val(); n > 0 {
			return fmt.Errorf("%d keys are there", n)
		}
		return nil
	})
	t.Logf("%d finished topics: gone after %v; %.1f MB before, %.1f MB now", topics, time.Since(finished), before/1e6, s.info(t, "memory", "used_memory:")/1e6)
	if d := time.Since(finished); testenv.IsLong() && d > time.Minute {
		t.Errorf("the topics are gone after %v", d)
	}
}

// TestPlacesAreGoodForATime: a position of an empty topic is good as long as a finished topic is
// there, each topic by its own retention, and is renewed long before.
func TestPlacesAreGoodForATime(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{Retention: []hub.Retention{{Prefix: "short/", Age: 10 * time.Second}, {Prefix: "hour/", Age: time.Hour}}})
		for topic, good := range map[string]time.Duration{"short/t": 45 * time.Second, "hour/t": 2 * time.Hour, "t": 48 * time.Hour} {
			_, tail, _ := mustFollow(t, r, topic)
			at, _ := parseID(string(tail))
			ago := func(d time.Duration) hub.ID { return placeID(at.seq - uint64(d.Milliseconds())) }
			if p := mustRead(t, r, topic, ago(good-30*time.Second)); p.Gap {
				t.Errorf("%s: a position of %v is no good", topic, good-30*time.Second)
			}
			if p := mustRead(t, r, topic, ago(good)); !p.Gap {
				t.Errorf("%s: a position of %v is good", topic, good)
			}
			old := ago(good / 8)
			p := mustRead(t, r, topic, old)
			if next, _ := parseID(string(p.Next)); p.Gap || p.Next == old || next.seq < at.seq {
				t.Errorf("%s: a position of %v is not renewed: %+v", topic, good/8, p)
			}
			id := mustPublish(t, r, topic, "x")
			for _, place := range []hub.ID{tail, p.Next} {
				if p := mustRead(t, r, topic, place); p.Gap || len(p.Messages) != 1 || p.Messages[0].ID != id {
					t.Errorf("%s: after %s: %+v", topic, place, p)
				}
			}
		}
	})
}

// TestEmptyTopicIsFollowed: who waits at an empty topic for longer than its position is good has no
// gap.
func TestEmptyTopicIsFollowed(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		s := startServer(t)
		o.MaxAge = 10 * time.Second
		r := newRig(t, s.addr, o)
		h, err := hub.New(r.Backend, hub.Options{}) // with the checks that positions must outlast
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Shutdown(context.Background()) }()
		a := attend(t, h, "t", hub.Latest())
		for range 2 {
			until := time.Now().Add(50 * time.Second)
			testenv.Eventually(t, "time to pass", func() error {
				if time.Now().Before(until) {
					return errors.New("it has not")
				}
				return nil
			})
		}
		mustPublish(t, r, "t", "x")
		waitFor(t, "the message", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return len(a.got) == 1
		})
		if stats := h.Stats(); stats.Gaps != 0 || stats.ReaderGaps != 0 {
			t.Errorf("gaps: %+v", stats)
		}
	})
}

// TestShortExpiry: a topic does not expire between its messages, however short its expiry: that is
// put off once in a second only.
func TestShortExpiry(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := newRig(t, s.addr, Options{MaxAge: time.Millisecond, MinExpiry: time.Millisecond})
	stream := r.keys.stream("t")
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		before := time.Now()
		mustPublish(t, r, "t", "m")
		// A look that comes late finds less, or nothing.
		if left := s.PTTL(t.Context(), stream).Val(); left+time.Since(before) < 500*time.Millisecond {
			t.Fatalf("the topic of a message that has just come expires in %v", left)
		}
	}
}
