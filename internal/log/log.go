// Package log holds the bounded, ordered run of entries that both a followed topic's window and a
// topic kept in memory are made of: a ring, the positions in it, and the wake-ups of those who wait
// for more.
//
// A Log has no lock. Its owner guards it together with whatever must change in the same step.
// Methods that change nothing, and Changed, may be called by several goroutines at once.
package log

import (
	"maps"
	"sync/atomic"
)

// Log is a ring of entries, oldest first. Each entry has an ID, unique in the log, and a local
// sequence number that only grows. The position before the oldest entry has an ID too, the base:
// the ID of the entry that was evicted last, or where the log began.
//
// The zero Log is not usable; see New.
type Log[T any] struct {
	ring  []slot[T] // circular, a power of two long, grown as it fills and shrunk as it empties
	head  int       // index of the oldest entry
	count int
	first uint64 // sequence number of the oldest entry, or of the next one when there is none
	base  string // "" when the position before the oldest entry has no ID
	byID  map[string]uint64
	bytes int64
	wake  chan struct{} // closed at the next change
	// waited says that wake was handed out, so that a change nobody waits for costs no new
	// channel. It is atomic because Changed may be called under a lock that readers share.
	waited atomic.Bool

	// changes counts Append, Reset and Wake.
	changes atomic.Uint64

	// Notify, if it is not nil, is called at each Append, Reset and Wake, by whoever makes the
	// change. It is set before the log is shared.
	Notify func()
}

type slot[T any] struct {
	id    string
	size  int
	value T
}

// New returns an empty log that begins after base.
func New[T any](base string) *Log[T] {
	return &Log[T]{base: base, wake: make(chan struct{})}
}

// Len returns the number of entries.
func (l *Log[T]) Len() int { return l.count }

// Bytes returns the sum of the entries' sizes.
func (l *Log[T]) Bytes() int64 { return l.bytes }

// First returns the sequence number of the oldest entry, or Next when the log is empty.
func (l *Log[T]) First() uint64 { return l.first }

// Next returns the sequence number that the next appended entry will get.
func (l *Log[T]) Next() uint64 { return l.first + uint64(l.count) }

// Base returns the ID of the position before the oldest entry, "" when it has none.
func (l *Log[T]) Base() string { return l.base }

// Last returns the ID of the newest entry, or the base when the log is empty.
func (l *Log[T]) Last() string {
	if l.count == 0 {
		return l.base
	}
	return l.at(l.count - 1).id
}

// Has reports whether an entry with this ID is in the log.
func (l *Log[T]) Has(id string) bool {
	_, ok := l.byID[id]
	return ok
}

// After returns the sequence number of the entry that follows id. It reports false when id names
// neither an entry nor the base.
func (l *Log[T]) After(id string) (seq uint64, ok bool) {
	if seq, ok := l.byID[id]; ok {
		return seq + 1, true
	}
	if id != "" && id == l.base {
		return l.first, true
	}
	return 0, false
}

// At returns the entry with a sequence number in [First, Next).
func (l *Log[T]) At(seq uint64) (id string, value T) {
	s := l.at(int(seq - l.first))
	return s.id, s.value
}

// Replace puts another value in the place of an entry with a sequence number in [First, Next). It
// is no change that anybody waits for.
func (l *Log[T]) Replace(seq uint64, size int, value T) {
	s := l.at(int(seq - l.first))
	l.bytes += int64(size - s.size)
	s.size, s.value = size, value
}

// Append adds an entry after the newest one and wakes those who wait. The ID must not be in the
// log. size is what the entry counts for in Bytes.
func (l *Log[T]) Append(id string, size int, value T) {
	if l.count == len(l.ring) {
		l.resize(max(4, 2*len(l.ring)))
	}
	if l.byID == nil {
		l.byID = make(map[string]uint64)
	}
	l.byID[id] = l.Next()
	l.count++
	*l.at(l.count - 1) = slot[T]{id: id, size: size, value: value}
	l.bytes += int64(size)
	l.Wake()
}

// Evict removes the oldest entry and returns it; its ID becomes the base. The log must not be
// empty.
func (l *Log[T]) Evict() (value T) {
	s := l.at(0)
	value = s.value
	l.base = s.id
	l.bytes -= int64(s.size)
	delete(l.byID, s.id)
	*s = slot[T]{} // lets go of the value
	l.head = (l.head + 1) & (len(l.ring) - 1)
	l.count--
	l.first++
	if len(l.ring) > keepSlots && l.count <= len(l.ring)/4 {
		l.resize(len(l.ring) / 2)
		// A map keeps the room it once needed.
		byID := make(map[string]uint64, l.count)
		maps.Copy(byID, l.byID)
		l.byID = byID
	}
	return value
}

// keepSlots is the size up to which a ring is kept when it has become empty.
const keepSlots = 64

// Reset removes every entry and begins the log anew after base, "" when that position has no ID.
// No sequence number of before is at or after First from then on, not even that of a reader who
// had read everything, so each reader has to look up its own ID again.
func (l *Log[T]) Reset(base string) {
	l.first = l.Next() + 1
	l.ring, l.head, l.count, l.bytes, l.byID = nil, 0, 0, 0, nil
	l.base = base
	l.Wake()
}

// Changed returns a channel that is closed at the next Append, Reset or Wake. All who wait for
// the same change share one channel.
func (l *Log[T]) Changed() <-chan struct{} {
	l.waited.Store(true)
	return l.wake
}

// Changes returns how often Append, Reset and Wake were called. Who found nothing at a count finds
// nothing until the count grows. It needs none of the owner's locks.
func (l *Log[T]) Changes() uint64 { return l.changes.Load() }

// Wake counts a change, calls Notify, and closes the channel of those who wait.
func (l *Log[T]) Wake() {
	l.changes.Add(1) // first: whoever is woken must find that there is something
	if l.Notify != nil {
		l.Notify()
	}
	if l.waited.Swap(false) {
		close(l.wake)
		l.wake = make(chan struct{})
	}
}

func (l *Log[T]) at(i int) *slot[T] { return &l.ring[(l.head+i)&(len(l.ring)-1)] }

func (l *Log[T]) resize(n int) {
	ring := make([]slot[T], n)
	for i := range l.count {
		ring[i] = *l.at(i)
	}
	l.ring, l.head = ring, 0
}
