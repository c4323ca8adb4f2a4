package embedded

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// counter is a sink that counts.
type counter struct{ wg *sync.WaitGroup }

func (c counter) Deliver(ms ...hub.Message) { c.wg.Add(-len(ms)) }
func (counter) Broken(error)                {}
func (counter) Restored(hub.ID)             {}

// BenchmarkTopics publishes to so many topics, all of which are followed and have messages, and
// waits for what is delivered. The server runs one command at a time, on one core.
func BenchmarkTopics(b *testing.B) {
	for _, topics := range []int{100, 30_000} {
		b.Run(fmt.Sprint(topics), func(b *testing.B) {
			backend := open(b, "miniredis://")
			defer backend.Close()
			var wg sync.WaitGroup
			each := func(n int, do func(i int) error) {
				var workers sync.WaitGroup
				const together = 64
				for w := range together {
					workers.Go(func() {
						for i := w; i < n; i += together {
							if err := do(i); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				workers.Wait()
			}
			began := time.Now()
			each(topics, func(i int) error {
				_, _, err := backend.Follow(b.Context(), fmt.Sprint("t", i), counter{&wg})
				return err
			})
			follows := time.Since(began)
			publish := func(i int) error {
				_, err := backend.Publish(b.Context(), fmt.Sprint("t", i%topics), hub.Message{Data: []byte("x")})
				return err
			}
			wg.Add(topics)
			each(topics, publish)
			wg.Wait()
			b.ResetTimer()
			wg.Add(b.N)
			each(b.N, publish)
			wg.Wait()
			b.ReportMetric(float64(follows.Microseconds())/float64(topics), "µs/follow")
		})
	}
}
