package memory

import (
	"cmp"
	"maps"
	"time"

	"github.com/headrace/headrace/internal/log"
)

// What is too old is given to nobody who asks this backend, because each access to a topic
// removes it first. The janitor frees what nobody asks for.

// arm starts the janitor's timer unless it is running.
func (b *Backend) arm() {
	if b.armed.Load() || b.armed.Swap(true) {
		return
	}
	every := min(max(b.opts.shortest()/8, time.Second), time.Minute)
	b.janitorMu.Lock()
	defer b.janitorMu.Unlock()
	switch {
	case b.closed.Load():
		// Close stops the timer under the same lock, so none is started after it.
	case b.janitor == nil:
		b.janitor = time.AfterFunc(every, b.clean)
	default:
		b.janitor.Reset(every)
	}
}

// clean removes what is too old from all topics, and topics that are of no use.
func (b *Backend) clean() {
	// Before the first look: who adds something to a topic that was already looked at has to arm
	// the timer himself.
	b.armed.Store(false)
	again := false
	for i := range b.shards {
		s := &b.shards[i]
		for name, t := range s.snapshot() {
			t.mu.Lock()
			t.expire(b.now())
			useless := t.useless()
			again = again || t.keys.Len() > 0 || t.messages.Len() > 0 && t.bounds.age > 0
			t.mu.Unlock()
			if useless {
				b.drop(name, t)
			}
		}
	}
	if again {
		b.arm()
	}
}

func (s *shard) snapshot() map[string]*topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.topics)
}

// drop removes the topic from its shard if it is still of no use.
func (b *Backend) drop(name string, t *topic) {
	s, floor := b.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.topics[name] != t || !t.useless() {
		return
	}
	t.dropped = true
	s.floors[floor] = max(s.floors[floor], t.removed)
	delete(s.topics, name)
	b.total.Add(-int64(topicOverhead + len(name)))
}

// shrink removes the oldest messages and keys of all topics until a sixteenth of MaxTotalBytes is
// free: the walk over all topics is then paid for by the many messages until the next one.
func (b *Backend) shrink() {
	b.shrinking.Lock()
	defer b.shrinking.Unlock()
	if b.total.Load() <= b.opts.MaxTotalBytes {
		return // who held the lock did it
	}
	var all []named
	for i := range b.shards {
		for name, t := range b.shards[i].snapshot() {
			all = append(all, named{name, t})
		}
	}
	goal := b.opts.MaxTotalBytes - b.opts.MaxTotalBytes/16
	log.EvictOldest(all, cmp.Compare[uint64], func() bool { return b.total.Load() <= goal })
}

// named is a topic with its name. A look at one that is empty drops it if it is of no use.
type named struct {
	name string
	*topic
}

// Oldest implements log.Owner.
func (t named) Oldest() (n uint64, ok bool) { return t.look(func() {}) }

// EvictOldest implements log.Owner.
func (t named) EvictOldest() (n uint64, ok bool) { return t.look(t.evictOldest) }

// look calls do and returns the n of the oldest message or key.
func (t named) look(do func()) (n uint64, ok bool) {
	t.mu.Lock()
	do()
	n, ok = t.oldest()
	t.mu.Unlock()
	if !ok {
		t.b.drop(t.name, t.topic)
	}
	return n, ok
}
