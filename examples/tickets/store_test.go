package main

import (
	"context"
	"errors"
	"fmt"
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

var errAway = errors.New("the backend is away")

func (f *flaky) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before > 0 {
		f.before--
		return "", fmt.Errorf("%w: %w", hub.ErrRejected, errAway)
	}
	id, err := f.Backend.Publish(ctx, topic, m)
	if f.after > 0 {
		f.after--
		return "", fmt.Errorf("%w: %w", hub.ErrUnknown, errAway)
	}
	return id, err
}

// start returns a store whose outbox publishes to the backend, and how to stop it.
func start(t *testing.T, backend hub.Backend) (*store, *hub.Hub, func()) {
	t.Helper()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(newOutbox(h))
	return s, h, func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		_ = s.outbox.close(ctx)
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		_ = backend.Close()
	}
}

// TestNothingIsLostWhileTheBackendIsAway: requests succeed, and the messages come once the backend is back, each once and in order.
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
				made, err := s.create("a")
				if err != nil {
					t.Fatal(err)
				}
				for i := range 9 {
					if _, err := s.comment(made.ID, fmt.Sprint(i)); err != nil {
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
		made, err := s.create("a")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the outbox holds this one, and its queue is empty
		for i := range outboxSize {
			if _, err := s.assign(made.ID, fmt.Sprint(i)); err != nil {
				t.Fatalf("change %d: %v", i, err)
			}
		}
		before, _ := s.get(made.ID)
		if _, err := s.assign(made.ID, "one too many"); !errors.Is(err, errBusy) {
			t.Errorf("assign with a full outbox: %v, want errBusy", err)
		}
		if _, err := s.create("one too many"); !errors.Is(err, errBusy) {
			t.Errorf("create with a full outbox: %v, want errBusy", err)
		}
		after, _ := s.get(made.ID)
		if before.ticket != after.ticket || len(s.list()) != 1 || s.count()[statusOpen] != 1 {
			t.Errorf("a refused change was made: %+v, then %+v, %d tickets", before.ticket, after.ticket, len(s.list()))
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.outbox.close(ctx); err == nil {
			t.Error("close reports no error although changes were not published")
		}
		if _, err := s.assign(made.ID, "after close"); !errors.Is(err, errBusy) {
			t.Errorf("assign after close: %v, want errBusy", err)
		}
	})
}

func TestStoreIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, stop := start(t, memory.New(memory.Options{}))
		defer stop()
		var id string
		for range maxTickets {
			made, err := s.create("a")
			if err != nil {
				t.Fatal(err)
			}
			id = made.ID
			synctest.Wait() // for the outbox
		}
		if _, err := s.create("a"); !errors.Is(err, errFull) {
			t.Errorf("ticket %d: %v, want errFull", maxTickets+1, err)
		}
		for range maxComments {
			if _, err := s.comment(id, "a"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if _, err := s.comment(id, "a"); !errors.Is(err, errFull) {
			t.Errorf("comment %d: %v, want errFull", maxComments+1, err)
		}
		if counts := s.count(); counts[statusOpen] != maxTickets || counts[statusPending] != 0 || counts[statusClosed] != 0 {
			t.Errorf("counts %v", counts)
		}
	})
}

// TestReadersShareNothing: what the store has given away does not change.
func TestReadersShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, stop := start(t, memory.New(memory.Options{}))
		defer stop()
		made, _ := s.create("a")
		first, _ := s.comment(made.ID, "one")
		first.Comments[0].Text = "changed by the reader"
		if got, _ := s.get(made.ID); got.Comments[0].Text != "one" {
			t.Errorf("the store has %q", got.Comments[0].Text)
		}
	})
}
