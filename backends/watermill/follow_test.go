package watermill

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// TestFollowWaitsForDelivery: Subscribe returns before the broker delivers.
func TestFollowWaitsForDelivery(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.delay = 730 * time.Millisecond })
		began := time.Now()
		s := mustFollow(t, b, "t")
		if took := time.Since(began); took < f.delay || took > f.delay+time.Second {
			t.Errorf("Follow took %v", took)
		}
		mustPublish(t, b, "t", "1")
		s.want(t, "1")
	})
}

// TestOldMessagesAreNotShown: a broker that gives a new subscription all that it has.
func TestOldMessagesAreNotShown(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.replay = true })
		mustPublish(t, b, "t", "old", "older")
		f.put("t", message.NewMessage("foreign", nil))
		s := mustFollow(t, b, "t")
		other := mustFollow(t, b, "t")
		mustPublish(t, b, "t", "new")
		s.want(t, "new")
		other.want(t, "new")
	})
}

func TestSubscriptionIsClosed(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.replay = true })
		s := mustFollow(t, b, "t")
		mustPublish(t, b, "t", "1")
		s.want(t, "1")
		f.newest("t").cancel()
		synctest.Wait()
		mustPublish(t, b, "t", "2") // while there is no subscription
		time.Sleep(5 * time.Second)
		mustPublish(t, b, "t", "3")
		s.want(t, "1", "broken", "gap", "3")
		if n := b.Stats().Reopened; n != 1 {
			t.Errorf("%d reopened", n)
		}
	})
}

// TestSubscriptionFallsSilent: nothing tells a subscription that is dead from a quiet one, but a
// probe.
func TestSubscriptionFallsSilent(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		dead := f.newest("t")
		f.set(func() { dead.mute = true })
		mustPublish(t, b, "t", "missed")
		time.Sleep(30*time.Second + probeWait + time.Second)
		s.want(t, "broken", "gap")
		mustPublish(t, b, "t", "1")
		s.want(t, "broken", "gap", "1")
		select {
		case <-dead.ctx.Done():
		default:
			t.Error("the dead subscription was left open")
		}
	})
}

// TestQuietSubscriptionIsLeftAlone: probes come back, at their pace and no faster.
func TestQuietSubscriptionIsLeftAlone(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		synctest.Wait()
		f.mu.Lock()
		before := len(f.history["t"])
		f.mu.Unlock()
		time.Sleep(time.Hour)
		s.want(t)
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.history["t"]) - before; n < 115 || n > 125 {
			t.Errorf("%d probes in an hour, want 120", n)
		}
		if f.subscribed != 1 {
			t.Errorf("%d subscriptions", f.subscribed)
		}
	})
}

// TestSlowProbe: one that comes back within the time that it has is no reason to open another
// subscription.
func TestSlowProbe(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		f.set(func() {
			f.onDeliver = func(sub *fakeSub, m *message.Message) bool {
				copied := m.Copy()
				time.AfterFunc(probeWait-time.Second, func() { f.set(func() { sub.push(copied) }) })
				return true
			}
		})
		time.Sleep(10 * time.Minute)
		s.want(t)
	})
}

func TestSubscribeFails(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.onSubscribe = func(int) error { return errDown } })
		_, _, err := b.Follow(t.Context(), "a topic", &sink{})
		if !errors.Is(err, ErrBroker) || !errors.Is(err, errDown) {
			t.Fatalf("Follow: %v", err)
		}
		if text := err.Error(); strings.Contains(text, "10.1.2.3") || strings.Contains(text, "admin") || !strings.Contains(text, `"a topic"`) {
			t.Errorf("the text is %q", text)
		}
		// Nothing goes on in the background for a Follow that failed.
		time.Sleep(time.Hour)
		if f.subscribed != 1 {
			t.Errorf("subscribed %d times", f.subscribed)
		}
	})
}

func TestSubscribeFailsLater(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		f.set(func() {
			f.onSubscribe = func(n int) error {
				if n < 6 {
					return errDown
				}
				return nil
			}
		})
		f.newest("t").cancel()
		time.Sleep(time.Minute)
		mustPublish(t, b, "t", "1")
		s.want(t, "broken", "broken", "broken", "broken", "broken", "gap", "1")
	})
}

func TestFollowWithoutProof(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.onDeliver = func(*fakeSub, *message.Message) bool { return true } })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, _, err := b.Follow(ctx, "t", &sink{})
		if !errors.Is(err, ErrSilent) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Follow: %v", err)
		}
		f.mu.Lock()
		n := len(f.history["t"])
		f.mu.Unlock()
		if n > 100 {
			t.Errorf("%d probes in 30 s", n)
		}
	})
}

func TestProbesCannotBePublished(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.onPublish = func(*message.Message) error { return errDown } })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := b.Follow(ctx, "t", &sink{})
		if !errors.Is(err, errDown) || strings.Contains(err.Error(), "10.1.2.3") {
			t.Errorf("Follow: %v", err)
		}
	})
}

// TestProbesCannotBePublishedAnyMore: nothing proves then that the subscription lives.
func TestProbesCannotBePublishedAnyMore(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		f.set(func() { f.onPublish = func(*message.Message) error { return errDown } })
		time.Sleep(30*time.Second + probeWait + time.Second)
		s.want(t, "broken")
		f.set(func() { f.onPublish = nil })
		time.Sleep(time.Minute)
		s.want(t, "broken", "gap")
	})
}

// TestCompetingInstances: each message goes to one of two subscriptions, so neither instance has
// them all.
func TestCompetingInstances(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		run(t, Options{Ordered: ordered}, func(t *testing.T, f *fakeBroker, b *Backend) {
			f.group = true
			mustFollow(t, b, "t") // alone it has everything
			second := open(t, f, Options{Ordered: ordered})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, _, err := second.Follow(ctx, "t", &sink{}); !errors.Is(err, ErrCompeting) {
				t.Errorf("the second instance: %v", err)
			}
		})
	}
}

// TestCompetingLater: a group whose newcomer takes over for a while, as those do that hand out
// partitions, is noticed by who had it all before.
func TestCompetingLater(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		run(t, Options{Ordered: ordered}, func(t *testing.T, f *fakeBroker, b *Backend) {
			s := mustFollow(t, b, "t")
			probes := 0
			f.set(func() {
				f.onDeliver = func(_ *fakeSub, _ *message.Message) bool {
					probes++
					return probes%2 == 0
				}
			})
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Contains(s.told, "broken") {
				t.Errorf("ordered %v: told %q", ordered, s.told)
			}
		})
	}
}

func TestNoProbes(t *testing.T) {
	run(t, Options{Ordered: true, NoProbes: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		other := mustFollow(t, b, "t")
		f.put("t", message.NewMessage("id1", []byte("1")))
		synctest.Wait()
		f.newest("t").cancel()
		time.Sleep(time.Hour)
		f.put("t", message.NewMessage("id2", []byte("2")))
		s.want(t, "1", "broken", "gap", "2")
		other.want(t, "1", "broken", "gap", "2")
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.history["t"]); n != 2 {
			t.Errorf("%d messages at the broker, want 2", n)
		}
	})
}

func TestStopEndsSubscription(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		_, stop, err := b.Follow(t.Context(), "t", &sink{})
		if err != nil {
			t.Fatal(err)
		}
		s := mustFollow(t, b, "t")
		sub := f.newest("t")
		stop()
		mustPublish(t, b, "t", "1")
		s.want(t, "1")
		if sub.ctx.Err() != nil {
			t.Fatal("the subscription ended with one of two followers")
		}
		if f.subscribed != 1 {
			t.Errorf("%d subscriptions for one topic", f.subscribed)
		}
		_ = b.Close()
		synctest.Wait()
		if sub.ctx.Err() == nil {
			t.Error("the subscription outlives the backend")
		}
		if _, _, err := b.Follow(t.Context(), "t", s); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Follow after Close: %v", err)
		}
	})
}

// TestHubSaysGap: what the backend cannot vouch for reaches readers as a gap, and the window is
// replayed.
func TestHubSaysGap(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		h, err := hub.New(b, hub.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
		follow := func(at hub.Position) *hub.Subscription {
			r, err := h.Subscribe(t.Context(), "t", at, hub.MarkGaps())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			return r
		}
		poll := func(r *hub.Subscription, want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, e := range r.Poll(nil, 10, 1<<20).Entries {
				text := string(e.Data)
				if e.Gap {
					text = "gap " + text
				}
				got = append(got, text)
			}
			if strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("%q, want %q", got, want)
			}
		}
		live := follow(hub.Latest())
		var ids []hub.ID
		for _, text := range []string{"1", "2", "3"} {
			id, err := h.Publish(t.Context(), "t", hub.Message{Data: []byte(text)})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		poll(live, "1", "2", "3")
		poll(follow(hub.After(ids[0])), "2", "3")
		f.newest("t").cancel()
		time.Sleep(5 * time.Second)
		if _, err := h.Publish(t.Context(), "t", hub.Message{Data: []byte("4")}); err != nil {
			t.Fatal(err)
		}
		poll(live, "gap 4")
		// A message that was published with a key again comes again, and is known.
		for range 2 {
			if _, err := h.Publish(t.Context(), "t", hub.Message{Data: []byte("5"), Key: "k"}); err != nil {
				t.Fatal(err)
			}
		}
		poll(live, "5")
	})
}
