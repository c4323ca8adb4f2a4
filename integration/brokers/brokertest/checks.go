package brokertest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

func traitsAreDeclared(t testing.TB, b Broker) {
	if got := b.open(t).Traits(); got != b.Traits {
		t.Errorf("Traits %+v, want %+v", got, b.Traits)
	}
}

// pair returns two instances, or one and the same twice when the broker ends at this process.
func (b Broker) pair(t testing.TB) [2]hub.Backend {
	t.Helper()
	first := b.open(t)
	if !b.Traits.Shared {
		return [2]hub.Backend{first, first}
	}
	return [2]hub.Backend{first, b.open(t)}
}

// instancesSeeTheSame: a browser may be at any instance, and change it with each connection. So
// every instance gets every message, under one ID, and where the order is declared in one order.
func instancesSeeTheSame(t testing.TB, b Broker) {
	topic := NewTopic()
	pair := b.pair(t)
	hubs := [2]*hub.Hub{NewHub(t, pair[0]), NewHub(t, pair[1])}
	readers := [2]*Reader{Read(t, hubs[0], topic), Read(t, hubs[1], topic)}

	const publishers = 4
	perEach := max(b.Messages/publishers, 1)
	ids := make(map[hub.ID]string)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range perEach {
				text := fmt.Sprintf("publisher %d message %d", p, i)
				id, err := hubs[p%2].Publish(t.Context(), topic, hub.Message{Type: "note", Data: []byte(text)})
				if err != nil {
					t.Errorf("Publish: %v", err)
					return
				}
				mu.Lock()
				ids[id] = text
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if len(ids) != publishers*perEach {
		t.Fatalf("%d IDs for %d messages", len(ids), publishers*perEach)
	}
	for i, r := range readers {
		r.Until(t, b.Timeout, fmt.Sprintf("all messages at instance %d", i), func(ms []hub.Message) bool { return len(ms) >= len(ids) })
	}
	var orders [2][]string
	for i, r := range readers {
		ms := r.Messages()
		last := map[string]int{} // by publisher
		for _, m := range ms {
			if m.Gap {
				t.Errorf("instance %d: a gap before %q, though nothing was disturbed", i, m.Data)
			}
			if want, ok := ids[m.ID]; !ok || want != string(m.Data) {
				t.Errorf("instance %d: ID %q has %q, and %q was published under it", i, m.ID, m.Data, want)
			}
			orders[i] = append(orders[i], string(m.ID))
			if !b.Traits.Ordered {
				continue
			}
			publisher, number, _ := strings.Cut(string(m.Data), " message ")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Errorf("instance %d: message %q", i, m.Data)
				continue
			}
			if before, ok := last[publisher]; ok && n <= before {
				t.Errorf("instance %d: %q came after message %d", i, m.Data, before)
			}
			last[publisher] = n
		}
		if len(ms) != len(ids) {
			t.Errorf("instance %d got %d messages, %d were published", i, len(ms), len(ids))
		}
	}
	if !b.Traits.Ordered {
		slices.Sort(orders[0])
		slices.Sort(orders[1])
	}
	if !slices.Equal(orders[0], orders[1]) {
		t.Errorf("the instances do not see the same:\n%q\n%q", orders[0], orders[1])
	}
}

// foreignMessagesAreShown: a program that knows nothing of headrace publishes with Watermill.
func foreignMessagesAreShown(t testing.TB, b Broker) {
	if b.Publisher == nil {
		t.Skip("Broker.Publisher is not set")
	}
	topic := NewTopic()
	pair := b.pair(t)
	readers := [2]*Reader{Read(t, NewHub(t, pair[0]), topic), Read(t, NewHub(t, pair[1]), topic)}
	publisher := b.Publisher(t)
	m := message.NewMessage("foreign-1", message.Payload(`{"from":"elsewhere"}`))
	m.Metadata.Set("partner", "yes")
	b.write(t, publisher, topic, m)
	for i, r := range readers {
		r.Await(t, b.Timeout, `{"from":"elsewhere"}`)
		if got := r.Messages()[0]; got.ID != "foreign-1" || got.Gap {
			t.Errorf("instance %d: ID %q, gap %v; want the UUID and no gap", i, got.ID, got.Gap)
		}
	}
}

func (b Broker) write(t testing.TB, p message.Publisher, topic string, m *message.Message) {
	t.Helper()
	name, err := b.Topic(topic)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(name, m); err != nil {
		t.Fatalf("publishing a foreign message: %v", err)
	}
}

// malformed are messages that any Watermill publisher can write.
var malformed = []struct {
	name     string
	uuid     string
	metadata map[string]string
}{
	{name: "no UUID"},
	{name: "a UUID that is no ID", uuid: "not an ID \x01"},
	{name: "an ID that is none", uuid: "a", metadata: map[string]string{"headrace_id": "no ID at all"}},
	{name: "a number that is none", uuid: "b", metadata: map[string]string{"headrace_id": "b", "headrace_origin": "o", "headrace_seq": "many"}},
	{name: "headers that are none", uuid: "c", metadata: map[string]string{"headrace_id": "c", "headrace_origin": "o", "headrace_seq": "1", "headrace_headers": "%zz"}},
}

// malformedMessagesAreSkipped: whoever may write to a topic may write nonsense. It must cost no
// reader a good message.
func malformedMessagesAreSkipped(t testing.TB, b Broker) {
	if b.Publisher == nil {
		t.Skip("Broker.Publisher is not set")
	}
	topic := NewTopic()
	pair := b.pair(t)
	hubs := [2]*hub.Hub{NewHub(t, pair[0]), NewHub(t, pair[1])}
	readers := [2]*Reader{Read(t, hubs[0], topic), Read(t, hubs[1], topic)}
	publisher := b.Publisher(t)

	fences := 0
	// fence sees that the stream goes on without a gap, and that what was written before is dealt
	// with.
	fence := func(after string) {
		t.Helper()
		fences++
		data := fmt.Sprintf("fence %d after %s", fences, after)
		if _, err := hubs[0].Publish(t.Context(), topic, hub.Message{Data: []byte(data)}); err != nil {
			t.Fatalf("after %s: Publish: %v", after, err)
		}
		for i, r := range readers {
			r.Await(t, b.Timeout, data)
			for _, m := range r.Messages() {
				if string(m.Data) == data && m.Gap {
					t.Errorf("instance %d: a gap after %s", i, after)
				}
			}
		}
	}
	var want [2]uint64
	for i := range pair {
		want[i] = Stats(t, pair[i]).Skipped
	}
	skipped := func(what string, n uint64, write func()) {
		t.Helper()
		write()
		fence(what)
		for i := range pair {
			want[i] += n
			got := Stats(t, pair[i]).Skipped
			// Without an order the fence may have overtaken it.
			for deadline := time.Now().Add(b.Timeout); !b.Traits.Ordered && !t.Failed() && got < want[i] && time.Now().Before(deadline); got = Stats(t, pair[i]).Skipped {
				time.Sleep(time.Millisecond)
			}
			if got != want[i] {
				t.Errorf("instance %d: %s: %d messages were counted as skipped so far, want %d", i, what, got, want[i])
				want[i] = got
			}
		}
	}

	fence("nothing")
	for _, c := range malformed {
		skipped(c.name, 1, func() {
			m := message.NewMessage(c.uuid, message.Payload("malformed: "+c.name))
			for k, v := range c.metadata {
				m.Metadata.Set(k, v)
			}
			b.write(t, publisher, topic, m)
		})
	}
	skipped("huge metadata", 0, func() {
		m := message.NewMessage("huge-metadata", message.Payload("shown: huge metadata"))
		m.Metadata.Set("huge", strings.Repeat("x", 16<<10))
		for i := range 100 {
			m.Metadata.Set(fmt.Sprintf("key-%d", i), "value")
		}
		b.write(t, publisher, topic, m)
	})
	shown := 1
	for _, raw := range b.Raw {
		want := uint64(1)
		if raw.Shown {
			want = 0
			shown++
		}
		skipped(raw.Name, want, func() { raw.Write(t, topic) })
	}
	for i, r := range readers {
		if !b.Traits.Ordered {
			r.Until(t, b.Timeout, "all that should be shown", func(ms []hub.Message) bool { return len(ms) >= fences+shown })
		}
		others := 0
		for _, m := range r.Messages() {
			if !strings.HasPrefix(string(m.Data), "fence ") {
				others++
			}
			if strings.HasPrefix(string(m.Data), "malformed: ") {
				t.Errorf("instance %d shows %q", i, m.Data)
			}
		}
		if others != shown {
			t.Errorf("instance %d shows %d messages of others, want %d: %q", i, others, shown, r.Texts())
		}
	}
}

// competingIsFoundOut: with two instances in one group, or at one queue, each browser would see a
// part of the messages. Follow refuses that where the second instance gets a part; where it gets
// nothing, or took everything away from the first, the one without is silent, and noticed by that.
func competingIsFoundOut(t testing.TB, b Broker) {
	if b.Competing == nil {
		t.Skip("Broker.Competing is not set: the broker has no groups")
	}
	topic, group := NewTopic(), "group-"+rand.Text()
	ctx, cancel := context.WithTimeout(t.Context(), b.Timeout+10*time.Second) // more than Follow takes to find it out
	defer cancel()
	broken := make(watchSink, 2)
	follow := func(b hub.Backend) error {
		_, stop, err := b.Follow(ctx, topic, broken)
		if err == nil {
			t.Cleanup(stop)
		}
		return err
	}
	for i := range 2 {
		err := follow(closing(t, b.Competing(t, group)))
		if errors.Is(err, watermill.ErrCompeting) || errors.Is(err, watermill.ErrSilent) {
			t.Logf("Follow of instance %d: %v", i, err)
			return
		}
		if err != nil {
			t.Fatalf("Follow of instance %d: %v; want ErrCompeting or ErrSilent", i, err)
		}
	}
	select {
	case err := <-broken:
		t.Logf("Broken: %v", err)
	case <-time.After(b.HealTimeout):
		t.Errorf("two instances of one group followed a topic, and nobody noticed within %v", b.HealTimeout)
	}
}

// watchSink is a sink that tells of what is broken.
type watchSink chan error

func (w watchSink) Deliver(...hub.Message) {}
func (w watchSink) Restored(hub.ID)        {}
func (w watchSink) Broken(err error) {
	select {
	case w <- err:
	default:
	}
}
