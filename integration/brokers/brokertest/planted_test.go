package brokertest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

// lab is a broker that works, unless a fault is planted. All instances are over one Pub/Sub.
type lab struct {
	*gochannel.GoChannel
	// deliver hands on a message of one subscription, or does not. Default: it does.
	deliver func(subscription int, m *message.Message, on func(*message.Message))
	// closeAt says that a subscription ends with a message, which it does not hand on. Default:
	// never.
	closeAt func(*message.Message) bool
	// backend is put around an instance. Default: nothing is.
	backend func(hub.Backend) hub.Backend

	away          atomic.Bool // what is published meanwhile is lost
	subscriptions atomic.Int32
}

// Subscribe implements message.Subscriber.
func (l *lab) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	n := int(l.subscriptions.Add(1))
	ctx, cancel := context.WithCancel(ctx)
	in, err := l.GoChannel.Subscribe(ctx, topic)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan *message.Message)
	on := func(m *message.Message) {
		select {
		case out <- m.Copy():
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(out)
		defer cancel()
		closed := false
		for m := range in {
			m.Ack()
			switch {
			case closed || l.away.Load():
			case l.closeAt != nil && l.closeAt(m):
				closed = true
				cancel()
			case l.deliver != nil:
				l.deliver(n, m, on)
			default:
				on(m)
			}
		}
	}()
	return out, nil
}

func (l *lab) broker() Broker {
	l.GoChannel = gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, nil)
	open := func(t testing.TB) hub.Backend {
		b, err := watermill.New(l.GoChannel, l, watermill.Options{Name: "lab", Ordered: true, ProbeEvery: time.Second, Logger: Logger()})
		if err != nil {
			t.Fatal(err)
		}
		if l.backend == nil {
			return b
		}
		return l.backend(b)
	}
	return Broker{
		New:       open,
		Traits:    hub.Traits{Name: "lab", Ordered: true, Shared: true, Keys: hub.KeysWindow},
		Publisher: func(testing.TB) message.Publisher { return l.GoChannel },
		Restart: func(testing.TB) {
			l.away.Store(true)
			time.Sleep(100 * time.Millisecond) // some messages are published meanwhile
			l.away.Store(false)
		},
		Competing: func(t testing.TB, _ string) hub.Backend { return open(t) },
		Messages:  120, Timeout: 3 * time.Second, HealTimeout: 3 * time.Second,
	}.withDefaults()
}

const (
	same      = "two instances see the same"
	restart   = "a restart of the broker is no silent loss"
	foreign   = "foreign messages are shown"
	malform   = "malformed messages are skipped and counted"
	competing = "instances that compete are found out"
	traits    = "traits are those declared"
)

// planted are faults of brokers, and the checks that fail by them. All do with no fault, but for
// the one that wants competing instances.
var planted = []struct {
	name string
	lab  func() *lab
	fail []string
}{
	{name: "none", lab: func() *lab { return &lab{} }, fail: []string{competing}},
	{name: "neighbours change places", fail: []string{same, competing}, lab: func() *lab {
		held := map[int]*message.Message{}
		n := map[int]int{}
		var mu sync.Mutex
		return &lab{deliver: func(s int, m *message.Message, on func(*message.Message)) {
			mu.Lock()
			before := held[s]
			delete(held, s)
			if m.Metadata.Get("headrace_probe") == "" && strings.HasPrefix(string(m.Payload), "publisher") {
				if n[s]++; n[s]%10 == 0 {
					held[s] = m
					m = nil
				}
			}
			mu.Unlock()
			if m != nil {
				on(m)
			}
			if before != nil {
				on(before)
			}
		}}
	}},
	{name: "every tenth message is lost", fail: []string{same, competing}, lab: func() *lab {
		var n atomic.Int32
		return &lab{deliver: func(_ int, m *message.Message, on func(*message.Message)) {
			if strings.HasPrefix(string(m.Payload), "publisher") && n.Add(1)%10 == 0 {
				return
			}
			on(m)
		}}
	}},
	{name: "each message goes to one subscription", fail: []string{same, restart, foreign, malform}, lab: func() *lab {
		l := &lab{}
		var mu sync.Mutex
		turns := map[string]int{} // which one of all subscriptions gets it
		next := 0
		l.deliver = func(s int, m *message.Message, on func(*message.Message)) {
			mu.Lock()
			to, ok := turns[m.UUID]
			if !ok {
				next++
				to = next
				turns[m.UUID] = to
			}
			mine := to%int(l.subscriptions.Load())+1 == s
			mu.Unlock()
			if mine {
				on(m)
			}
		}
		return l
	}},
	{name: "a message without a UUID ends the subscription", fail: []string{malform, competing}, lab: func() *lab {
		return &lab{closeAt: func(m *message.Message) bool { return m.UUID == "" }}
	}},
	{name: "losses are not said", fail: []string{restart, competing}, lab: func() *lab {
		return &lab{backend: func(b hub.Backend) hub.Backend { return &silent{b.(*watermill.Backend)} }}
	}},
	{name: "more is declared than is so", fail: []string{traits, competing}, lab: func() *lab {
		return &lab{backend: func(b hub.Backend) hub.Backend { return &boasting{b.(*watermill.Backend)} }}
	}},
}

// silent is a backend that keeps gaps to itself.
type silent struct{ *watermill.Backend }

func (s *silent) Follow(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
	return s.Backend.Follow(ctx, topic, silentSink{sink})
}

type silentSink struct{ hub.Sink }

func (silentSink) Restored(hub.ID) {}

type boasting struct{ *watermill.Backend }

func (b *boasting) Traits() hub.Traits {
	traits := b.Backend.Traits()
	traits.Durable = true
	return traits
}

// A broker that is declared durable and loses what was acknowledged fails, whether readers or the
// broker itself are asked.
func TestDurableLie(t *testing.T) {
	for _, c := range []struct {
		name    string
		durable bool
		kept    func(testing.TB, string) []string
		away    bool
		fail    bool
	}{
		{name: "not declared durable", away: true},
		{name: "readers miss messages", durable: true, away: true, fail: true},
		{name: "readers miss none", durable: true},
		{name: "the broker has nothing", durable: true, kept: func(testing.TB, string) []string { return nil }, fail: true},
		{name: "the broker has all", durable: true, away: true, kept: func(testing.TB, string) (list []string) {
			for n := range 10_000 {
				list = append(list, strconv.Itoa(n))
			}
			return list
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := (&lab{}).broker()
			b.Traits.Durable = c.durable
			b.Kept = c.kept
			if !c.away {
				b.Restart = func(testing.TB) {}
			}
			result := try(func(tb testing.TB) { restartIsNoSilentLoss(tb, b) })
			if result.Failed() != c.fail {
				t.Errorf("failed %v, want %v: %s", result.Failed(), c.fail, result.text())
			}
		})
	}
}

// Without an order a malformed message may come after the fence. It must be counted all the same.
func TestSkippedWithoutOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		lose bool
	}{{"they come late", false}, {"they never come", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := &lab{}
			var mu sync.Mutex
			held := map[int]*message.Message{}
			l.deliver = func(s int, m *message.Message, on func(*message.Message)) {
				mu.Lock()
				before := held[s]
				delete(held, s)
				late := strings.HasPrefix(string(m.Payload), "malformed: ")
				if late && !c.lose {
					held[s] = m
				}
				mu.Unlock()
				if !late {
					on(m)
				}
				if before != nil {
					on(before)
				}
			}
			b := l.broker()
			b.Traits.Ordered = false
			result := try(func(tb testing.TB) { malformedMessagesAreSkipped(tb, b) })
			if result.Failed() != c.lose {
				t.Errorf("failed %v, want %v: %s", result.Failed(), c.lose, result.text())
			}
		})
	}
}

func TestPlantedFaults(t *testing.T) {
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			for _, c := range checks {
				result := try(func(tb testing.TB) { c.run(tb, p.lab().broker()) })
				if got, want := result.Failed(), slices.Contains(p.fail, c.name); got != want {
					t.Errorf("%s: failed %v, want %v: %s", c.name, got, want, result.text())
				}
			}
		})
	}
}

// What is out of order is not shown, what is lost is said, and both are counted.
func TestFaultsAreDetected(t *testing.T) {
	for _, c := range []struct {
		name string
		lab  *lab
		want string
		late uint64
	}{
		{name: "neighbours change places", want: "1 2 gap 4 5 6", late: 1, lab: &lab{deliver: swap("3", "4")}},
		{name: "one is lost", want: "1 2 gap 4 5 6", lab: &lab{deliver: func(_ int, m *message.Message, on func(*message.Message)) {
			if string(m.Payload) != "3" {
				on(m)
			}
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := closing(t, c.lab.broker().New(t))
			h := NewHub(t, b)
			r := Read(t, h, "topic")
			for i := range 6 {
				if _, err := h.Publish(t.Context(), "topic", hub.Message{Data: fmt.Append(nil, i+1)}); err != nil {
					t.Fatal(err)
				}
			}
			r.Await(t, time.Minute, "6")
			var got []string
			for _, m := range r.Messages() {
				if m.Gap {
					got = append(got, "gap")
				}
				got = append(got, string(m.Data))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %s", got, c.want)
			}
			if s := Stats(t, b); s.Lost != 1 || s.Late != c.late {
				t.Errorf("%+v, want Lost 1 and Late %d", s, c.late)
			}
		})
	}
}

// swap hands on two messages in the wrong order.
func swap(first, second string) func(int, *message.Message, func(*message.Message)) {
	var held *message.Message
	return func(_ int, m *message.Message, on func(*message.Message)) {
		switch string(m.Payload) {
		case first:
			held = m
		case second:
			on(m)
			on(held)
		default:
			on(m)
		}
	}
}
