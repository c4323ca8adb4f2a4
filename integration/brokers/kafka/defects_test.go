package kafka

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/brokers/brokertest"
)

// The tests of this file have two halves where that is possible: what Watermill does by itself, so
// that a version without the defect is noticed, and what the opener makes of it.

const fetchKey, listOffsetsKey = 1, 2

// breakFetch makes fetches of the first partitions of a topic fail as if the messages had been
// removed, and nothing be fetched of the topic before restore is called.
func (c *cluster) breakFetch(t testing.TB, name string, partitions int32) (restore func()) {
	t.Helper()
	var restored atomic.Bool
	failed := make(chan struct{})
	var once sync.Once
	hit := make(map[int32]bool) // control functions run one after another
	c.ControlKey(fetchKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
		if restored.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		req := r.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		ours := false
		for _, topic := range req.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.RecordBatches = p.Partition, []byte{}
				if topic.Topic == name {
					ours = true
					if p.Partition < partitions {
						rp.ErrorCode = kerr.OffsetOutOfRange.Code
						hit[p.Partition] = true
					}
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		if !ours {
			return nil, nil, false
		}
		if len(hit) == int(partitions) {
			once.Do(func() { close(failed) })
		}
		return resp, nil, true
	})
	c.ControlKey(listOffsetsKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
		if restored.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		req := r.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, topic := range req.Topics {
			if topic.Topic != name {
				return nil, nil, false
			}
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewListOffsetsResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.NotLeaderForPartition.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	select {
	case <-failed:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s is not fetched", name)
	}
	return func() { restored.Store(true) }
}

// Without a consumer group Watermill begins anew at the newest message when its consumers have
// ended, and says nothing of those before. When only one of several has ended, its partition is not
// read any more.
func TestConsumerThatEnded(t *testing.T) {
	for ended, theirs := range map[int32]string{1: "nothing", 3: "after"} {
		t.Run(fmt.Sprintf("%d of 3 partitions", ended), func(t *testing.T) {
			t.Run("Watermill", func(t *testing.T) {
				if got := afterBreak(t, ended); got != theirs {
					t.Errorf("it goes on with %q, not with %q", got, theirs)
				}
			})
			t.Run("opener", func(t *testing.T) { gapAfterBreak(t, ended) })
		})
	}
}

// afterBreak returns what Watermill's subscription shows first when consumers have ended.
func afterBreak(t *testing.T, ended int32) string {
	t.Helper()
	c := startCluster(t)
	client := c.client(t)
	produce(t, client, "orders", "first") // the topic is there
	s, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{Brokers: c.addrs(), ReconnectRetrySleep: 100 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	messages, err := s.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	produce(t, client, "orders", "before")
	select {
	case m := <-messages:
		m.Ack()
	case <-time.After(20 * time.Second):
		t.Fatal("no message came within 20s")
	}
	restore := c.breakFetch(t, "orders", ended)
	produce(t, client, "orders", "meanwhile")
	restore()
	for range 60 {
		produce(t, client, "orders", "after")
		select {
		case m := <-messages:
			m.Ack()
			return string(m.Payload)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return "nothing"
}

func gapAfterBreak(t *testing.T, ended int32) {
	t.Helper()
	c := startCluster(t)
	b := c.open(t, "")
	defer b.Close()
	h := brokertest.NewHub(t, b)
	r := brokertest.Read(t, h, "orders")
	publish(t, h, "orders", "before")
	r.Await(t, time.Minute, "before")
	restore := c.breakFetch(t, "orders", ended)
	publish(t, h, "orders", "meanwhile")
	restore()
	for i := 0; len(r.Messages()) < 2; i++ { // until the subscription is whole again
		publish(t, h, "orders", "after "+strconv.Itoa(i))
		time.Sleep(50 * time.Millisecond)
		if i > 400 {
			t.Fatalf("nothing comes after the break: %q", r.Texts())
		}
	}
	if got := r.Messages()[1]; string(got.Data) == "meanwhile" || !got.Gap {
		t.Errorf("%q follows, gap %v; want a gap before what came after the break", got.Data, got.Gap)
	}
	if reopened := brokertest.Stats(t, b).Reopened; reopened == 0 {
		t.Error("the subscription was not opened again")
	}
}

// Watermill asks for errors that it never takes: when as many as fit have piled up, the consumer
// stands still for ever.
func TestManyErrorsDoNotStopAConsumer(t *testing.T) {
	const more = 12 // than fit
	c := startCluster(t)
	client := c.client(t)
	run := func(topic string, config *sarama.Config, subscriber message.Subscriber) string {
		t.Helper()
		config.Consumer.Retry.Backoff = time.Millisecond
		config.ChannelBufferSize = 4       // 256 by default
		produce(t, client, topic, "first") // the topic is there
		messages, err := subscriber.Subscribe(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		var failed atomic.Int32
		done := make(chan struct{})
		c.ControlKey(fetchKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
			req := r.(*kmsg.FetchRequest)
			if len(req.Topics) != 1 || req.Topics[0].Topic != topic || failed.Load() >= more {
				return nil, nil, false
			}
			c.KeepControl()
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic = topic
			for _, p := range req.Topics[0].Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.RecordBatches = p.Partition, kerr.UnknownServerError.Code, []byte{}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
			if failed.Add(1) == more {
				close(done)
			}
			return resp, nil, true
		})
		select {
		case <-done:
		case <-time.After(4 * time.Second):
		}
		produce(t, client, topic, "second")
		select {
		case m := <-messages:
			m.Ack()
			return string(m.Payload)
		case <-time.After(5 * time.Second):
			return fmt.Sprintf("nothing after %d errors", failed.Load())
		}
	}
	ours := consuming(sarama.NewConfig())
	if got := run("ours", ours, &subscriber{wmkafka.SubscriberConfig{Brokers: c.addrs(), OverwriteSaramaConfig: ours}}); got != "second" {
		t.Errorf("the opener's consumer gets %q", got)
	}
	config := wmkafka.DefaultSaramaSubscriberConfig()
	theirs, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{Brokers: c.addrs(), OverwriteSaramaConfig: config}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := run("theirs", config, theirs); got == "second" {
		t.Error("Watermill's consumer goes on")
	}
}

// Partitions have no order between them, and a topic that Kafka makes by itself has as many as the
// broker is set to.
func TestOnePartition(t *testing.T) {
	c := startCluster(t) // with three partitions
	b := c.open(t, "")
	defer b.Close()
	h := brokertest.NewHub(t, b)
	r := brokertest.Read(t, h, "orders")
	for i := range 50 {
		publish(t, h, "orders", strconv.Itoa(i))
	}
	r.Await(t, time.Minute, "49")
	for p := range int32(3) {
		info := c.PartitionInfo("orders", p)
		if info == nil {
			t.Fatalf("partition %d is not there", p)
		}
		if got := info.HighWatermark; (got > 0) != (p == 0) {
			t.Errorf("partition %d has %d messages", p, got)
		}
	}
}

func produce(t testing.TB, client *kgo.Client, topic, data string) {
	t.Helper()
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(data)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, h *hub.Hub, topic, data string) {
	t.Helper()
	if _, err := h.Publish(t.Context(), topic, hub.Message{Data: []byte(data)}); err != nil {
		t.Fatal(err)
	}
}
