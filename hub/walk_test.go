package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// walk runs a test on fake time with a hub over a fake backend. In the end everything must let go
// within a second.
func walk(t *testing.T, traits Traits, o Options, test func(t *testing.T, b *fake, h *Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newFake(traits)
		test(t, b, open(t, b, o))
	})
}

// walkBoth is walk with readers that fetch and wait, and again with readers that are watched.
func walkBoth(t *testing.T, traits Traits, o Options, test func(t *testing.T, b *fake, h *Hub)) {
	t.Helper()
	for _, way := range []string{fetching, watched} {
		t.Run(way, func(t *testing.T) { walk(t, traits, o, test) })
	}
}

const fetching, watched = "fetching", "watched"

// open returns a hub that is shut down in the end. Subscriptions of subscribe are closed before.
func open(t testing.TB, b Backend, o Options) *Hub {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h, err := New(b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if n := h.Stats().WindowBytes; n != 0 {
			t.Errorf("%d bytes of windows are counted after Shutdown", n)
		}
	})
	return h
}

// reader tells what a subscription gives in words: IDs, "gap", and in the end "end" or the
// error's cause.
type reader struct {
	*Subscription
	t     *testing.T
	woken bell
}

// bell is a Watcher that somebody waits for.
type bell chan struct{}

func (b bell) Wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func subscribe(t *testing.T, h *Hub, topic string, at Position, opts ...SubscribeOption) reader {
	t.Helper()
	s, err := h.Subscribe(context.Background(), topic, append(opts, at)...)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	t.Cleanup(s.Close)
	return reader{s, t, make(bell, 1)}
}

// now waits until everything is settled and returns what the reader gets without waiting for more.
func (r reader) now() string {
	r.t.Helper()
	synctest.Wait()
	if strings.HasSuffix(r.t.Name(), "/"+watched) && r.own == nil {
		r.Watch(r.woken, r.woken)
	}
	var words []string
	for range 10_000 {
		b := r.Poll(nil, 64, 1<<20)
		if b.Gap {
			words = append(words, "gap")
		}
		for _, e := range b.Entries {
			words = append(words, string(e.ID))
		}
		switch b.Status {
		case Waiting:
			if synctest.Wait(); r.own == nil || r.fetching == nil && len(r.woken) == 0 {
				return strings.Join(words, " ")
			}
			select {
			case <-r.woken:
			case <-time.After(time.Minute):
				r.t.Error("a read that is under way wakes nobody")
				return strings.Join(words, " ")
			}
		case Behind:
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			if err := r.Fetch(ctx); err != nil {
				r.t.Errorf("Fetch: %v", err)
			}
			cancel()
			synctest.Wait()
		case Ended:
			return strings.Join(append(words, ending(b.Err)), " ")
		}
	}
	r.t.Fatalf("the reader spins: %v", words)
	return ""
}

func ending(err error) string {
	switch {
	case err == nil:
		return "end"
	case errors.Is(err, ErrGap):
		return "ErrGap"
	case errors.Is(err, ErrClosed):
		return "ErrClosed"
	}
	return err.Error()
}

func (r reader) want(words string) {
	r.t.Helper()
	if got := r.now(); got != words {
		r.t.Errorf("the reader got %q, want %q", got, words)
	}
}

// upTo returns the words of the IDs from first to last.
func upTo(first, last int) string {
	var words []string
	for i := first; i <= last; i++ {
		words = append(words, fmt.Sprint(i))
	}
	return strings.Join(words, " ")
}

func publish(t *testing.T, h *Hub, topic string, n int) {
	t.Helper()
	for range n {
		if _, err := h.Publish(context.Background(), topic, Message{Data: []byte("data")}); err != nil {
			t.Fatal(err)
		}
	}
}

// walkByHand is walk for each backend with Replay, for tests that poll and fetch by themselves.
func walkByHand(t *testing.T, o Options, test func(t *testing.T, b *fake, h *Hub)) {
	t.Helper()
	for _, traits := range []Traits{chained, unchained} {
		t.Run(traits.Name, func(t *testing.T) { walk(t, traits, o, test) })
	}
}
