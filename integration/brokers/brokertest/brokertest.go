// Package brokertest is what the tests of every broker behind backends/watermill share: the
// conformance suite of hub.Backend, and what that suite cannot ask for, because it takes two
// instances, a broker that goes down, or messages that no headrace has written:
//
//	func TestBroker(t *testing.T) {
//		server := startServer(t)
//		brokertest.Run(t, brokertest.Broker{
//			New:     func(t testing.TB) hub.Backend { return open(t, server.url) },
//			Traits:  hub.Traits{Name: "kafka", Ordered: true, Shared: true, Durable: true, Keys: hub.KeysWindow},
//			Restart: server.restart,
//		})
//	}
//
// The tests wait for conditions and never for time to pass, and they are worth running with the
// race detector.
package brokertest

import (
	"cmp"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

// Broker tells Run how to get backends over one running broker, and what can be done to it. Only
// New and Traits must be set. The functions may fail or skip the test they are given.
type Broker struct {
	// New returns a backend over the broker, opened as users open it: each call another instance.
	// Run closes what it returns.
	New func(t testing.TB) hub.Backend

	// Traits are those that the backend must declare.
	Traits hub.Traits

	// Config adds to what backendtest is given: Trim, Break, Outage, Lacks, Timeout. New is set by
	// Run, and Peer too for a backend with Traits.Shared.
	Config backendtest.Config

	// Restart ends the broker and starts it again at the same address, with what it keeps. Default:
	// the broker cannot be restarted.
	Restart func(t testing.TB)

	// Kept reads what the broker has of a topic by its own client, from the oldest message on, and
	// returns the data, among which may be those of probes. It is called with Traits.Durable, when
	// the broker was restarted. Default: with Traits.Durable, readers must get all that was
	// published.
	Kept func(t testing.TB, topic string) []string

	// Publisher returns a publisher to the broker past headrace: for messages of other programs.
	// The caller closes it by t.Cleanup. Default: they are not tested.
	Publisher func(t testing.TB) message.Publisher

	// Topic is the broker's name of a topic, as in watermill.Options. Default: as it is.
	Topic func(topic string) (string, error)

	// Raw are writes by the broker's own client, of what a Watermill publisher would not write.
	// Default: none.
	Raw []Raw

	// Competing returns another instance that shares a consumer group, or a queue, with all others
	// that it returned for this group, whatever the opener would make of it. Its ProbeEvery should
	// be short. Run closes it. Default: the broker has no such thing.
	Competing func(t testing.TB, group string) hub.Backend

	// Messages is how many messages the longer tests publish. Default 300.
	Messages int

	// Timeout is how long to wait for something that should happen, a restart of the broker apart.
	// It passes only where something is wrong. Default 30 s.
	Timeout time.Duration

	// HealTimeout is how long delivery may take to be whole again when the broker was restarted.
	// Default 90 s.
	HealTimeout time.Duration
}

// Raw writes one message with the broker's own client.
type Raw struct {
	// Name says what is special about the message.
	Name string
	// Write writes it to a topic, under the name that headrace knows, and returns when the broker
	// has it.
	Write func(t testing.TB, topic string)
	// Shown says that readers get the message. If not, it is skipped and counted.
	Shown bool
}

func (b Broker) withDefaults() Broker {
	b.Messages = cmp.Or(max(b.Messages, 0), 300)
	b.Timeout = cmp.Or(max(b.Timeout, 0), 30*time.Second)
	b.HealTimeout = cmp.Or(max(b.HealTimeout, 0), 90*time.Second)
	if b.Topic == nil {
		b.Topic = func(topic string) (string, error) { return topic, nil }
	}
	return b
}

// Run runs backendtest and the tests of this package as subtests of t.
func Run(t *testing.T, b Broker) {
	t.Helper()
	if b.New == nil {
		t.Fatal("brokertest: Broker.New is not set")
	}
	b = b.withDefaults()
	t.Run("backendtest", func(t *testing.T) {
		c := b.Config
		c.New = b.New
		if b.Traits.Shared && c.Peer == nil {
			c.Peer = func(t testing.TB, _ hub.Backend) hub.Backend { return b.New(t) }
		}
		backendtest.Run(t, c)
	})
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, b) })
	}
}

// check is one test of this package. It is given a testing.TB, so that it can be seen to fail.
type check struct {
	name string
	run  func(t testing.TB, b Broker)
}

var checks = []check{
	{"traits are those declared", traitsAreDeclared},
	{"two instances see the same", instancesSeeTheSame},
	{"a restart of the broker is no silent loss", restartIsNoSilentLoss},
	{"foreign messages are shown", foreignMessagesAreShown},
	{"malformed messages are skipped and counted", malformedMessagesAreSkipped},
	{"instances that compete are found out", competingIsFoundOut},
}

// open returns an instance that is closed when the test ends.
func (b Broker) open(t testing.TB) hub.Backend {
	t.Helper()
	return closing(t, b.New(t))
}

func closing(t testing.TB, b hub.Backend) hub.Backend {
	t.Helper()
	if b == nil {
		t.Fatal("brokertest: no backend was returned")
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

// Stats returns the counters of a backend that New of package watermill made.
func Stats(t testing.TB, b hub.Backend) watermill.Stats {
	t.Helper()
	s, ok := b.(interface{ Stats() watermill.Stats })
	if !ok {
		t.Fatalf("brokertest: %T has no Stats", b)
	}
	return s.Stats()
}
