package hub

import (
	"math/rand/v2"
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

// checksAtOnce bounds the position checks under way, so that they leave Reads to readers.
const checksAtOnce = 4

// startChecks starts the goroutine that checks the positions of quiet topics. Live messages can be lost without a trace: when the last one before a pause is
// lost, no later one tells.
func (h *Hub) startChecks() {
	if !h.traits.Replay {
		return
	}
	h.mu.Lock()
	begin := !h.checking && !h.released
	h.checking = h.checking || begin
	if begin {
		h.wg.Go(h.checkPositions)
	}
	h.mu.Unlock()
}

func (h *Hub) checkPositions() {
	slots := make(chan struct{}, checksAtOnce)
	tick := time.NewTicker(max(h.opts.CheckEvery/30, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		h.mu.Lock()
		topics := make([]*followed, 0, len(h.topics))
		for _, f := range h.topics {
			topics = append(topics, f)
		}
		h.mu.Unlock()
		for _, f := range topics {
			if !f.checkDue(time.Now()) {
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-h.ctx.Done():
				return
			}
			if !h.spawn(func() {
				f.check()
				<-slots
			}) {
				return
			}
		}
	}
}

// firstCheck spreads the checks of topics that were followed at the same moment.
func (f *followed) firstCheck() time.Time {
	every := f.hub.opts.CheckEvery
	return time.Now().Add(every/2 + rand.N(every/2+1))
}

// checkDue reports whether the topic has been quiet for long enough to be checked, and sets the time of the next check.
func (f *followed) checkDue(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != live {
		return false
	}
	switch {
	case f.checkAt.IsZero(): // a message came since the last look
		f.checkAt = now.Add(f.hub.opts.CheckEvery)
	case !now.Before(f.checkAt):
		f.checkAt = now.Add(f.hub.opts.CheckEvery)
		return true
	}
	return false
}

// check compares the end of the log with the backend. A message that was appended a moment ago and is still on its way looks like a loss; healing it costs a Read and repeats nothing.
func (f *followed) check() {
	f.mu.RLock()
	if f.state != live {
		f.mu.RUnlock()
		return
	}
	last := f.log.Last()
	f.mu.RUnlock()
	p, err := f.hub.reads.read(f.ctx, f.name, ID(last), 1)
	if err != nil || len(p.entries) == 0 && !p.gap {
		return
	}
	f.mu.Lock()
	defer f.unlock()
	if f.state == live && f.log.Last() == last {
		f.mend()
	}
}
