package main

import (
	"context"
	"errors"
	"sync"

	"github.com/headrace/headrace/hub"
)

// memoryStore holds the tickets in memory. It puts every change into the outbox under the lock
// under which it makes it: so changes are published in the order in which they were made, and
// exactly those that were made.
type memoryStore struct {
	outbox *outbox

	mu      sync.RWMutex
	threads map[string]thread
	order   []string // IDs, oldest first
}

var _ store = (*memoryStore)(nil)

func newMemoryStore(h *hub.Hub) *memoryStore {
	return &memoryStore{outbox: newOutbox(h), threads: make(map[string]thread)}
}

func (s *memoryStore) list(context.Context) ([]ticket, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]ticket, len(s.order))
	for i, id := range s.order {
		all[i] = s.threads[id].ticket
	}
	return all, nil
}

func (s *memoryStore) get(_ context.Context, id string) (thread, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.threads[id]
	if !ok {
		return thread{}, errNotFound
	}
	return t.copy(), nil
}

func (s *memoryStore) create(_ context.Context, t thread) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := admit(t, len(s.order))
	if err != nil {
		return err
	}
	if err := s.outbox.put(c); err != nil {
		return err
	}
	s.threads[t.ID] = t.copy()
	s.order = append(s.order, t.ID)
	return nil
}

func (s *memoryStore) change(_ context.Context, id string, e edit) (thread, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.threads[id]
	if !ok {
		return thread{}, errNotFound
	}
	next, c, err := e.of(t)
	switch {
	case errors.Is(err, errUnchanged):
		return t.copy(), nil
	case err != nil:
		return thread{}, err
	}
	if err := s.outbox.put(c); err != nil {
		return thread{}, err
	}
	s.threads[id] = next
	return next.copy(), nil
}

func (s *memoryStore) close(ctx context.Context) error { return s.outbox.close(ctx) }
