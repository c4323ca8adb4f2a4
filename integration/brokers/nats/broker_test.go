package nats

import (
	"testing"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
)

// subjectOf is what the opener makes of a topic without parameters.
func subjectOf(topic string) string { return "headrace." + TopicName(topic) }

func TestBroker(t *testing.T) {
	t.Run("file", func(t *testing.T) { testBroker(t, "file") })
	t.Run("memory", func(t *testing.T) { testBroker(t, "memory") }) // the stream is gone with the server, and is made again
}

func testBroker(t *testing.T, storage string) {
	s := startServer(t)
	config := backendtest.Config{Timeout: time.Minute}
	if storage == "file" { // what is published to a new stream before it is subscribed to is lost, behind a gap
		config.Outage = func(t testing.TB, _ hub.Backend) func() {
			s.stop()
			return func() { s.start(t) }
		}
	}
	conn, js := s.connect(t)
	write := func(header nats.Header, data string) func(testing.TB, string) {
		return func(t testing.TB, topic string) {
			t.Helper()
			if _, err := js.PublishMsg(&nats.Msg{Subject: subjectOf(topic), Header: header, Data: []byte(data)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	brokertest.Run(t, brokertest.Broker{
		New:     func(t testing.TB) hub.Backend { return s.open(t, "probe_every=1s&storage="+storage) },
		Traits:  hub.Traits{Name: "nats", Ordered: true, Shared: true, Durable: storage == "file", Keys: hub.KeysWindow},
		Restart: s.restart,
		Publisher: func(t testing.TB) message.Publisher {
			p, err := wmnats.NewPublisherWithNatsConn(conn, wmnats.PublisherPublishConfig{
				Marshaler: &wmnats.NATSMarshaler{}, SubjectCalculator: wmnats.DefaultSubjectCalculator,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Topic:  func(topic string) (string, error) { return subjectOf(topic), nil },
		Config: config,
		Raw: []brokertest.Raw{
			{Name: "no header at all", Write: write(nil, "malformed: no header at all")},
			{Name: "a repeated UUID", Write: write(nats.Header{wmnats.WatermillUUIDHdr: {"one", "two"}}, "shown: a repeated UUID"), Shown: true},
			{Name: "a repeated header", Write: write(nats.Header{wmnats.WatermillUUIDHdr: {"three"}, "Partner": {"a", "b"}}, "shown: a repeated header"), Shown: true},
			{Name: "a repeated header of the envelope", Write: write(nats.Header{"headrace_id": {"no ID", "four"}}, "malformed: a repeated header of the envelope")},
		},
	})
}
