package log

import "container/heap"

// Owner has entries, one of which is the oldest. Owners compare by age.
type Owner[A any] interface {
	// Oldest returns the age of the oldest entry. It reports false when there is none.
	Oldest() (age A, ok bool)
	// EvictOldest removes the oldest entry and returns the age of the next one, as Oldest does.
	EvictOldest() (age A, ok bool)
}

// EvictOldest removes entries of many owners, the oldest of all first, until enough says so or
// nothing is left. compare is negative when the first age is the older one. No age is kept for
// long: what changes an owner meanwhile makes the order less exact, and harms nothing else.
func EvictOldest[A any, O Owner[A]](owners []O, compare func(A, A) int, enough func() bool) {
	h := byAge[A, O]{compare: compare}
	for _, o := range owners {
		if age, ok := o.Oldest(); ok {
			h.aged = append(h.aged, aged[A, O]{age, o})
		}
	}
	heap.Init(&h)
	for len(h.aged) > 0 && !enough() {
		top := &h.aged[0]
		age, ok := top.owner.EvictOldest()
		if !ok {
			heap.Pop(&h)
			continue
		}
		top.age = age
		heap.Fix(&h, 0)
	}
}

type aged[A any, O Owner[A]] struct {
	age   A
	owner O
}

// byAge is a heap of owners, the one with the oldest entry first.
type byAge[A any, O Owner[A]] struct {
	aged    []aged[A, O]
	compare func(A, A) int
}

func (h *byAge[A, O]) Len() int           { return len(h.aged) }
func (h *byAge[A, O]) Less(i, j int) bool { return h.compare(h.aged[i].age, h.aged[j].age) < 0 }
func (h *byAge[A, O]) Swap(i, j int)      { h.aged[i], h.aged[j] = h.aged[j], h.aged[i] }
func (h *byAge[A, O]) Push(x any)         { h.aged = append(h.aged, x.(aged[A, O])) }
func (h *byAge[A, O]) Pop() any {
	last := len(h.aged) - 1
	x := h.aged[last]
	h.aged[last] = aged[A, O]{}
	h.aged = h.aged[:last]
	return x
}
