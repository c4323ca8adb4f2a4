package watermill

import (
	"testing"

	wm "github.com/ThreeDotsLabs/watermill"
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
