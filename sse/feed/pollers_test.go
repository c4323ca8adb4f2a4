package feed

import (
	"context"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/headrace/headrace/hub"
)

// TestPollersCost: 1,000 pages that wait have a goroutine each, the handler's, and neither hold nor
// allocate more than 1,000 streams that handlers write.
func TestPollersCost(t *testing.T) {
	const n = 1000
	waiting := func(t *testing.T, query, accept string) (goroutines int, held, allocated uint64) {
		h := newHub(t, nil, hub.Options{})
		publish(t, h, "t", "before")
		ctx, cancel := context.WithCancel(t.Context())
		// The topic is followed, and pools are filled, before anything is counted.
		keep, err := h.Subscribe(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		defer keep.Close()
		var before, then, after runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools hold goes with the second one
		base := runtime.NumGoroutine()
		runtime.ReadMemStats(&before)
		var handlers sync.WaitGroup
		for range n {
			r := get("/?"+query, "Accept", accept).WithContext(ctx)
			w := httptest.NewRecorder()
			handlers.Go(func() { _ = Serve(w, r, Of(h, "t"), offered()) })
		}
		synctest.Wait()
		goroutines = runtime.NumGoroutine() - base
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&then)
		publish(t, h, "t", "a message")
		synctest.Wait()
		cancel() // pages have ended
		handlers.Wait()
		synctest.Wait()
		runtime.ReadMemStats(&after)
		equal(t, "goroutines that are left", runtime.NumGoroutine()-base, 0)
		return goroutines, (then.HeapAlloc - before.HeapAlloc) / n, (after.Mallocs - before.Mallocs) / n
	}
	var goroutines [2]int
	var held, allocated [2]uint64
	for i, form := range [][2]string{{"", streamType}, {"wait=30", documentType}} {
		synctest.Test(t, func(t *testing.T) { goroutines[i], held[i], allocated[i] = waiting(t, form[0], form[1]) })
	}
	t.Logf("each stream holds %d bytes and allocates %d times, each page %d and %d", held[0], allocated[0], held[1], allocated[1])
	equal(t, "goroutines of the streams", goroutines[0], n)
	equal(t, "goroutines of the pages", goroutines[1], n)
	if raceDetector() {
		return // what it allocates counts, too
	}
	if held[1] > held[0]*11/10 {
		t.Errorf("a waiting page holds %d bytes, a stream %d", held[1], held[0])
	}
	if allocated[1] > allocated[0]*3/2 {
		t.Errorf("a page allocates %d times, a stream %d", allocated[1], allocated[0])
	}
}
