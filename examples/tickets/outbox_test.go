package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// flaky is a backend that fails when told to: before it appends, or after.
type flaky struct {
	*memory.Backend
	mu     sync.Mutex
	before int // publishes to refuse
	after  int // publishes to append and then fail
}

var errOffline = errors.New("the backend is away")

func (f *flaky) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before > 0 {
		f.before--
		return "", fmt.Errorf("%w: %w", hub.ErrRejected, errOffline)
	}
	id, err := f.Backend.Publish(ctx, topic, m)
	if f.after > 0 {
		f.after--
		return "", fmt.Errorf("%w: %w", hub.ErrUnknown, errOffline)
	}
	return id, err
}

// start returns a store in memory whose outbox publishes to the backend, and how to stop it.
func start(t *testing.T, backend hub.Backend) (*memoryStore, *hub.Hub, func()) {
	t.Helper()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newMemoryStore(h)
	return s, h, func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = s.close(ctx)
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		_ = backend.Close()
	}
}

// TestNothingIsLostWhileTheBackendIsAway: requests succeed, and the messages come once the backend
// is back, each once and in order.
func TestNothingIsLostWhileTheBackendIsAway(t *testing.T) {
	for name, backend := range map[string]*flaky{
		"refusing":                   {before: 7},
		"appending, outcome unknown": {after: 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend.Backend = memory.New(memory.Options{})
				s, h, stop := start(t, backend)
				defer stop()
				made, err := create(t, s, "a")
				if err != nil {
					t.Fatal(err)
				}
				for i := range 9 {
					if _, err := edited(t, s, made.ID)(commenting(fmt.Sprint(i))); err != nil {
						t.Fatal(err)
					}
				}
				for _, topic := range made.changeTopics() {
					sub, err := hub.NewTopic[change](h, topic).Subscribe(t.Context(), hub.Earliest())
					if err != nil {
						t.Fatal(err)
					}
					version := 0
					for e, err := range sub.All() {
						version++
						if err != nil || e.Err != nil || e.Value.Ticket.Version != version {
							t.Fatalf("%s: version %d, errors %v and %v; want version %d", topic, e.Value.Ticket.Version, err, e.Err, version)
						}
						if version == 10 {
							break
						}
					}
					sub.Close()
				}
			})
		})
	}
}

func (t thread) changeTopics() []string { return change{Ticket: t.ticket}.topics() }

// TestRefusedChangeIsNotMade: what cannot be published any more does not happen.
func TestRefusedChangeIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &flaky{Backend: memory.New(memory.Options{}), before: 1 << 30}
		s, _, stop := start(t, backend)
		defer stop()
		made, err := create(t, s, "a")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the outbox holds this one, and its queue is empty
		for i := range outboxSize {
			if _, err := edited(t, s, made.ID)(assigning(fmt.Sprint(i))); err != nil {
				t.Fatalf("change %d: %v", i, err)
			}
		}
		before, _ := s.get(t.Context(), made.ID)
		if _, err := edited(t, s, made.ID)(assigning("one too many")); !errors.Is(err, errBusy) {
			t.Errorf("assign with a full outbox: %v, want errBusy", err)
		}
		if _, err := create(t, s, "one too many"); !errors.Is(err, errBusy) {
			t.Errorf("create with a full outbox: %v, want errBusy", err)
		}
		after, _ := s.get(t.Context(), made.ID)
		all, _ := s.list(t.Context())
		counts, _ := counted(t, s)
		if before.ticket != after.ticket || len(all) != 1 || counts[statusOpen] != 1 {
			t.Errorf("a refused change was made: %+v, then %+v, %d tickets", before.ticket, after.ticket, len(all))
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.close(ctx); err == nil {
			t.Error("close reports no error although changes were not published")
		}
		if _, err := edited(t, s, made.ID)(assigning("after close")); !errors.Is(err, errBusy) {
			t.Errorf("assign after close: %v, want errBusy", err)
		}
	})
}

// TestOutboxGoesOnAfterUnpublishable: a message that the hub will never take does not hold up those
// behind it.
func TestOutboxGoesOnAfterUnpublishable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := memory.New(memory.Options{})
		defer backend.Close()
		h, err := hub.New(backend, hub.Options{MaxMessage: 400})
		if err != nil {
			t.Fatal(err)
		}
		s := newMemoryStore(h)
		made, _ := create(t, s, "a")
		for _, words := range []string{strings.Repeat("too long ", 50), "short"} {
			if _, err := edited(t, s, made.ID)(commenting(words)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.close(t.Context()); err != nil {
			t.Error(err)
		}
		page, err := backend.Read(t.Context(), everything, "", 10)
		if err != nil || len(page.Messages) != 2 {
			t.Errorf("the backend has %+v, %v; want two changes", page.Messages, err)
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
