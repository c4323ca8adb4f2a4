package hub

import (
	"time"

	"github.com/headrace/headrace/internal/log"
)

// sweepWindows keeps all windows together within TotalBytes: it evicts the oldest messages, of whatever topic, until a tenth is free.
// One goroutine sweeps at a time; the others go on. No lock of a followed topic may be held.
func (h *Hub) sweepWindows() {
	if h.windowBytes.Load() <= h.opts.TotalBytes || !h.sweep.TryLock() {
		return
	}
	defer h.sweep.Unlock()
	h.mu.Lock()
	topics := make([]*followed, 0, len(h.topics))
	for _, f := range h.topics {
		topics = append(topics, f)
	}
	h.mu.Unlock()
	log.EvictOldest(topics, time.Time.Compare, func() bool { return h.windowBytes.Load() <= h.opts.TotalBytes/10*9 })
}

// Oldest implements log.Owner: it returns the time of the oldest message in the window, or held.
func (f *followed) Oldest() (at time.Time, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.oldestLocked()
}

// EvictOldest implements log.Owner.
func (f *followed) EvictOldest() (next time.Time, ok bool) {
	f.mu.Lock()
	defer f.unlock()
	switch {
	case f.state == released:
	case f.log != nil && f.log.Len() > 0:
		f.evict()
	case len(f.held) > 0:
		f.dropOldestHeld()
	}
	return f.oldestLocked()
}

// oldestLocked is Oldest. f.mu is held.
func (f *followed) oldestLocked() (at time.Time, ok bool) {
	switch {
	case f.state == released:
	case f.log != nil && f.log.Len() > 0:
		_, e := f.log.At(f.log.First())
		return e.Time, true
	case len(f.held) > 0:
		return f.held[0].Time, true
	}
	return time.Time{}, false
}
