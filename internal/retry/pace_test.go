package retry

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const every = 50 * time.Millisecond

// turns has several callers wait at once, and returns after how long each had its turn.
func turns(ctx context.Context, p *Pace, callers int) (after []time.Duration) {
	began := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			p.Wait(ctx)
			mu.Lock()
			defer mu.Unlock()
			after = append(after, time.Since(began))
		})
	}
	wg.Wait()
	slices.Sort(after)
	return after
}

func TestPace(t *testing.T) {
	for _, test := range []struct {
		name  string
		least time.Duration
		note  []bool
		want  []time.Duration // of three callers at once
		then  time.Duration   // of one that comes after a while
	}{
		{"nothing was tried", 0, nil, []time.Duration{0, 0, 0}, 0},
		{"it failed", 0, []bool{true}, []time.Duration{0, every, 2 * every}, 0},
		{"it failed and worked again", 0, []bool{true, false}, []time.Duration{0, 0, 0}, 0},
		{"each waits", every, []bool{true}, []time.Duration{every, 2 * every, 3 * every}, every},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Pace{Every: every, Least: test.least}
				was := false
				for _, failed := range test.note {
					if before := p.Note(failed); before != was || p.Failing() != failed {
						t.Errorf("failed %v, before %v", failed, before)
					}
					was = failed
				}
				if got := turns(t.Context(), p, 3); !slices.Equal(got, test.want) {
					t.Errorf("turns after %v, want %v", got, test.want)
				}
				time.Sleep(time.Minute)
				if got := turns(t.Context(), p, 1); got[0] != test.then {
					t.Errorf("a later turn after %v, want %v", got[0], test.then)
				}
			})
		})
	}
}

// TestPaceIsKeptFromOneToTheNext: a caller who comes soon after another one's turn waits for the
// rest.
func TestPaceIsKeptFromOneToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pace{Every: every}
		p.Note(true)
		turns(t.Context(), p, 1)
		time.Sleep(every / 5)
		if got := turns(t.Context(), p, 1); got[0] != every-every/5 {
			t.Errorf("after %v", got[0])
		}
	})
}

// TestPaceEndsWithTheFailure: who waits for his turn need not wait for it to its end.
func TestPaceEndsWithTheFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pace{Every: every, Least: every}
		p.Note(true)
		time.AfterFunc(every/2, func() { p.Note(false) })
		if got := turns(t.Context(), p, 100); got[0] != every/2 || got[99] != every/2 {
			t.Errorf("turns from %v to %v", got[0], got[99])
		}
		p.Note(true)
		if got := turns(t.Context(), p, 1); got[0] != every {
			t.Errorf("when it fails again, a turn after %v", got[0])
		}
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		Sleep(ctx, time.Hour)
		if d := time.Since(began); d != time.Second {
			t.Errorf("slept for %v", d)
		}
		p := &Pace{Every: time.Hour, Least: time.Hour}
		p.Note(true)
		if p.Wait(ctx); time.Since(began) != time.Second {
			t.Errorf("waited for %v", time.Since(began))
		}
	})
}
