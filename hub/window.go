package hub

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// sweepWindows keeps all windows together within TotalBytes: it evicts the oldest messages, of whatever topic, until a tenth is free.
// One goroutine sweeps at a time; the others go on. No lock of a followed topic may be held.
func (h *Hub) sweepWindows() {
	if h.windowBytes.Load() <= h.opts.TotalBytes || !h.sweep.TryLock() {
		return
	}
	defer h.sweep.Unlock()
	h.mu.Lock()
	var oldest byAge
	for _, f := range h.topics {
		oldest = append(oldest, aged{f: f})
	}
	h.mu.Unlock()
	for i := range oldest {
		oldest[i].at = oldest[i].f.oldest()
	}
	heap.Init(&oldest)
	for len(oldest) > 0 && h.windowBytes.Load() > h.opts.TotalBytes/10*9 {
		top := &oldest[0]
		if top.at.IsZero() {
			heap.Pop(&oldest)
			continue
		}
		top.at = top.f.evictOldest()
		heap.Fix(&oldest, 0)
	}
}

// oldest returns the time of the oldest message in the window, or held, zero when there is none.
func (f *followed) oldest() time.Time {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.oldestLocked()
}

// evictOldest evicts the oldest message and returns the time of the next one.
func (f *followed) evictOldest() time.Time {
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

func (f *followed) oldestLocked() time.Time {
	var at time.Time
	switch {
	case f.state == released:
		return time.Time{}
	case f.log != nil && f.log.Len() > 0:
		_, e := f.log.At(f.log.First())
		at = e.Time
	case len(f.held) > 0:
		at = f.held[0].Time
	default:
		return time.Time{}
	}
	if at.IsZero() {
		return time.Unix(0, 1) // of a backend that does not say the time
	}
	return at
}

type aged struct {
	f  *followed
	at time.Time
}

// byAge is a heap of windows, the one with the oldest message first and empty ones last.
type byAge []aged

func (a byAge) Len() int { return len(a) }
func (a byAge) Less(i, j int) bool {
	if a[i].at.IsZero() || a[j].at.IsZero() {
		return !a[i].at.IsZero()
	}
	return a[i].at.Before(a[j].at)
}
func (a byAge) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *byAge) Push(x any)   { *a = append(*a, x.(aged)) }
func (a *byAge) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = aged{}
	*a = (*a)[:last]
	return x
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
