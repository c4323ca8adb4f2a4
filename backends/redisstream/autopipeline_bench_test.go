package redisstream

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// BenchmarkAutoPipeliner compares go-redis' AutoPipeliner with the batcher, for so many callers at
// once: with a short command, and with messages, which the batcher puts into common runs of the
// script. The ways alternate; the metrics are ratios of medians, above 1 where the batcher does
// more in the same time. One iteration is the whole comparison.
func BenchmarkAutoPipeliner(b *testing.B) {
	s := startServer(b)
	r := newRig(b, s.addr, Options{})
	client := redis.NewClient(&redis.Options{Addr: s.addr, DisableIdentity: true})
	b.Cleanup(func() { _ = client.Close() })
	auto, err := client.AutoPipeline()
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	m := hub.Message{Type: "note", Data: bytes.Repeat([]byte("x"), 200)}
	if _, err := r.Publish(ctx, "bench0", m); err != nil { // makes the script known
		b.Fatal(err)
	}
	get := func(topic string) redis.Cmder { return redis.NewCmd(ctx, "get", r.keys.stream(topic)+":front") }
	ways := map[string][2]func(topic string) error{
		"get": {
			func(topic string) error {
				_, err := r.reader.command(ctx, r.keys.stream(topic), func(bool) redis.Cmder { return get(topic) })
				return err
			},
			func(topic string) error {
				if err := auto.Process(ctx, get(topic)); err != redis.Nil {
					return err
				}
				return nil
			},
		},
		"publish": {
			func(topic string) error {
				_, err := r.Publish(ctx, topic, m)
				return err
			},
			func(topic string) error {
				command, _ := r.publisher.callCommand([]*job{r.messageJob(topic, m)})
				return auto.Process(ctx, command(false))
			},
		},
	}
	for b.Loop() {
		for _, what := range []string{"get", "publish"} {
			for _, callers := range []int{1, 64, 512} {
				var rates [2][]float64
				for range 5 {
					for i, way := range ways[what] {
						rates[i] = append(rates[i], callRate(b, callers, way))
					}
				}
				b.Logf("%s, %d callers: %.0f (%.0f) and %.0f (%.0f)", what, callers, median(rates[0]), rates[0], median(rates[1]), rates[1])
				b.ReportMetric(median(rates[0])/median(rates[1]), fmt.Sprintf("%s-%d/auto", what, callers))
			}
		}
	}
}

// callRate is how many calls a second so many callers make together.
func callRate(b *testing.B, callers int, call func(topic string) error) float64 {
	each := max(20_000/callers, 1)
	if callers == 1 {
		each = 4000
	}
	var wg sync.WaitGroup
	began := time.Now()
	for c := range callers {
		wg.Go(func() {
			for range each {
				if err := call("bench" + itoa(c%64)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(callers*each) / time.Since(began).Seconds()
}
