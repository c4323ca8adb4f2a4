// Package queue holds what waits to be sent in batches. Whoever waits for an item may take it back
// until a batch has it.
package queue

import (
	"slices"
	"sync/atomic"
)

// Item is embedded in what is queued, and tells whose it is. It is queued once. Its methods may be
// called by several goroutines at once.
type Item struct{ state atomic.Uint32 }

const (
	queued uint32 = iota
	taken
	withdrawn
)

// Withdraw takes the item back. It reports false when a batch already has it: then it may be sent.
func (i *Item) Withdraw() bool { return i.state.CompareAndSwap(queued, withdrawn) }

func (i *Item) take() bool { return i.state.CompareAndSwap(queued, taken) }

// Queued is a pointer to something that embeds Item.
type Queued interface {
	comparable
	// Size returns about how many bytes the item has.
	Size() int
	take() bool
}

// Queue is what waits, in order. The zero Queue is empty. It has no lock: its owner guards it
// together with whatever must change in the same step.
type Queue[T Queued] struct{ items []T }

// Len returns the number of items, with those that were withdrawn and not removed.
func (q *Queue[T]) Len() int { return len(q.items) }

// Add adds an item at the end.
func (q *Queue[T]) Add(item T) { q.items = append(q.items, item) }

// Remove removes an item that was withdrawn. It is for queues that nobody takes from for long: Take
// passes such items over anyway.
func (q *Queue[T]) Remove(item T) {
	if i := slices.Index(q.items, item); i >= 0 {
		q.items = slices.Delete(q.items, i, i+1)
	}
}

// Bounds are those of a batch. One item goes in any case.
type Bounds struct {
	// Items is how many items go together.
	Items int
	// Bytes is how many bytes go together.
	Bytes int
	// Alone is the size from which on an item goes by itself, 0 for none.
	Alone int
}

// Take moves items from the queue to the end of an empty batch. The batch stays empty when all
// items were withdrawn. Nobody can withdraw what is in it.
func (q *Queue[T]) Take(batch []T, b Bounds) []T {
	if len(q.items) == 0 {
		q.items = nil // lets go of the room
		return batch
	}
	n, bytes := 0, 0
	for _, item := range q.items {
		size := item.Size()
		alone := b.Alone > 0 && size >= b.Alone
		if len(batch) > 0 && (len(batch) == b.Items || bytes+size > b.Bytes || alone) {
			break
		}
		n++
		if !item.take() {
			continue
		}
		batch = append(batch, item)
		bytes += size
		if alone {
			break
		}
	}
	clear(q.items[:n])
	q.items = q.items[n:]
	return batch
}
