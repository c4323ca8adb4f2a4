// Package amqp opens the backend over RabbitMQ, by importing it for its side effect:
//
//	amqp://user:password@host:5672/vhost     amqps:// with TLS
//
// The parameters are
//
//	exchange=headrace      the exchange that all topics go through; it is declared when it is not there: direct and durable
//	prefetch=64            how many messages the broker sends ahead of their acknowledgement
//	probe_every=30s        Options.ProbeEvery
//	probes=false           Options.NoProbes
//	type=name              the metadata with the type of messages of other programs, see DecodeForeign
//
// Each subscription of each instance has a queue of its own, bound to the exchange with the topic
// as routing key. It is exclusive: it ends with its connection, and nothing ever piles up in it for
// an instance that is gone. So a lost connection loses messages; the subscription ends with it, and
// readers are told of a gap.
//
// It is meant to be copied. The connection, the queue's name and TLS are all that a program may
// want different.
package amqp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

func init() {
	backends.Register("amqp", Open)
	backends.Register("amqps", Open)
}

// Open is the backends.Opener of this package's schemes. It fails when the broker cannot be reached
// before ctx ends. Later the backend connects again by itself.
func Open(ctx context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	exchange := q.String("exchange", "headrace")
	prefetch := q.Int("prefetch", 64, 1)
	o := watermill.Options{
		Name:               "amqp",
		OrderedByPublisher: true,
		Decode:             watermill.DecodeForeign(q.String("type", "")),
		NoProbes:           !q.Bool("probes", true),
		ProbeEvery:         q.Duration("probe_every", 0, time.Second),
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	if exchange == "" || len(exchange) > 255 || strings.HasPrefix(exchange, "amq.") {
		return nil, fmt.Errorf("%w: exchange must be a name of 1 to 255 bytes, and those that begin with amq. are the broker's", backends.ErrParameter)
	}
	if u.Host == "" {
		return nil, fmt.Errorf("%w: it must name a host", backends.ErrURL)
	}
	target := *u
	target.RawQuery, target.ForceQuery = "", false
	return open(ctx, target.String(), exchange, prefetch, o)
}

// open connects twice, because the broker holds back all of a connection whose publishers are too
// fast, and so its acknowledgements.
func open(ctx context.Context, uri, exchange string, prefetch int, o watermill.Options) (hub.Backend, error) {
	publishing, subscribing := newLink(uri), newLink(uri)
	if err := publishing.connect(ctx); err != nil {
		return nil, err
	}
	if err := subscribing.connect(ctx); err != nil {
		return nil, errors.Join(err, publishing.close())
	}
	config := newConfig(exchange, prefetch)
	publisher, err := amqp.NewPublisherWithConnection(config, upstream.NopLogger{}, publishing.conn)
	if err != nil {
		return nil, errors.Join(err, publishing.close(), subscribing.close())
	}
	sub := &subscriber{link: subscribing, config: config}
	o.OnClose = func() error { return errors.Join(publishing.close(), sub.Close()) }
	return watermill.New(publisher, sub, o)
}

func newConfig(exchange string, prefetch int) amqp.Config {
	itself := func(topic string) string { return topic }
	return amqp.Config{
		Marshaler: marshaler{amqp.DefaultMarshaler{NotPersistentDeliveryMode: true}},
		// Durable, because a publisher declares it once only: after a restart it must be there
		// still.
		Exchange:  amqp.ExchangeConfig{GenerateName: amqp.GenerateExchangeNameConstant(exchange), Type: "direct", Durable: true},
		Queue:     amqp.QueueConfig{Exclusive: true, AutoDelete: true},
		QueueBind: amqp.QueueBindConfig{GenerateRoutingKey: itself},
		Publish:   amqp.PublishConfig{GenerateRoutingKey: itself, ConfirmDelivery: true},
		Consume:   amqp.ConsumeConfig{Qos: amqp.QosConfig{PrefetchCount: prefetch}},
		// A publisher uses it to declare the exchange.
		TopologyBuilder: &amqp.DefaultTopologyBuilder{},
	}
}
