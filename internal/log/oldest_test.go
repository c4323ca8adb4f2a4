package log

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// shelf is an Owner of ages in order.
type shelf struct {
	ages    []int
	evicted *[]int
}

func (s *shelf) Oldest() (int, bool) {
	if len(s.ages) == 0 {
		return 0, false
	}
	return s.ages[0], true
}

func (s *shelf) EvictOldest() (int, bool) {
	if len(s.ages) > 0 {
		*s.evicted = append(*s.evicted, s.ages[0])
		s.ages = s.ages[1:]
	}
	return s.Oldest()
}

func TestTheOldestOfAllGoFirst(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		var evicted, all []int
		owners := make([]*shelf, random.IntN(9))
		for i := range owners {
			owners[i] = &shelf{evicted: &evicted}
		}
		for age := 0; len(owners) > 0 && age < 60; age++ {
			s := owners[random.IntN(len(owners))]
			s.ages = append(s.ages, age)
			all = append(all, age)
		}
		goal := random.IntN(70)
		EvictOldest(owners, cmp.Compare[int], func() bool { return len(evicted) >= goal })
		if want := all[:min(goal, len(all))]; !slices.Equal(evicted, want) {
			t.Fatalf("seed %d: evicted %v, want %v", seed, evicted, want)
		}
	}
}

// TestAnOwnerThatSomebodyEmptied: between two looks at it an owner may lose its entries.
func TestAnOwnerThatSomebodyEmptied(t *testing.T) {
	var evicted []int
	one, other := &shelf{[]int{1, 4}, &evicted}, &shelf{[]int{2, 3}, &evicted}
	EvictOldest([]*shelf{one, other}, cmp.Compare[int], func() bool {
		if len(evicted) == 1 {
			other.ages = nil
		}
		return false
	})
	if !slices.Equal(evicted, []int{1, 4}) {
		t.Errorf("evicted %v", evicted)
	}
}
