package hub

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/internal/log"
)

// sweeper keeps all windows together, with what is held for them, within Options.TotalBytes.
type sweeper struct {
	hub   *Hub
	bytes atomic.Int64 // of all windows

	mu sync.Mutex // held by the one goroutine that evicts
}

// sweep evicts the oldest messages, of whatever topic, until a tenth is free. One goroutine sweeps
// at a time; the others go on. No lock of a followed topic may be held.
func (s *sweeper) sweep() {
	h := s.hub
	if s.bytes.Load() <= h.opts.TotalBytes || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	var topics []swept
	for _, f := range h.all() {
		topics = append(topics, swept{f})
	}
	log.EvictOldest(topics, time.Time.Compare, func() bool { return s.bytes.Load() <= h.opts.TotalBytes/10*9 })
}

// swept is a topic that is swept. Its oldest message is in the window or, when there is none, held.
type swept struct{ *followed }

// Oldest implements log.Owner.
func (f swept) Oldest() (at time.Time, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.oldest()
}

// EvictOldest implements log.Owner.
func (f swept) EvictOldest() (next time.Time, ok bool) {
	f.mu.Lock()
	defer f.unlock()
	switch {
	case f.state == released:
	case !f.empty():
		f.evict()
	case len(f.held) > 0:
		f.dropOldestHeld()
	}
	return f.oldest()
}

// oldest is Oldest. f.mu is held.
func (f swept) oldest() (at time.Time, ok bool) {
	switch {
	case f.state == released:
	case !f.empty():
		_, e := f.log.At(f.log.First())
		return e.Time, true
	case len(f.held) > 0:
		return f.held[0].Time, true
	}
	return time.Time{}, false
}
