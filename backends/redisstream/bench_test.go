package redisstream

import (
	"context"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// BenchmarkPublish compares Publish with one call of the script for each message over a pool of go-redis' default size.
func BenchmarkPublish(b *testing.B) {
	s := startServer(b)
	r := newRig(b, s.addr, Options{})
	plain := redis.NewClient(&redis.Options{Addr: s.addr, DisableIdentity: true})
	b.Cleanup(func() { _ = plain.Close() })
	m := hub.Message{Type: "note", Data: make([]byte, 200), Binary: true}
	ctx := context.Background()
	ways := []struct {
		name    string
		publish func(topic string) error
	}{
		{"Publish", func(topic string) error {
			_, err := r.Publish(ctx, topic, m)
			return err
		}},
		{"one by one", func(topic string) error {
			call := r.callCommand([]*job{r.messageJob(topic, &m)})
			return plain.Process(ctx, call(false))
		}},
	}
	for _, load := range []struct {
		name               string
		publishers, topics int
	}{{"1 publisher", 1, 1}, {"64 publishers, 1 topic", 64, 1}, {"64 publishers, 64 topics", 64, 64}} {
		for _, way := range ways {
			b.Run(load.name+"/"+way.name, func(b *testing.B) {
				if err := r.warm(); err != nil {
					b.Fatal(err)
				}
				var wg sync.WaitGroup
				for p := range load.publishers {
					wg.Go(func() {
						topic := "bench" + itoa(p%load.topics)
						for i := p; i < b.N; i += load.publishers {
							if err := way.publish(topic); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

// warm makes the script known to the server.
func (r *rig) warm() error {
	_, err := r.Publish(context.Background(), "warm", hub.Message{})
	return err
}
