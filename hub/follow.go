package hub

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// followed is a topic that the hub follows at its backend: the window, shared by all its readers,
// and the state of its live path. It is the Sink of its Follow.
type followed struct {
	hub    *Hub
	name   string
	ctx    context.Context // ends when the topic is let go
	cancel context.CancelFunc
	ready  chan struct{} // closed when following began, or failed
	err    error         // why it failed; written before ready is closed

	// Guarded by the mu of the hub's topicSet.
	readers int
	idle    *time.Timer // runs while there is no reader

	mu sync.RWMutex // outside of the topicSet's
	window
	state    followState
	stop     func()
	watchers map[Watcher]int // and of how many subscriptions each
	gapNext  bool            // the next message to come follows a gap
	// gaps is the number of the newest gap in the log; that of one which is still ahead of the next
	// message is greater by one. Each reader knows up to which it was told, or which are from before
	// its time.
	gaps uint64
	// erased holds messages that were erased lately: pages that were read before may have them.
	erased atomic.Pointer[erasures]
	// The live path was interrupted while it was being healed, or before it was ready: heal once
	// more.
	again bool
	// The live path has brought, or is past, every entry before this sequence number.
	synced    uint64
	retry     chan struct{} // of one: healing that waits to try again does so at once
	finishing bool          // a shutdown has begun: readers get entries before until only
	until     uint64
	healFrom  uint64    // the log's Next when the live path was last interrupted
	held      []Message // live messages that came while the live path was not whole
	heldBytes int64
	dropped   uint64 // held messages ever taken out, from the front
	stale     uint64 // so many of those ever held came before the live path was last interrupted
	counted   int64  // the bytes of log and held as counted in hub.sweeper
	checkAt   time.Time
	renewed   renewal
}

// renewal is what the backend calls the position behind the log's last ID since a check.
type renewal struct{ last, now ID }

type followState uint8

const (
	starting followState = iota // Follow has not returned: the tail is not known
	live                        // the log's end is the live path's
	healing                     // a goroutine reads what may be missing; live messages are held
	released                    // let go; nothing is taken any more
)

const followTimeout = 30 * time.Second

// establish begins to follow the topic.
func (f *followed) establish() {
	defer close(f.ready)
	ctx, cancel := context.WithTimeout(f.ctx, followTimeout)
	defer cancel()
	tail, stop, err := f.hub.backend.Follow(ctx, f.name, f)
	if err != nil {
		f.err = err
		f.hub.forget(f)
		f.release()
		return
	}
	// Whether the topic was finished before is known only to the message at the tail.
	end := &page{}
	if f.hub.traits.Replay {
		end, err = f.hub.reads.read(ctx, f.name, tail, 1)
		if err != nil {
			stop()
			f.err = err
			f.hub.forget(f)
			f.release()
			return
		}
	}
	if !f.start(&page{next: tail, final: end.final, deleted: end.deleted}, stop) {
		stop()
		f.err = ErrClosed
		return
	}
	f.hub.sweeper.sweep()
}

// wait waits until the topic is followed. Where it is already, ctx is not asked for its Done: to
// have one costs a context with a deadline a timer.
func (f *followed) wait(ctx context.Context) error {
	if !isClosed(f.ready) {
		select {
		case <-f.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.hub.closing:
			return ErrClosed
		}
	}
	return f.err
}

// start opens the log at the tail and takes over the messages that came before the tail was known.
// It reports false when the topic was let go meanwhile.
func (f *followed) start(tail *page, stop func()) bool {
	f.mu.Lock()
	defer f.unlock()
	if f.state == released {
		return false
	}
	f.stop = stop
	f.open(tail, f.notify)
	f.synced = f.log.Next()
	f.state = live
	f.checkAt = f.hub.quiet.first()
	held, again, gapNext := f.takeHeld(), f.again, f.gapNext
	f.again, f.gapNext = false, false
	if again {
		f.mend()
	}
	for _, m := range held {
		f.place(m)
	}
	if again {
		f.stale = f.dropped + uint64(len(f.held))
	}
	// Of a gap among the held messages, the one behind it knows. This one is behind them all.
	f.gapNext = gapNext
	f.hub.quiet.start()
	return true
}

// release stops following and lets go of the window.
func (f *followed) release() {
	f.cancel()
	f.mu.Lock()
	was := f.state
	f.state = released
	f.held, f.heldBytes = nil, 0
	stop := f.stop
	if f.log != nil {
		f.log.Wake()
	}
	f.hub.sweeper.bytes.Add(-f.counted)
	f.counted = 0
	f.mu.Unlock()
	if was != released && stop != nil {
		stop()
	}
}

// finish is the beginning of a shutdown: readers get what is in the window now, and nothing that
// comes later, so that each of them comes to an end.
func (f *followed) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != nil && !f.finishing {
		f.finishing, f.until = true, f.log.Next()
		f.log.Wake()
	}
}

// Deliver implements Sink.
func (f *followed) Deliver(ms ...Message) {
	f.mu.Lock()
	for _, m := range ms {
		switch {
		case f.state == released:
		case received(f.name, &m):
			f.place(m)
		default:
			f.hub.counters.skipped.Add(1)
		}
	}
	f.unlock()
	f.hub.sweeper.sweep()
}

// Broken implements Sink.
func (f *followed) Broken(err error) {
	if hook := f.hub.opts.Observer.Broken; hook != nil {
		hook(f.name, err)
	}
}

// Restored implements Sink.
func (f *followed) Restored(tail ID) {
	f.mu.Lock()
	switch {
	case f.state == live && tail != "" && string(tail) == f.log.Last():
		// Whole from where the log ends: nothing came in between.
	case f.state == live:
		f.mend()
	case f.state != released:
		f.interrupted()
		// The backend is there again: what failed is worth a try at once.
		select {
		case f.retry <- struct{}{}:
		default:
		}
	}
	f.unlock()
	if hook := f.hub.opts.Observer.Broken; hook != nil {
		hook(f.name, nil)
	}
}

// place puts a message at the end of the log if it belongs there, and holds it back while that is
// not known. f.mu is held.
func (f *followed) place(m Message) {
	if f.state != live {
		f.hold(m)
		return
	}
	if next, ok := f.log.After(string(m.ID)); ok {
		f.synced = max(f.synced, next)
		f.hub.counters.duplicates.Add(1)
		return
	}
	if _, lost := f.lost[m.ID]; lost {
		// It was on its way while the store lost it. Readers had it, before the window gave it up.
		f.hub.counters.duplicates.Add(1)
		return
	}
	if f.hub.traits.Chained && string(m.Prev) != f.log.Last() || f.outrun() {
		f.hold(m)
		f.mend()
		return
	}
	f.append(m)
	f.synced = f.log.Next()
}

// outrun reports whether messages were read ahead of the live path, which has not brought them yet.
// A live message that is not known is none that comes next, then: it may be one of them that was
// evicted again, or one that the store has lost since. Only where messages name what they follow
// does that show without asking the backend. f.mu is held.
func (f *followed) outrun() bool {
	return f.hub.traits.Replay && !f.hub.traits.Chained && f.synced < f.log.Next()
}

// append adds a message at the end of the log and evicts what exceeds the window. f.mu is held.
func (f *followed) append(m Message) {
	e := newEntry(m)
	if m.Deleted {
		// Whoever was before it has lost what there was, and is told by the backend.
		f.gapFound()
		f.settleGap()
		f.restart("")
		f.hub.reads.forget(f.name)
		f.erased.Store(f.erased.Load().deleted())
	}
	if e.Gap, f.gapNext = m.Gap || f.gapNext, false; e.Gap {
		f.gaps++
		e.gap = f.gaps
	}
	if m.Erases != "" {
		f.erase(m.Erases)
		f.hub.reads.forget(f.name)
		f.erased.Store(f.erased.Load().with(m.Erases))
	}
	f.log.Append(string(m.ID), windowSize(&e.Message), e)
	for f.log.Len() > f.opts.Window || f.log.Bytes() > f.opts.WindowBytes && f.log.Len() > 1 {
		f.evict()
	}
	f.hub.counters.received.Add(1)
	f.checkAt = time.Time{}
}

// unlock counts what the log and the held messages have grown or shrunk by, and unlocks f.mu.
func (f *followed) unlock() {
	if f.state != released {
		if n := f.heldBytes + f.bytes(); n != f.counted {
			f.hub.sweeper.bytes.Add(n - f.counted)
			f.counted = n
		}
	}
	f.mu.Unlock()
}

// unwatch takes back what Watch did.
func (f *followed) unwatch(w Watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hub.counters.watched.Add(-1)
	if f.watchers[w]--; f.watchers[w] <= 0 {
		delete(f.watchers, w)
	}
}

// notify wakes the watchers. f.mu is held.
func (f *followed) notify() {
	for w := range f.watchers {
		w.Wake()
	}
}

// gapsFound returns the number of the newest gap, be it ahead of the next message. f.mu is held.
func (f *followed) gapsFound() uint64 {
	if f.gapNext {
		return f.gaps + 1
	}
	return f.gaps
}

// gapsNow is gapsFound for those who do not hold f.mu.
func (f *followed) gapsNow() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.gapsFound()
}

// settleGap gives a gap that is ahead its number without a message: what comes next is behind
// another one, or behind none.
func (f *followed) settleGap() {
	f.gaps = f.gapsFound()
	f.gapNext = false
}
