package redisstream

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// TestLoading restarts a server that needs a while to load its data: publishers and readers are
// back soon after it is, however long they have tried.
func TestLoading(t *testing.T) {
	long := testenv.IsLong()
	t.Parallel()
	for _, topics := range []int{1, 50} {
		t.Run(fmt.Sprint(topics), func(t *testing.T) {
			t.Parallel()
			modes(t, func(t *testing.T, o Options) {
				t.Parallel()
				// A key takes a millisecond.
				s := startServer(t, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
				pipe := s.Pipeline()
				for i := range testenv.Sized(1000, 12000) {
					pipe.Set(t.Context(), "key"+itoa(i), "x", 0)
				}
				if _, err := pipe.Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
				h := newHub(t, newRig(t, s.addr, o).Backend)
				var readers []*audience
				for i := range topics {
					readers = append(readers, attend(t, h, "t"+itoa(i), hub.Latest()))
				}
				if err := s.Save(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				s.program.Kill()
				began := time.Now()
				var published atomic.Int64 // when the last of the first messages was
				var wg sync.WaitGroup
				for i := range topics {
					wg.Go(func() {
						pace := time.NewTicker(20 * time.Millisecond)
						defer pace.Stop()
						for t.Context().Err() == nil {
							if _, err := h.Publish(t.Context(), "t"+itoa(i), hub.Message{Data: []byte("m")}); err == nil {
								published.Store(int64(time.Since(began)))
								return
							}
							<-pace.C
						}
					})
				}
				s.program.Start() // returns when it has loaded
				ready := time.Since(began)
				waitFor(t, "all readers", func() bool {
					for _, r := range readers {
						if r.all() != "m" {
							return false
						}
					}
					return true
				})
				read := time.Since(began) - ready
				wg.Wait()
				written := time.Duration(published.Load()) - ready
				t.Logf("after %v of loading: published after %v, read after %v", ready, written, read)
				if bound := 1500 * time.Millisecond; long && (written > bound || read > bound) {
					t.Errorf("after %v of loading: published after %v, read after %v", ready, written, read)
				}
			})
		})
	}
}
