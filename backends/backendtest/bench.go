package backendtest

import (
	"runtime"
	"testing"

	"github.com/headrace/headrace/hub"
)

// Benchmark measures what a backend does most, as sub-benchmarks of b: publish alone and by 64 at
// once, batches of 16, a page of 256, and the way from Publish to a follower. Messages have 256
// bytes. Of c it uses New and Timeout. The figures are of one backend on one machine, and are
// worth comparing with those of another only side by side.
func Benchmark(b *testing.B, c Config) {
	b.Helper()
	if c.New == nil {
		b.Fatal("backendtest: Config.New is not set")
	}
	for _, bench := range benchmarks {
		b.Run(bench.name, func(b *testing.B) {
			c.Lacks = map[string]string{"S1": "one instance is measured"}
			c.Peer = nil
			s := newSuite(b, c)
			b.ReportAllocs()
			bench.run(b, s, s.topic())
		})
	}
}

var benchmarks = []struct {
	name string
	run  func(b *testing.B, s *suite, topic string)
}{
	{"publish", func(b *testing.B, s *suite, topic string) {
		for b.Loop() {
			mustBench(b, benchPublish(s, topic))
		}
	}},
	{"publish by 64", func(b *testing.B, s *suite, topic string) {
		b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := benchPublish(s, topic); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}},
	{"publish all of 16", func(b *testing.B, s *suite, topic string) {
		if !s.traits.Atomic {
			b.Skip("Traits.Atomic is false")
		}
		ms := make([]hub.Message, 16)
		for i := range ms {
			ms[i] = benchMessage
		}
		for b.Loop() {
			_, err := s.b.PublishAll(s.ctx, topic, ms)
			mustBench(b, err)
		}
	}},
	{"read a page of 256", func(b *testing.B, s *suite, topic string) {
		s.needReplay()
		for range 256 {
			mustBench(b, benchPublish(s, topic))
		}
		for b.Loop() {
			p, err := s.b.Read(s.ctx, topic, "", 256)
			mustBench(b, err)
			if len(p.Messages) != 256 {
				b.Fatalf("%d messages", len(p.Messages))
			}
		}
	}},
	{"follow", func(b *testing.B, s *suite, topic string) {
		got := make(counted, 64)
		_, stop, err := s.b.Follow(s.ctx, topic, got)
		mustBench(b, err)
		defer stop()
		for b.Loop() {
			mustBench(b, benchPublish(s, topic))
			<-got
		}
	}},
}

var benchMessage = hub.Message{Type: "note", Data: make([]byte, 256), Binary: true}

func benchPublish(s *suite, topic string) error {
	_, err := s.b.Publish(s.ctx, topic, benchMessage)
	return err
}

func mustBench(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// counted is a sink that sends a word for each message.
type counted chan struct{}

func (c counted) Deliver(ms ...hub.Message) {
	for range ms {
		c <- struct{}{}
	}
}
func (counted) Broken(error)    {}
func (counted) Restored(hub.ID) {}
