package faults

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// step is a fault, or two at the same time, of a run.
type step struct {
	// at is when it begins at the earliest: what the one before has broken has to be whole again.
	at, lasts time.Duration
	faults    []fault
}

// fault is one of the kinds, and what it is about.
type fault struct {
	kind string
	// hub and shard are its targets. With number a kind chooses what else there is to choose.
	hub, shard, number int
}

func (f fault) String() string {
	return fmt.Sprintf("%s (hub %d, shard %d, %d)", f.kind, f.hub, f.shard, f.number)
}

func (s step) String() string {
	var names []string
	for _, f := range s.faults {
		names = append(names, f.String())
	}
	return fmt.Sprintf("%8v for %5v: %s", ms(s.at), ms(s.lasts), strings.Join(names, " and "))
}

// newSchedule chooses the faults of a run, which begin before its end. The same seed chooses the
// same.
func newSchedule(seed uint64, topology string, shards int, end time.Duration) []step {
	random := rand.New(rand.NewPCG(seed, 1))
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(random.Int64N(int64(most-least)))
	}
	var fitting, links []faultKind
	for _, k := range faultKinds {
		if !slices.Contains(k.of, topology) {
			continue
		}
		for range max(k.weight, 1) {
			fitting = append(fitting, k)
		}
		if k.link {
			links = append(links, k)
		}
	}
	choose := func(from []faultKind) (fault, faultKind) {
		k := from[random.IntN(len(from))]
		return fault{k.name, random.IntN(hubs), random.IntN(shards), random.IntN(1000)}, k
	}
	var steps []step
	for at := between(200*time.Millisecond, time.Second); at < end; {
		f, k := choose(fitting)
		s := step{at: at, lasts: between(k.least, k.most), faults: []fault{f}}
		// Where nothing may be lost whatever happens, more may happen at once.
		if topology == "single" && !k.link && random.IntN(3) == 0 {
			other, _ := choose(links)
			s.faults = append(s.faults, other)
		}
		steps = append(steps, s)
		at += s.lasts + between(200*time.Millisecond, 5*time.Second)
	}
	return steps
}

// TestSchedules: a seed always chooses the same faults, and all kinds come up.
func TestSchedules(t *testing.T) {
	seen := make(map[string]bool)
	for topology := range topologies {
		for seed := range uint64(100) {
			steps := newSchedule(seed, topology, 3, 45*time.Second)
			if !reflect.DeepEqual(steps, newSchedule(seed, topology, 3, 45*time.Second)) {
				t.Errorf("%s, seed %d: two schedules", topology, seed)
			}
			for _, s := range steps {
				for _, f := range s.faults {
					seen[topology+"/"+f.kind] = true
				}
			}
		}
	}
	for _, k := range faultKinds {
		for _, topology := range k.of {
			if !seen[topology+"/"+k.name] {
				t.Errorf("%s never comes up with %s", k.name, topology)
			}
		}
	}
}
