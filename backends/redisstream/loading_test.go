package redisstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// TestLoading restarts a server that needs a while to load its data.
func TestLoading(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		keys := testenv.Sized(1000, 8000)
		s := startServer(t, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
		pipe := s.Pipeline()
		for i := range keys {
			pipe.Set(t.Context(), "key"+itoa(i), "x", 0)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := newHub(t, newRig(t, s.addr, o).Backend)
		const topics = 50
		var readers []*audience
		for i := range topics {
			readers = append(readers, attend(t, h, "t"+itoa(i), hub.Latest()))
		}
		if err := s.Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		s.program.Kill()
		began := time.Now()
		var first atomic.Int64
		var wg sync.WaitGroup
		for i := range topics {
			// They try until it works.
			wg.Go(func() {
				for t.Context().Err() == nil {
					if _, err := h.Publish(t.Context(), "t"+itoa(i), hub.Message{Data: []byte("m")}); err == nil {
						first.CompareAndSwap(0, int64(time.Since(began)))
						return
					}
					time.Sleep(20 * time.Millisecond) // as a publisher does who is in a hurry
				}
			})
		}
		s.program.Start() // returns when it has loaded
		ready := time.Since(began)
		waitFor(t, "all readers", func() bool {
			for _, r := range readers {
				if r.all() == "" {
					return false
				}
			}
			return true
		})
		t.Logf("published %v, all readers %v after it was ready", time.Duration(first.Load())-ready, time.Since(began)-ready)
		wg.Wait()
	})
}
