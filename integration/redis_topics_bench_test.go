package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// The load of BenchmarkManyTopics.
const (
	paceRate       = 2000 // publishes a second
	pacePublishers = 16
	paceTime       = 5 * time.Second
	paceData       = 200 // bytes of a message
)

// BenchmarkManyTopics follows 10,000 topics on one instance, each with a reader, while another
// instance publishes 2,000 messages a second to them in turn. It reports how long a message takes
// from the call of Publish to its reader, and the processor time of Redis and of this process,
// which has both instances and the readers, for each message. late-p99-ms is how late the
// publishers' own timers were: what a busy machine adds to every wait. One iteration is five
// seconds.
func BenchmarkManyTopics(b *testing.B) {
	for _, scene := range []struct {
		name  string
		start func(testing.TB) servers
	}{{"server", startSingle}, {"cluster", startCluster}} {
		b.Run(scene.name, func(b *testing.B) {
			s := scene.start(b)
			h := newHubOver(b, s.newBackend(b), hub.Options{})
			publisher := newHubOver(b, s.newBackend(b), hub.Options{})
			own, redis, began := heap(), s.memory(b), time.Now()
			subscriptions := followTopics(b, h, manyTopics)
			took := time.Since(began)
			own, redis = heap()-own, s.memory(b)-redis

			p := newPace(subscriptions)
			defer p.stop()
			// Whoever publishes to a topic for the first time makes its stream; that is not what is
			// measured.
			inParallel(b, manyTopics, func(i int) error { return p.publish(publisher, i) })
			p.drain(b)
			p.arrived, p.late = p.arrived[:0], p.late[:0]

			redisCPU, ownCost := s.cpu(b), ownCPU()
			var published int
			for b.Loop() {
				published += p.load(b, publisher, published)
			}
			elapsed := b.Elapsed()
			p.drain(b)
			redisCPU, ownCost = s.cpu(b)-redisCPU, ownCPU()-ownCost

			slices.Sort(p.arrived)
			if len(p.arrived) != published {
				b.Fatalf("%d messages arrived of %d", len(p.arrived), published)
			}
			slices.Sort(p.late)
			at := func(sorted []time.Duration, share float64) float64 {
				return float64(sorted[int(share*float64(len(sorted)-1))].Microseconds()) / 1e3
			}
			b.ReportMetric(at(p.arrived, 0.5), "p50-ms")
			b.ReportMetric(at(p.arrived, 0.99), "p99-ms")
			b.ReportMetric(at(p.arrived, 1), "max-ms")
			b.ReportMetric(at(p.late, 0.99), "late-p99-ms")
			b.ReportMetric(float64(published)/elapsed.Seconds(), "publishes/s")
			b.ReportMetric(microsPer(redisCPU, published), "redis-µs/message")
			b.ReportMetric(microsPer(ownCost, published), "own-µs/message")
			b.ReportMetric(took.Seconds(), "s/follow-all")
			b.ReportMetric(float64(own)/manyTopics, "own-B/topic")
			b.ReportMetric(float64(redis)/manyTopics, "redis-B/topic")
			for _, node := range s {
				if connections, _ := node.pubsub(b); connections != 1 {
					b.Errorf("%d Pub/Sub connections to one node, want 1", connections)
				}
			}
		})
	}
}

// pace is a load of messages that hold the time of their publishing, and the readers that look at
// it.
type pace struct {
	base    time.Time
	readers sync.WaitGroup
	cancel  []*hub.Subscription

	published atomic.Int64
	mu        sync.Mutex
	arrived   []time.Duration // how long each message was under way
	late      []time.Duration // how much later than it was due each publish began
	total     int64           // messages ever arrived
	errs      []error
}

// newPace starts a reader for each subscription.
func newPace(subscriptions []*hub.Subscription) *pace {
	p := &pace{base: time.Now(), cancel: subscriptions, arrived: make([]time.Duration, 0, 1<<20)}
	for _, s := range subscriptions {
		p.readers.Go(func() {
			for m, err := range s.All() {
				p.arrive(m, err)
			}
		})
	}
	return p
}

func (p *pace) arrive(m hub.Message, err error) {
	now := time.Since(p.base)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && !m.Gap:
		p.arrived = append(p.arrived, now-time.Duration(binary.BigEndian.Uint64(m.Data)))
		p.total++
	case err == nil:
		p.errs = append(p.errs, hub.ErrGap)
	case !errors.Is(err, hub.ErrClosed):
		p.errs = append(p.errs, err)
	}
}

// stop ends the readers.
func (p *pace) stop() {
	for _, s := range p.cancel {
		s.Close()
	}
	p.readers.Wait()
}

func (p *pace) publish(h *hub.Hub, topic int) error {
	data := make([]byte, paceData)
	binary.BigEndian.PutUint64(data, uint64(time.Since(p.base)))
	_, err := h.Publish(context.Background(), topicName(topic), hub.Message{Type: "note", Data: data, Binary: true})
	if err == nil {
		p.published.Add(1)
	}
	return err
}

// load publishes for paceTime, to one topic after the other from a first one on. Each publisher has
// a schedule of its own that does not wait for what is late: who falls behind publishes at once
// until it has caught up.
func (p *pace) load(b *testing.B, h *hub.Hub, first int) (published int) {
	const period = time.Second * pacePublishers / paceRate
	const each = int(paceTime / period)
	start := time.Now()
	errs := make([]error, pacePublishers)
	var wg sync.WaitGroup
	for w := range pacePublishers {
		wg.Go(func() {
			due := start.Add(period * time.Duration(w) / pacePublishers)
			timer := time.NewTimer(0)
			defer timer.Stop()
			late := make([]time.Duration, 0, each)
			defer func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.late = append(p.late, late...)
			}()
			for i := range each {
				timer.Reset(time.Until(due))
				<-timer.C
				late = append(late, time.Since(due))
				due = due.Add(period)
				if err := p.publish(h, (first+i*pacePublishers+w)%manyTopics); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	return each * pacePublishers
}

// drain waits until everything that was published has arrived.
func (p *pace) drain(b *testing.B) {
	b.Helper()
	eventually(b, "all messages have arrived", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := errors.Join(p.errs...); err != nil {
			b.Fatal(err)
		}
		if n := p.published.Load(); p.total != n {
			return errors.New("some are under way")
		}
		return nil
	})
}
