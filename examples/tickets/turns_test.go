package main

import (
	"context"
	"sync"
	"testing"
)

func TestTurns(t *testing.T) {
	var ts turns
	end, ok := ts.take(t.Context(), "a")
	if !ok {
		t.Fatal("nobody has the key, and it is not given")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := ts.take(gone, "a"); ok {
		t.Error("the key was given twice")
	}
	if other, ok := ts.take(gone, "b"); !ok {
		t.Error("another key is not given")
	} else {
		other()
	}
	inside, most := 0, 0 // only who has the key may touch these
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			end, _ := ts.take(t.Context(), "a")
			inside++
			most = max(most, inside)
			inside--
			end()
		})
	}
	end()
	wg.Wait()
	if most != 1 || len(ts.taken) != 0 {
		t.Errorf("%d had the key at once, and %d keys are held afterwards", most, len(ts.taken))
	}
}
