package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/redisstream"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// world is one run: a site, hubs over it, and who publishes and reads.
type world struct {
	*site
	seed     uint64
	topology string
	length   time.Duration
	slack    int // bounds of time are so many times as long
	schedule []step
	log      record // of the backends and hubs

	began   time.Time
	hubs    []*hub.Hub
	topics  []string
	deleted string // the topic that is deleted now and then
	enough  chan struct{}
	readers []*reading
	made    []*publisher

	mu       sync.Mutex
	recent   map[string][]hub.ID // acknowledged messages, by topic
	erased   map[string]map[hub.ID]bool
	happened []event
	switches []change
	settled  []time.Duration // when everything was whole
	calms    []calm
	back     time.Duration // within what time everybody is back from the step before
	// swallowed: connections are dead, and perhaps nobody has noticed.
	swallowed bool
	due       time.Duration // when everybody has to be back from all faults until now
	lasts     []attempt     // the last message of each topic
}

// event is something that was done to the servers.
type event struct {
	at   time.Duration
	what string
}

// change is another master of a shard.
type change struct {
	at    time.Duration
	shard int
}

func (w *world) now() time.Duration { return time.Since(w.began) }

func (w *world) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) happens(format string, args ...any) {
	e := event{w.now(), fmt.Sprintf(format, args...)}
	w.note(func() { w.happened = append(w.happened, e) })
}

func (w *world) published(topic string, id hub.ID) {
	w.note(func() {
		w.recent[topic] = append(w.recent[topic], id)
		if len(w.recent[topic]) > 100 {
			w.recent[topic] = w.recent[topic][50:]
		}
	})
}

func (w *world) anyPublished(random *rand.Rand) (topic string, id hub.ID) {
	topic = w.topics[random.IntN(len(w.topics))]
	w.note(func() {
		if list := w.recent[topic]; len(list) > 0 {
			id = list[random.IntN(len(list))]
		}
	})
	return topic, id
}

// newWorld starts the servers, and hubs that follow in different ways.
func newWorld(t *testing.T, topology string, seed uint64, length time.Duration, slack int) *world {
	w := &world{
		site: topologies[topology](t), seed: seed, topology: topology, length: length, slack: slack,
		enough: make(chan struct{}), recent: make(map[string][]hub.ID), erased: make(map[string]map[hub.ID]bool),
	}
	w.topics = w.sorted()
	for _, topic := range w.topics {
		w.erased[topic] = make(map[hub.ID]bool)
	}
	w.deleted = w.topics[0]
	w.schedule = newSchedule(seed, topology, len(w.shards), w.faultsUntil())
	logger := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	modes := []redisstream.FollowMode{redisstream.FollowPubSub, redisstream.FollowXRead}
	for i, network := range w.networks {
		client := w.client(network)
		backend, err := redisstream.New(client, redisstream.Options{Follow: modes[i%len(modes)], MaxMessages: 1 << 20, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		h, err := hub.New(backend, hub.Options{Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		w.hubs = append(w.hubs, h)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := errors.Join(h.Shutdown(ctx), backend.Close(), client.Close()); err != nil {
				t.Errorf("the end: %v", err)
			}
		})
	}
	return w
}

// The last part of a run is calm.
func (w *world) faultsUntil() time.Duration { return w.length - min(w.length/3, 15*time.Second) }

// run lives through the schedule, and returns what there is to check.
func (w *world) run() *history {
	w.began = time.Now()
	testenv.Eventually(w.t, "the servers", func() error { return w.isWhole(w.t.Context()) })
	w.settled = append(w.settled, w.now())

	ctx, stop := context.WithCancel(w.t.Context())
	var watchers, followers, working sync.WaitGroup
	end := func() {
		stop()
		working.Wait()
		followers.Wait()
		watchers.Wait()
	}
	defer end()
	watchers.Go(func() {
		w.watch(ctx, func(shard int) {
			at := w.now()
			w.note(func() { w.switches = append(w.switches, change{at, shard}) })
			w.happens("shard %d has another master", shard)
		})
	})
	w.startReaders(ctx, &followers)
	w.startPublishers(ctx, &working)

	for _, s := range w.schedule {
		w.live(s)
	}
	w.rest(w.length)
	close(w.enough)
	working.Wait()
	last := w.finish()
	w.catchUp(last)
	end()
	return w.history()
}

func (w *world) startReaders(ctx context.Context, all *sync.WaitGroup) {
	var ready sync.WaitGroup
	for i := range readers {
		r := &reading{
			reader: &reader{name: fmt.Sprintf("r%d", i), topic: w.topics[i%len(w.topics)]},
			manner: manners[i%len(manners)], world: w, hub: w.hubs[i%len(w.hubs)],
			random: rand.New(rand.NewPCG(w.seed, uint64(100+i))), errors: make(map[string]int),
		}
		w.readers = append(w.readers, r)
		ready.Add(1)
		all.Go(func() { r.run(ctx, ready.Done) })
	}
	ready.Wait()
}

func (w *world) startPublishers(ctx context.Context, all *sync.WaitGroup) {
	for i := range publishers {
		p := &publisher{
			world: w, hub: w.hubs[i%len(w.hubs)], name: fmt.Sprintf("p%d", i), keys: i >= publishers/2,
			random: rand.New(rand.NewPCG(w.seed, uint64(200+i))),
		}
		w.made = append(w.made, p)
		all.Go(func() { p.run(ctx) })
	}
	all.Go(func() { w.tidy(ctx, rand.New(rand.NewPCG(w.seed, 300))) })
}
