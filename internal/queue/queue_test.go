package queue

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

type parcel struct {
	Item
	size int
}

func (p *parcel) Size() int { return p.size }

func parcels(sizes ...int) (ps []*parcel) {
	for _, size := range sizes {
		ps = append(ps, &parcel{size: size})
	}
	return ps
}

// sizes empties a queue, and returns the sizes of what each batch holds.
func sizes(q *Queue[*parcel], b Bounds) (all [][]int) {
	for q.Len() > 0 {
		batch := []int{}
		for _, p := range q.Take(nil, b) {
			batch = append(batch, p.size)
		}
		all = append(all, batch)
	}
	return all
}

func TestBounds(t *testing.T) {
	b := Bounds{Items: 3, Bytes: 10, Alone: 8}
	for _, test := range []struct {
		name  string
		sizes []int
		bound Bounds
		want  [][]int
	}{
		{"few", []int{1, 2}, b, [][]int{{1, 2}}},
		{"so many items", []int{1, 1, 1, 1}, b, [][]int{{1, 1, 1}, {1}}},
		{"so many bytes", []int{5, 5, 1}, b, [][]int{{5, 5}, {1}}},
		{"one byte more", []int{5, 6, 1}, b, [][]int{{5}, {6, 1}}},
		{"one that is larger than all", []int{1, 20, 1}, Bounds{Items: 3, Bytes: 10}, [][]int{{1}, {20}, {1}}},
		{"alone", []int{1, 8, 1, 1}, b, [][]int{{1}, {8}, {1, 1}}},
		{"nobody alone", []int{1, 8, 1, 1}, Bounds{Items: 9, Bytes: 90}, [][]int{{1, 8, 1, 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var q Queue[*parcel]
			for _, p := range parcels(test.sizes...) {
				q.Add(p)
			}
			got := sizes(&q, test.bound)
			if !slices.EqualFunc(got, test.want, slices.Equal) {
				t.Errorf("batches of %v, want %v", got, test.want)
			}
		})
	}
}

func TestWithdrawn(t *testing.T) {
	var q Queue[*parcel]
	ps := parcels(1, 2, 3, 4)
	for _, p := range ps {
		q.Add(p)
	}
	for _, i := range []int{0, 2} {
		if !ps[i].Withdraw() || ps[i].Withdraw() {
			t.Error("an item can be withdrawn once")
		}
	}
	if q.Remove(ps[2]); q.Len() != 3 {
		t.Errorf("%d items", q.Len())
	}
	q.Remove(ps[2]) // is not there
	// What was withdrawn takes no room in a batch.
	if got := sizes(&q, Bounds{Items: 2, Bytes: 6}); !slices.EqualFunc(got, [][]int{{2, 4}}, slices.Equal) {
		t.Errorf("batches of %v", got)
	}
	if ps[1].Withdraw() {
		t.Error("an item in a batch was withdrawn")
	}
	for _, p := range parcels(1, 1) {
		p.Withdraw()
		q.Add(p)
	}
	if batch := q.Take(nil, Bounds{Items: 2, Bytes: 6}); len(batch) != 0 || q.Len() != 0 {
		t.Errorf("a batch of %d, %d left", len(batch), q.Len())
	}
}

// TestWithdrawnOrTaken: of the two that want an item at once, one gets it.
func TestWithdrawnOrTaken(t *testing.T) {
	for range 1000 {
		var q Queue[*parcel]
		p := &parcel{size: 1}
		q.Add(p)
		var got atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			if p.Withdraw() {
				got.Add(1)
			}
		})
		got.Add(int32(len(q.Take(nil, Bounds{Items: 1, Bytes: 1}))))
		wg.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d got it", got.Load())
		}
	}
}
