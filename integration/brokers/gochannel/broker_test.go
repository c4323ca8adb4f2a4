package gochannel

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
)

func TestBroker(t *testing.T) {
	var last *gochannel.GoChannel // of the instance that New returned last: there is only one at a time
	brokertest.Run(t, brokertest.Broker{
		New: func(t testing.TB) hub.Backend {
			last = NewPubSub()
			b, err := New(last, watermill.Options{OnClose: last.Close, Logger: brokertest.Logger()})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Traits:    hub.Traits{Name: "gochannel", Ordered: true, Keys: hub.KeysWindow},
		Publisher: func(testing.TB) message.Publisher { return last },
	})
}
