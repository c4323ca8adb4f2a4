package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

// subscriber makes a Watermill Subscriber for each subscription, with a queue that nobody else has.
type subscriber struct {
	*link
	config amqp.Config
	queue  string // of all subscriptions, in tests. Default: each has its own

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // counts subscriptions
}

var errClosed = errors.New("amqp: closed")

// Subscribe implements message.Subscriber. The channel is closed when ctx ends and when the
// connection is lost.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if !s.enter() {
		return nil, errClosed
	}
	config, name := s.config, s.queue
	if name == "" {
		name = "headrace." + upstream.NewUUID()
	}
	ctx, end := context.WithCancel(ctx)
	config.Queue.GenerateName = amqp.GenerateQueueNameConstant(name)
	config.TopologyBuilder = &once{gone: end}
	live := s.present()
	inner, err := amqp.NewSubscriberWithConnection(config, upstream.NopLogger{}, s.conn)
	if err != nil {
		end()
		s.wg.Done()
		return nil, err
	}
	messages, err := inner.Subscribe(ctx, topic)
	if err != nil {
		end()
		s.wg.Done()
		return nil, err
	}
	forget := context.AfterFunc(live, end)
	context.AfterFunc(ctx, func() {
		defer s.wg.Done()
		forget()
		_ = inner.Close() // it would look for the queue once more, see once
	})
	return messages, nil
}

// enter counts a subscription, unless the subscriber is closed.
func (s *subscriber) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Add(1)
	}
	return !s.closed
}

// Close implements message.Subscriber. Subscriptions end before their connection does:
// watermill-amqp reads and writes its state without a lock.
func (s *subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.wg.Wait()
	return s.close()
}

// once builds a subscription's queue for the first time only. Watermill builds it anew after each
// loss of the connection, as if nothing had been lost with it, and even for a subscription that has
// ended: then nobody takes what comes into it.
type once struct {
	amqp.DefaultTopologyBuilder
	built bool // Watermill calls it from one goroutine at a time
	gone  context.CancelFunc
}

var errBuilt = errors.New("amqp: the queue is gone, and the subscription with it")

func (o *once) BuildTopology(channel *amqp091.Channel, p amqp.BuildTopologyParams, c amqp.Config, l upstream.LoggerAdapter) error {
	if o.built {
		o.gone()
		return errBuilt
	}
	o.built = true
	return o.DefaultTopologyBuilder.BuildTopology(channel, p, c, l)
}

// marshaler reads whatever comes. Watermill puts back a message that cannot be read, and gets it
// again at once, for ever.
type marshaler struct{ amqp.DefaultMarshaler }

var errNoDelivery = errors.New("amqp: the queue is gone")

// Unmarshal implements amqp.Marshaler. It has an error only for what is no message: Watermill reads
// such from the channel that the client closes when the broker has ended the subscription.
func (m marshaler) Unmarshal(d amqp091.Delivery) (*message.Message, error) {
	if d.Acknowledger == nil {
		return nil, errNoDelivery
	}
	uuid, _ := d.Headers[amqp.DefaultMessageUUIDHeaderKey].(string)
	if uuid == "" {
		uuid = d.MessageId
	}
	got := message.NewMessage(uuid, d.Body)
	for key, value := range d.Headers {
		if key == amqp.DefaultMessageUUIDHeaderKey {
			continue
		}
		switch v := value.(type) {
		case string:
			got.Metadata[key] = v
		case bool, byte, int8, int16, uint16, int32, uint32, int64, int, float32, float64:
			got.Metadata[key] = fmt.Sprint(v)
		}
	}
	return got, nil
}
