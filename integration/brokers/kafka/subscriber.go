package kafka

import (
	"context"

	"github.com/IBM/sarama"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// subscriber opens one of Watermill's subscribers for each topic, since each must be watched. When
// the consumer of a partition ends, as it does when its place in the log was removed, Watermill
// says nothing: it goes on with the other partitions, or, without any, begins anew at the newest
// message.
type subscriber struct{ config wmkafka.SubscriberConfig }

// Subscribe implements message.Subscriber: from now on, every message of every partition. The
// channel is closed when one partition is not consumed any more, so that the backend opens another
// subscription and says what may be missing.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	config := s.config
	config.Tracer = watch{cancel}
	inner, err := wmkafka.NewSubscriber(config, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	in, err := inner.Subscribe(ctx, topic)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		defer cancel()
		for m := range in {
			select {
			case out <- m:
			case <-ctx.Done():
				m.Ack()
			}
		}
	}()
	return out, nil
}

// Close implements message.Subscriber. Subscriptions end with their contexts.
func (s *subscriber) Close() error { return nil }

// watch calls end when a partition is not consumed any more. It is a wmkafka.SaramaTracer, the only
// one whom Watermill shows its consumers.
type watch struct{ end func() }

// WrapPartitionConsumer implements wmkafka.SaramaTracer.
func (w watch) WrapPartitionConsumer(c sarama.PartitionConsumer) sarama.PartitionConsumer {
	return watched{c, w.end}
}

// WrapConsumer implements wmkafka.SaramaTracer.
func (w watch) WrapConsumer(c sarama.Consumer) sarama.Consumer { return c }

// WrapConsumerGroupHandler implements wmkafka.SaramaTracer.
func (w watch) WrapConsumerGroupHandler(h sarama.ConsumerGroupHandler) sarama.ConsumerGroupHandler {
	return h
}

// WrapSyncProducer implements wmkafka.SaramaTracer.
func (w watch) WrapSyncProducer(_ *sarama.Config, p sarama.SyncProducer) sarama.SyncProducer {
	return p
}

type watched struct {
	sarama.PartitionConsumer
	end func()
}

// Close is called by Watermill when it has done with the consumer, for whatever reason.
func (w watched) Close() error {
	w.end()
	return w.PartitionConsumer.Close()
}
