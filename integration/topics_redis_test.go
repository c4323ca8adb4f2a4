package integration

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// longestCursor is how long a cursor over nine Redis topics may be, in bytes: longer ones need a
// preflight from other origins.
const longestCursor = 128

// nine are the topics of the tests.
func nine() (topics []string) {
	for i := range 9 {
		topics = append(topics, topicName(i))
	}
	return topics
}

// instance is a hub and a server, as a process of its own would have them.
type instance struct {
	hub    *hub.Hub
	server *httptest.Server
}

// feeds are the paths of an instance with the topics of each.
type feeds map[string][]string

// startInstance starts an instance over one Redis server.
func startInstance(t *testing.T, s servers, routes feeds) *instance {
	t.Helper()
	h := newHubOver(t, s.newBackend(t), hub.Options{})
	r := gin.New()
	for path, topics := range routes {
		// Nothing ends a stream but the client, and nothing comes but messages.
		options := ginsse.Options{Heartbeat: time.Hour, NoRotation: true, ConnectTimeout: deadline, Logger: quiet}
		route := ginsse.SSE[struct{}](path).Options(options).
			TopicsFunc(h, func(*ginsse.Context[struct{}]) ([]string, error) { return topics, nil })
		if err := ginsse.Mount(r, route); err != nil {
			t.Fatal(err)
		}
	}
	return &instance{h, newServer(t, r)}
}

// wander has clients read a feed over two instances, dropping connections at random, while
// publishers at both publish each messages to each topic.
func wander(t *testing.T, instances [2]*instance, path string, topics []string, clients, each, drops int) (longest int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	total := len(topics) * len(instances) * each
	pace := newPacer(clients)
	settleIDs(t, instances[0].hub, topics)
	wanderers := make([]*wanderer, clients)
	for i := range wanderers {
		wanderers[i] = newWanderer("")
		// Nothing is published yet but what is old: the checkpoint is before everything.
		first := func() bool { return wanderers[i].cursor != "" }
		if err := wanderers[i].read(instances[i%2], path, 1, first, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	var publishers, readers sync.WaitGroup
	for p, from := range instances {
		for _, topic := range topics {
			publishers.Go(func() {
				for n := range each {
					if !pace.next(200) {
						return
					}
					send(t, from.hub, topic, fmt.Sprintf("%s %d", topic, p), n)
				}
			})
		}
	}
	var changes atomic.Int64
	var failed atomic.Bool
	for i, w := range wanderers {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		readers.Go(func() {
			for last := -1; w.count < total; {
				at := rng.IntN(2)
				if at != last {
					changes.Add(1)
				}
				last = at
				over := func() bool { return w.count >= total || failed.Load() }
				err := w.read(instances[at], path, 1+rng.IntN(2*drops), over, func() { pace.took(i, w.count) })
				if failed.Load() {
					return
				}
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					// What the others wait for will not come.
					failed.Store(true)
					pace.stop()
					for _, instance := range instances {
						instance.server.CloseClientConnections()
					}
					return
				}
			}
		})
	}
	publishers.Wait()
	readers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	want := readLogs(t, instances[0].hub, topics, len(instances)*each)
	connections := 0
	for i, w := range wanderers {
		if err := w.compare(want); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
		if w.gaps > 0 {
			t.Errorf("client %d: %d gaps", i, w.gaps)
		}
		connections += w.connections
		longest = max(longest, w.longest)
	}
	t.Logf("%d clients, %d messages of %d topics: %d connections, %d changes of the instance, the longest cursor has %d bytes",
		clients, total, len(topics), connections, changes.Load(), longest)
	return longest
}

// TestTopicsOverInstances: clients that drop and change the instance at random get each topic's
// messages once and in order.
func TestTopicsOverInstances(t *testing.T) {
	s := startSingle(t)
	routes := feeds{"/nine": nine()}
	instances := [2]*instance{startInstance(t, s, routes), startInstance(t, s, routes)}
	clients, each := testenv.Sized(10, 40), testenv.Sized(60, 250)
	if longest := wander(t, instances, "/nine", nine(), clients, each, 60); longest > longestCursor {
		t.Errorf("a cursor over nine topics had %d bytes, want at most %d", longest, longestCursor)
	}
}

// colliding returns two names of topics with the same first four bytes of SHA-256, by which cursors
// know topics.
var colliding = sync.OnceValue(func() (pair [2]string) {
	seen := make(map[uint32]int)
	name := func(i int) string { return fmt.Sprintf("rooms/%d/events", i) }
	for i := 0; ; i++ {
		sum := sha256.Sum256([]byte(name(i)))
		hash := binary.BigEndian.Uint32(sum[:])
		if other, ok := seen[hash]; ok {
			return [2]string{name(other), name(i)}
		}
		seen[hash] = i
	}
})

// TestTopicsThatCollide: topics whose short hashes are the same are kept apart, over two instances
// too.
func TestTopicsThatCollide(t *testing.T) {
	pair := colliding()
	s := startSingle(t)
	topics := []string{pair[0], "rooms/all", pair[1]}
	routes := feeds{"/rooms": topics, "/first": {pair[0], "rooms/all"}, "/second": {pair[1], "rooms/all"}}
	instances := [2]*instance{startInstance(t, s, routes), startInstance(t, s, routes)}
	wander(t, instances, "/rooms", topics, 8, 50, 10)

	// A cursor over one of the two cannot say whose place it has.
	w := newWanderer("")
	read := func(i *instance, path string) {
		t.Helper()
		if err := w.read(i, path, 1, func() bool { return false }, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	read(instances[0], "/first") // the checkpoint
	first := w.cursor
	w.opened = func() {
		send(t, instances[1].hub, pair[1], pair[1], 0)
		send(t, instances[0].hub, pair[0], pair[0], 0)
	}
	read(instances[0], "/first")
	// A route that has the other one may take it for its own, one of 2^32 times. That is the price
	// of short cursors; no message of what it does not name comes of it.
	w.cursor, w.opened, w.next = first, nil, nil
	read(instances[1], "/second")
	if len(w.got[pair[0]]) != 1 {
		t.Fatalf("%d messages of %s, want the one that came on the route that names it", len(w.got[pair[0]]), pair[0])
	}
	// A route that has both knows that it cannot tell.
	w.cursor, w.gaps = first, 0
	w.opened = func() { send(t, instances[0].hub, pair[0], pair[0], 1) }
	read(instances[1], "/rooms")
	if w.gaps != 1 {
		t.Error("no gap for a cursor that has the place of one of two topics, and nobody knows which")
	}
}

// TestTopicsThatGrow: a route that had one topic and has nine says one gap and goes on; its new
// cursor works everywhere, and on a route that has shrunk again.
func TestTopicsThatGrow(t *testing.T) {
	topics := nine()
	s := startSingle(t)
	before := startInstance(t, s, feeds{"/feed": topics[:1]})
	after := startInstance(t, s, feeds{"/feed": topics})
	w := newWanderer("")
	w.next = nil // a gap is part of this story
	no := func() bool { return false }
	read := func(i *instance, events int) {
		t.Helper()
		if err := w.read(i, "/feed", events, no, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	read(before, 1) // the checkpoint
	send(t, before.hub, topics[0], topics[0], 1)
	read(before, 1)
	former := w.cursor

	w.opened = func() { send(t, before.hub, topics[8], topics[8], 1) }
	read(after, 1)
	if w.gaps != 1 || w.cursor == former {
		t.Fatalf("%d gaps with the place %q for a client that knew one of nine topics; want one, with a place of its own", w.gaps, w.cursor)
	}
	w.opened = nil
	read(after, 1)
	for round := range 3 {
		for i, topic := range topics {
			send(t, []*instance{before, after}[(i+round)%2].hub, topic, topic, 2+round)
		}
		read(after, 4)
		read(after, 5)
	}
	send(t, after.hub, topics[0], topics[0], 5)
	send(t, after.hub, topics[1], topics[1], 5)
	read(before, 1) // the old instance, in the middle of a deployment
	if w.gaps != 1 {
		t.Errorf("%d gaps, want one", w.gaps)
	}
	want := make(logs)
	for _, topic := range topics {
		for n := 2; n <= 4; n++ {
			want[topic] = append(want[topic], fmt.Sprintf("%s %d", topic, n))
		}
	}
	want[topics[0]] = slices.Concat([]string{topics[0] + " 1"}, want[topics[0]], []string{topics[0] + " 5"})
	want[topics[8]] = slices.Concat([]string{topics[8] + " 1"}, want[topics[8]])
	if err := w.compare(want); err != nil {
		t.Error(err)
	}
}
