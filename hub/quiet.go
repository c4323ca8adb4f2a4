package hub

import (
	"math/rand/v2"
	"sync"
	"time"
)

// checksAtOnce bounds the position checks under way, so that they leave Reads to readers.
const checksAtOnce = 4

// quietChecks compares the positions of quiet topics with the backend's. Live messages can be lost
// without a trace: when the last one before a pause is lost, no later one tells.
type quietChecks struct {
	hub  *Hub
	once sync.Once
}

// start starts the goroutine that checks, with the first topic. It may be called under a followed
// topic's lock.
func (q *quietChecks) start() {
	if q.hub.traits.Replay {
		q.once.Do(func() { q.hub.spawn(q.run) })
	}
}

func (q *quietChecks) run() {
	h := q.hub
	slots := make(chan struct{}, checksAtOnce)
	tick := time.NewTicker(max(h.opts.CheckEvery/30, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		for _, f := range h.all() {
			if !q.due(f, time.Now()) {
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-h.ctx.Done():
				return
			}
			if !h.spawn(func() {
				q.check(f)
				<-slots
			}) {
				return
			}
		}
	}
}

// first returns the time of a topic's first check. It spreads the checks of topics that were
// followed at the same moment.
func (q *quietChecks) first() time.Time {
	every := q.hub.opts.CheckEvery
	return time.Now().Add(every/2 + rand.N(every/2+1))
}

// due reports whether a topic has been quiet for long enough to be checked, and sets the time of
// the next check.
func (q *quietChecks) due(f *followed, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != live {
		return false
	}
	switch {
	case f.checkAt.IsZero(): // a message came since the last look
		f.checkAt = now.Add(q.hub.opts.CheckEvery)
	case !now.Before(f.checkAt):
		f.checkAt = now.Add(q.hub.opts.CheckEvery)
		return true
	}
	return false
}

// check compares the end of a topic's log with the backend. A message that was appended a moment
// ago and is still on its way looks like a loss; healing it costs a Read and repeats nothing.
func (q *quietChecks) check(f *followed) {
	f.mu.RLock()
	if f.state != live {
		f.mu.RUnlock()
		return
	}
	last := ID(f.log.Last())
	from := f.from(last)
	f.mu.RUnlock()
	p, err := q.hub.reads.read(f.ctx, f.name, from, 1)
	if err != nil || p.whole() && p.next == from {
		return
	}
	f.mu.Lock()
	defer f.unlock()
	if f.state == live && ID(f.log.Last()) == last && !f.renew(last, p) {
		f.mend()
	}
}
