package watermill

import (
	"log/slog"
	"testing"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/hub"
)

// channel returns a Pub/Sub within the process that keeps the order.
func channel(t testing.TB) *gochannel.GoChannel {
	c := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wm.NopLogger{})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestBackend(t *testing.T) {
	backendtest.Run(t, backendtest.Config{
		New: func(t testing.TB) hub.Backend {
			c := channel(t)
			b, err := New(c, c, Options{Ordered: true, Local: true})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	})
}

func TestTwoInstances(t *testing.T) {
	backendtest.Run(t, backendtest.Config{
		New: func(t testing.TB) hub.Backend {
			c := channel(t)
			b, err := New(c, c, Options{Ordered: true})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Peer: func(t testing.TB, b hub.Backend) hub.Backend {
			of := b.(*Backend)
			peer, err := New(of.publisher, of.subscriber, Options{Ordered: true})
			if err != nil {
				t.Fatal(err)
			}
			return peer
		},
	})
}

// TestFaults runs the rules that need a broker whose faults can be made.
func TestFaults(t *testing.T) {
	fakes := make(map[hub.Backend]*fakeBroker)
	backendtest.Run(t, backendtest.Config{
		New: func(t testing.TB) hub.Backend {
			f := newFake()
			b, err := New(f, f, Options{Ordered: true, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			fakes[b] = f
			return b
		},
		Peer: func(t testing.TB, b hub.Backend) hub.Backend {
			peer, err := New(fakes[b], fakes[b], Options{Ordered: true, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			fakes[peer] = fakes[b]
			return peer
		},
		Break: func(_ testing.TB, b hub.Backend, topic string) func() {
			f := fakes[b]
			f.set(func() {
				f.onSubscribe = func(int) error { return errDown }
				for _, s := range f.subs[topic] {
					s.mute = true
					s.cancel()
				}
			})
			return func() { f.set(func() { f.onSubscribe = nil }) }
		},
		Outage: func(_ testing.TB, b hub.Backend) func() {
			f := fakes[b]
			f.set(func() {
				f.onSubscribe = func(int) error { return errDown }
				f.onPublish = func(*message.Message) error { return errDown }
			})
			return func() { f.set(func() { f.onSubscribe, f.onPublish = nil, nil }) }
		},
	})
}
