package watermill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

func wait(d time.Duration) { time.Sleep(d + time.Second) }

func isUnknown(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, hub.ErrUnknown) || errors.Is(err, hub.ErrRejected) {
		t.Fatalf("%v, want an unknown outcome", err)
	}
	if strings.Contains(err.Error(), "10.1.2.3") || strings.Contains(err.Error(), "admin") {
		t.Errorf("the text is %q", err)
	}
}

func isRejected(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, hub.ErrRejected) || errors.Is(err, hub.ErrUnknown) || !errors.Is(err, want) {
		t.Fatalf("%v, want ErrRejected with %v", err, want)
	}
}

func TestPublisherFails(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		f.set(func() { f.onPublish = func(*message.Message) error { return errDown } })
		_, err := b.Publish(t.Context(), "t", hub.Message{Data: []byte("x")})
		isUnknown(t, err)
		if !errors.Is(err, ErrBroker) || !errors.Is(err, errDown) {
			t.Errorf("%v hides what the broker said", err)
		}
		f.set(func() { f.onPublish = func(*message.Message) error { panic("a bug elsewhere") } })
		_, err = b.Publish(t.Context(), "t", hub.Message{Data: []byte("x")})
		isUnknown(t, err)
	})
}

func TestPublishReturnsWithItsContext(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		release := make(chan struct{})
		blocked := &slowPublisher{fakeBroker: f, release: release}
		b.publisher = blocked
		errs := make(chan error, 2)
		publish := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			_, err := b.Publish(ctx, "t", hub.Message{Data: []byte("x")})
			errs <- err
		}
		go publish(time.Second)
		synctest.Wait()
		go publish(2 * time.Second) // waits behind it
		err := <-errs
		isUnknown(t, err)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not say why", err)
		}
		isRejected(t, <-errs, context.DeadlineExceeded)
		close(release)
		mustPublish(t, b, "t", "y")
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.history["t"]); n != 2 {
			t.Errorf("%d messages at the broker, want 2", n)
		}
	})
}

// slowPublisher holds its first call up.
type slowPublisher struct {
	*fakeBroker
	once    sync.Once
	release chan struct{}
}

func (s *slowPublisher) Publish(topic string, ms ...*message.Message) error {
	s.once.Do(func() { <-s.release })
	return s.fakeBroker.Publish(topic, ms...)
}

func TestRejected(t *testing.T) {
	errName := errors.New("no such name")
	run(t, Options{Topic: func(topic string) (string, error) {
		if topic == "bad" {
			return "", errName
		}
		return "broker." + topic, nil
	}}, func(t *testing.T, f *fakeBroker, b *Backend) {
		_, err := b.Publish(t.Context(), "bad", hub.Message{})
		isRejected(t, err, errName)
		if _, _, err := b.Follow(t.Context(), "bad", &sink{}); !errors.Is(err, errName) {
			t.Errorf("Follow: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = b.Publish(ctx, "good", hub.Message{})
		isRejected(t, err, context.Canceled)
		mustPublish(t, b, "good", "x")
		if len(f.history["broker.good"]) != 1 {
			t.Error("the name at the broker is another one")
		}
		if _, err := b.Read(t.Context(), "good", "", 1); !errors.Is(err, ErrNoReplay) {
			t.Errorf("Read: %v", err)
		}
		_ = b.Close()
		_, err = b.Publish(t.Context(), "good", hub.Message{})
		isRejected(t, err, hub.ErrClosed)
	})
}

// TestConcurrentPublishersShareCalls: one call at a time for each topic, in the order of the
// numbers.
func TestConcurrentPublishersShareCalls(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		calls := &countingPublisher{fakeBroker: f}
		b.publisher = calls
		s := mustFollow(t, b, "t")
		calls.mu2.Lock()
		calls.sizes = nil
		calls.mu2.Unlock()
		var wg sync.WaitGroup
		const publishers = 300
		for i := range publishers {
			wg.Go(func() { mustPublish(t, b, "t", fmt.Sprint(i)) })
		}
		wg.Wait()
		synctest.Wait()
		s.mu.Lock()
		got := len(s.told)
		s.mu.Unlock()
		if got != publishers || b.Stats().Lost != 0 || b.Stats().Late != 0 {
			t.Errorf("%d messages, %+v", got, b.Stats())
		}
		sum := 0
		for _, n := range calls.sizes {
			sum += n
			if n > batchBounds.Items {
				t.Errorf("a call with %d messages", n)
			}
		}
		if sum != publishers || len(calls.sizes) > publishers/10 {
			t.Errorf("%d messages in %d calls", sum, len(calls.sizes))
		}
	})
}

type countingPublisher struct {
	*fakeBroker
	mu2   sync.Mutex
	sizes []int
}

func (c *countingPublisher) Publish(topic string, ms ...*message.Message) error {
	time.Sleep(time.Millisecond)
	c.mu2.Lock()
	c.sizes = append(c.sizes, len(ms))
	c.mu2.Unlock()
	return c.fakeBroker.Publish(topic, ms...)
}

// TestLargeMessageGoesAlone: a broker that refuses it for its size takes nobody else's for it.
func TestLargeMessageGoesAlone(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		calls := &countingPublisher{fakeBroker: f}
		b.publisher = calls
		f.set(func() {
			f.onPublish = func(m *message.Message) error {
				if len(m.Payload) >= batchBounds.Alone {
					return errDown
				}
				return nil
			}
		})
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				size := 10
				if i%10 == 5 {
					size = batchBounds.Alone
				}
				_, err := b.Publish(t.Context(), "t", hub.Message{Data: make([]byte, size), Binary: true})
				if (err != nil) != (size > 10) {
					t.Errorf("%d bytes: %v", size, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestLanesAreForgotten(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, _ *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "kept")
		for i := range lanesKept + 500 {
			mustPublish(t, b, fmt.Sprint("t", i), "x")
			synctest.Wait()
		}
		b.mu.Lock()
		n := len(b.lanes)
		kept := b.lanes["kept"] != nil
		b.mu.Unlock()
		if n > lanesKept || !kept {
			t.Errorf("%d lanes, the followed topic's among them: %v", n, kept)
		}
		mustPublish(t, b, "kept", "1")
		s.want(t, "1")
	})
}

func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		release := make(chan struct{})
		closed := 0
		b, err := New(&slowPublisher{fakeBroker: f, release: release}, f, Options{OnClose: func() error { closed++; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = b.Publish(context.Background(), "t", hub.Message{}) }()
		synctest.Wait()
		began := time.Now()
		if err := b.Close(); !errors.Is(err, ErrBroker) {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(began); took != closeTimeout {
			t.Errorf("Close took %v", took)
		}
		if err := b.Close(); err != nil || closed != 1 {
			t.Errorf("a second Close: %v; OnClose was called %d times", err, closed)
		}
		close(release)
	})
}
