package backendtest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

var followFaults = []fault{
	{rule: "F1", name: "the message before the tail is delivered too", also: []string{"F8"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(topic string, sink hub.Sink) hub.Sink {
			p, _ := d.store.Read(context.Background(), topic, "", 1000)
			before := p.Messages[max(0, len(p.Messages)-1):]
			return &sinkFunc{sink, func(ms []hub.Message) {
				sink.Deliver(append(before, ms...)...)
				before = nil
			}}
		})
	}},
	{rule: "F1", name: "the 50th message is delivered twice", also: []string{"P4", "F8", "P2"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			n := 0
			return &sinkFunc{sink, func(ms []hub.Message) {
				sink.Deliver(ms...)
				if n++; n == 50 {
					sink.Deliver(ms...)
				}
			}}
		})
	}},
	{rule: "F2", name: "now and then delivery begins after Follow returned", plant: func(d *double) {
		var mu sync.Mutex
		follows := 0
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			mu.Lock()
			defer mu.Unlock()
			if follows++; follows%15 != 0 {
				return sink
			}
			begin := time.Now().Add(time.Second)
			return &sinkFunc{sink, func(ms []hub.Message) {
				if time.Now().After(begin) {
					sink.Deliver(ms...)
				}
			}}
		})
	}},
	// They begin at the tail of an empty topic.
	{rule: "F3", name: "the tail of an empty topic is 0", also: []string{"F8", "R5"}, plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if p, _ := d.store.Read(context.Background(), topic, "", 1); len(p.Messages) == 0 && err == nil {
				tail = "0"
			}
			return tail, stop, err
		}
	}},
	{rule: "F3", name: "the tail of an empty topic is empty", also: []string{"F8", "R3"}, plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if p, _ := d.store.Read(context.Background(), topic, "", 1); len(p.Messages) == 0 && err == nil {
				tail = ""
			}
			return tail, stop, err
		}
	}},
	// F5 and C1 count calls into the sink after the end.
	{rule: "F4", name: "Broken is called beside Deliver", also: []string{"F5", "C1"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			return &sinkFunc{sink, func(ms []hub.Message) {
				var wg sync.WaitGroup
				wg.Go(func() { sink.Broken(nil) })
				sink.Deliver(ms...)
				wg.Wait()
			}}
		})
	}},
	{rule: "F5", name: "stop does nothing", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, _, err := follow(ctx, topic, sink)
			return tail, func() {}, err
		}
	}},
	{rule: "F5", name: "stop waits for the sink", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			var running atomic.Int32
			tail, stop, err := follow(ctx, topic, &sinkFunc{sink, func(ms []hub.Message) {
				running.Add(1)
				defer running.Add(-1)
				sink.Deliver(ms...)
			}})
			return tail, func() {
				if running.Load() > 0 {
					time.Sleep(30 * time.Second) // it cannot be for ever: the bubble has to end
				}
				stop()
			}, err
		}
	}},
	{rule: "F5", name: "stop waits for the store", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			return tail, func() {
				_ = d.reach(context.Background())
				stop()
			}, err
		}
	}, also: []string{"C2"}}, // the suite cleans up during the outage
	{rule: "F6", name: "the context stops the following", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if err == nil {
				context.AfterFunc(ctx, stop)
			}
			return tail, stop, err
		}
	}},
	{rule: "F7", name: "stop stops all who follow the topic", plant: func(d *double) {
		follow := d.follow
		var mu sync.Mutex
		stops := make(map[string][]func())
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if err != nil {
				return tail, stop, err
			}
			mu.Lock()
			defer mu.Unlock()
			stops[topic] = append(stops[topic], stop)
			return tail, func() {
				mu.Lock()
				all := stops[topic]
				delete(stops, topic)
				mu.Unlock()
				for _, stop := range all {
					stop()
				}
			}, err
		}
	}},
	{rule: "F7", name: "a second stop counts twice", plant: func(d *double) {
		follow := d.follow
		var mu sync.Mutex
		count := make(map[string]int)
		stops := make(map[string][]func())
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if err != nil {
				return tail, stop, err
			}
			mu.Lock()
			defer mu.Unlock()
			count[topic]++
			stops[topic] = append(stops[topic], stop)
			return tail, func() {
				stop()
				mu.Lock()
				defer mu.Unlock()
				if count[topic]--; count[topic] == 0 {
					for _, stop := range stops[topic] {
						stop()
					}
				}
			}, err
		}
	}},
	{rule: "F8", name: "the first message has no Prev", plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			first := true
			return &sinkFunc{sink, func(ms []hub.Message) {
				ms = slices.Clone(ms)
				if first {
					ms[0].Prev, first = "", false
				}
				sink.Deliver(ms...)
			}}
		})
	}},
	// F4 breaks the path too.
	{rule: "F9", name: "Restored is not called", also: []string{"F4"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink { return &silentSink{Sink: sink} })
	}},
	{rule: "F9", name: "messages are lost after Restored", also: []string{"F4"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink { return &hastySink{Sink: sink} })
	}},
}

// silentSink swallows Restored.
type silentSink struct{ hub.Sink }

func (*silentSink) Restored(hub.ID) {}

// hastySink says Restored before the path is whole: it loses the next two deliveries.
type hastySink struct {
	hub.Sink
	lose int
}

func (s *hastySink) Restored(tail hub.ID) {
	s.lose = 2
	s.Sink.Restored(tail)
}

func (s *hastySink) Deliver(ms ...hub.Message) {
	if s.lose > 0 {
		s.lose--
		return
	}
	s.Sink.Deliver(ms...)
}
