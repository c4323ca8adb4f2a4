package watermill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

type publisherFunc func(topic string, ms ...*message.Message) error

func (p publisherFunc) Publish(topic string, ms ...*message.Message) error { return p(topic, ms...) }
func (publisherFunc) Close() error                                         { return nil }

type subscriberFunc func(ctx context.Context, topic string) (<-chan *message.Message, error)

func (s subscriberFunc) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return s(ctx, topic)
}
func (subscriberFunc) Close() error { return nil }

// TestReplayToAnotherFollow: a topic is let go and followed again, over a broker that begins with
// what is old, old probes among it.
func TestReplayToAnotherFollow(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.replay = true })
		first := &sink{}
		_, stop, err := b.Follow(t.Context(), "t", first)
		if err != nil {
			t.Fatal(err)
		}
		mustPublish(t, b, "t", "old 1", "old 2")
		first.want(t, "old 1", "old 2")
		stop()
		synctest.Wait()
		mustPublish(t, b, "t", "old 3")
		second := mustFollow(t, b, "t")
		mustPublish(t, b, "t", "new")
		second.want(t, "new")
	})
}

// TestForgedProbe: who reads a topic can send the probes that he has seen once more.
func TestForgedProbe(t *testing.T) {
	run(t, Options{}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		synctest.Wait()
		dead := f.newest("t")
		f.set(func() {
			for _, m := range f.history["t"] {
				dead.push(m.Copy())
			}
			dead.mute = true
		})
		time.Sleep(10 * time.Minute)
		s.want(t, "broken", "gap")
	})
}

// TestForgedNumber: somebody uses the name of an origin with a number far ahead. The origin is
// heard again, behind a gap.
func TestForgedNumber(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		other := open(t, f, Options{Ordered: true})
		s := mustFollow(t, b, "t")
		mustPublish(t, other, "t", "1")
		s.want(t, "1")
		f.mu.Lock()
		origin := f.history["t"][len(f.history["t"])-1].Metadata[keyOrigin]
		f.mu.Unlock()
		forged := envelope{Message: hub.Message{ID: "x", Data: []byte("forged")}, origin: origin, seq: 1 << 40}
		f.put("t", forged.wrap())
		mustPublish(t, other, "t", "2", "3", "4", "5")
		s.want(t, "1", "gap", "forged", "gap", "4", "5")
		impossible := forged.wrap()
		impossible.Metadata[keySeq] = strconv.FormatUint(1<<63-1, 10)
		f.put("t", impossible)
		mustPublish(t, other, "t", "6")
		s.want(t, "1", "gap", "forged", "gap", "4", "5", "6")
	})
}

func TestNilMessage(t *testing.T) {
	run(t, Options{NoProbes: true}, func(t *testing.T, _ *fakeBroker, b *Backend) {
		messages := make(chan *message.Message)
		b.subscriber = subscriberFunc(func(context.Context, string) (<-chan *message.Message, error) { return messages, nil })
		s := mustFollow(t, b, "t")
		messages <- nil
		messages <- message.NewMessage("x", []byte("1"))
		s.want(t, "1")
		_ = b.Close()
		messages <- nil // to who empties the channel
		close(messages)
	})
}

// TestPublisherThatBlocks: it does not keep a dead subscription from being noticed, nor what
// nobody waits for in memory.
func TestPublisherThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var blocks atomic.Bool
		release := make(chan struct{})
		b, err := New(publisherFunc(func(topic string, ms ...*message.Message) error {
			if blocks.Load() {
				<-release
			}
			return f.Publish(topic, ms...)
		}), f, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		s := mustFollow(t, b, "t")
		blocks.Store(true)
		dead := f.newest("t")
		f.set(func() { dead.mute = true })
		time.Sleep(time.Minute)
		synctest.Wait()
		s.mu.Lock()
		if len(s.told) == 0 || s.told[0] != "broken" {
			t.Errorf("told %q", s.told)
		}
		s.mu.Unlock()
		for range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := b.Publish(ctx, "t", hub.Message{Data: make([]byte, 1024)})
			cancel()
			isRejected(t, err, context.DeadlineExceeded)
		}
		b.mu.Lock()
		l := b.lanes["t"]
		b.mu.Unlock()
		l.mu.Lock()
		if n := l.queue.Len(); n > 10 {
			t.Errorf("%d messages are kept", n)
		}
		l.mu.Unlock()
		close(release)
	})
}

// TestProbeThatFailsOnce: a healthy subscription is left alone.
func TestProbeThatFailsOnce(t *testing.T) {
	for name, spoil := range map[string]func(f *fakeBroker){
		"it cannot be published": func(f *fakeBroker) {
			f.onPublish = func(_ *message.Message) error {
				f.onPublish = nil
				return errDown
			}
		},
		"it is lost": func(f *fakeBroker) {
			f.onDeliver = func(_ *fakeSub, _ *message.Message) bool {
				f.onDeliver = nil
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Options{}, func(t *testing.T, f *fakeBroker, b *Backend) {
				s := mustFollow(t, b, "t")
				synctest.Wait()
				f.set(func() { spoil(f) })
				time.Sleep(2 * time.Minute)
				s.want(t)
			})
		})
	}
}

// TestLongReplay: as long as old messages come, a probe behind them is not missing.
func TestLongReplay(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		for i := range 100 {
			f.put("t", message.NewMessage(fmt.Sprint(i), nil))
		}
		f.set(func() { f.replay = true })
		b.subscriber = subscriberFunc(func(ctx context.Context, topic string) (<-chan *message.Message, error) {
			in, err := f.Subscribe(ctx, topic)
			out := make(chan *message.Message)
			go func() {
				defer close(out)
				for m := range in {
					time.Sleep(time.Second)
					select {
					case out <- m:
					case <-ctx.Done():
					}
				}
			}()
			return out, err
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if _, _, err := b.Follow(ctx, "t", &sink{}); err != nil || b.Stats().Reopened > 0 {
			t.Errorf("Follow: %v; %+v", err, b.Stats())
		}
	})
}

// TestNothingIsPublishedAfterClose: what waits when Close comes was not sent, and its publishers
// learn that.
func TestNothingIsPublishedAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed, after atomic.Bool
		slow := publisherFunc(func(string, ...*message.Message) error {
			time.Sleep(8 * time.Second)
			after.Store(after.Load() || closed.Load())
			return nil
		})
		b, err := New(slow, newFake(), Options{OnClose: func() error { closed.Store(true); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var rejected atomic.Int64
		for range 6 {
			wg.Go(func() {
				_, err := b.Publish(t.Context(), "t", hub.Message{Data: make([]byte, batchBounds.Alone), Binary: true})
				if errors.Is(err, hub.ErrRejected) && errors.Is(err, hub.ErrClosed) {
					rejected.Add(1)
				} else if err != nil {
					t.Errorf("Publish: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if after.Load() || rejected.Load() != 5 {
			t.Errorf("published after Close: %v; %d of 6 rejected", after.Load(), rejected.Load())
		}
	})
}

// TestCloseEndsFollow: also one that has no deadline and waits for probes behind a Publisher that
// blocks.
func TestCloseEndsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		release := make(chan struct{})
		var calls atomic.Int64
		b, err := New(publisherFunc(func(topic string, ms ...*message.Message) error {
			if calls.Add(1) > 1 {
				<-release
			}
			return f.Publish(topic, ms...)
		}), f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, _, err := b.Follow(context.Background(), "t", &sink{})
			ended <- err
		}()
		synctest.Wait()
		go func() { _ = b.Close() }()
		if err := <-ended; !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Follow: %v", err)
		}
		close(release)
	})
}
