package hub

// erasures is the IDs of messages that were erased lately. It never changes. The nil one is empty.
type erasures struct {
	ids map[ID]struct{}
	// ring has them in the order of their erasure, from next on.
	ring []ID
	next int
	n    uint64 // see made
}

// keptErasures is how many are known: pages that were read before an erasure live for a moment,
// or as long as a slow reader needs for one. One that has lived longer is read again.
const keptErasures = 256

func (e *erasures) has(id ID) bool {
	if e == nil {
		return false
	}
	_, ok := e.ids[id]
	return ok
}

// made returns how many erasures there were. The deletion of a topic counts as more than are kept.
func (e *erasures) made() uint64 {
	if e == nil {
		return 0
	}
	return e.n
}

// outgrown reports whether some of the erasures since there were so many may be forgotten.
func (e *erasures) outgrown(since uint64) bool { return e.made()-since > keptErasures }

// deleted returns the erasures of a topic that was deleted.
func (e *erasures) deleted() *erasures { return &erasures{n: e.made() + keptErasures + 1} }

// with returns the erasures with one more, in the place of the oldest if there are many.
func (e *erasures) with(id ID) *erasures {
	n := &erasures{ids: make(map[ID]struct{}), n: e.made() + 1}
	if e != nil {
		n.ring, n.next = append(n.ring, e.ring...), e.next
	}
	if len(n.ring) < keptErasures {
		n.ring = append(n.ring, id)
	} else {
		n.ring[n.next] = id
		n.next = (n.next + 1) % keptErasures
	}
	for _, kept := range n.ring {
		n.ids[kept] = struct{}{}
	}
	return n
}
