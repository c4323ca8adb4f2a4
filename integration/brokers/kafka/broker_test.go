package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
)

func TestBroker(t *testing.T) {
	c := startCluster(t)
	client := c.client(t)
	write := func(data string, headers ...string) func(testing.TB, string) {
		return func(t testing.TB, topic string) {
			t.Helper()
			r := &kgo.Record{Topic: nameOf(t, topic), Value: []byte(data)}
			for i := 0; i < len(headers); i += 2 {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: headers[i], Value: []byte(headers[i+1])})
			}
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	brokertest.Run(t, brokertest.Broker{
		New:       func(t testing.TB) hub.Backend { return c.open(t, "probe_every=2s") },
		Traits:    hub.Traits{Name: "kafka", Ordered: true, Shared: true, Durable: true, Keys: hub.KeysWindow},
		Restart:   c.restart,
		Publisher: func(t testing.TB) message.Publisher { return c.publisher(t) },
		Topic:     func(topic string) (string, error) { return TopicName("", topic) },
		Config: backendtest.Config{
			Timeout: time.Minute,
			Outage: func(t testing.TB, _ hub.Backend) func() {
				c.Close()
				return func() { c.start(t) }
			},
			Break: func(t testing.TB, _ hub.Backend, topic string) func() { return c.breakFetch(t, nameOf(t, topic), 3) },
		},
		Raw: []brokertest.Raw{
			{Name: "no header at all", Write: write("malformed: no header at all")},
			{Name: "no value", Write: func(t testing.TB, topic string) {
				if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: nameOf(t, topic)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}},
			{Name: "an empty key of a header", Write: write("shown: empty key", wmkafka.UUIDHeaderKey, "one", "", "x"), Shown: true},
			{Name: "a repeated header", Write: write("shown: repeated", wmkafka.UUIDHeaderKey, "two", "a", "1", "a", "2"), Shown: true},
			{Name: "a repeated header of the envelope", Write: write("malformed: repeated", "headrace_id", "three", "headrace_id", "no ID")},
		},
		Competing: c.competing,
	})
}

func (c *cluster) publisher(t testing.TB) message.Publisher {
	t.Helper()
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{Brokers: c.addrs(), OverwriteSaramaConfig: config}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// competing returns an instance with a consumer group, which the opener has no parameter for.
func (c *cluster) competing(t testing.TB, group string) hub.Backend {
	t.Helper()
	config := wmkafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetNewest
	config.Consumer.Group.Rebalance.Timeout = 5 * time.Second
	s, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{Brokers: c.addrs(), ConsumerGroup: group, OverwriteSaramaConfig: config}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := watermill.New(c.publisher(t), s, watermill.Options{
		Name: "kafka", Ordered: true, Topic: func(topic string) (string, error) { return TopicName("", topic) }, ProbeEvery: time.Second, OnClose: s.Close, Logger: brokertest.Logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
