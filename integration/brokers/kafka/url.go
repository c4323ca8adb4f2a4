// Package kafka opens kafka:// URLs: topics over Kafka through Watermill. Importing it registers
// the scheme. It is made to be copied: the three files have no other use for this module than
// backends/watermill.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/IBM/sarama"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

func init() { backends.Register("kafka", Open) }

// Open is the backends.Opener of kafka://user:password@host:9092,host:9092. User and password are
// those of SASL PLAIN. Parameters:
//
//	prefix=live.       what the names of topics begin with at the broker; see TopicName
//	tls=true           connect with TLS, by the authorities that the system trusts
//	type=name          the metadata key with the type of messages of other programs; default none
//	probes=false       write nothing to the topics: see watermill.Options.NoProbes
//	probe_every=30s    see watermill.Options.ProbeEvery
//
// There is no parameter for a consumer group: each instance reads everything. Topics are made by
// the broker when they are first used, or beforehand where the broker does not do that. Everything
// is written to partition 0, because Kafka knows no order between partitions.
//
// Open connects. The backend owns its connections, and Close closes them.
func Open(_ context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	prefix := q.String("prefix", "")
	encrypted := q.Bool("tls", false)
	o := watermill.Options{
		Name: "kafka", Ordered: true, Persistent: true,
		Topic:      func(topic string) (string, error) { return TopicName(prefix, topic) },
		Decode:     watermill.DecodeForeign(q.String("type", "")),
		NoProbes:   !q.Bool("probes", true),
		ProbeEvery: q.Duration("probe_every", 0, time.Second),
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	if !validPrefix(prefix) {
		return nil, fmt.Errorf("%w: prefix must be of letters, digits, dots, - and _, without two - in a row and without one at the end", backends.ErrParameter)
	}
	brokers, err := brokers(u)
	if err != nil {
		return nil, err
	}
	config := func() *sarama.Config {
		c := sarama.NewConfig()
		c.ClientID = "headrace"
		c.Net.DialTimeout = 5 * time.Second
		c.Net.TLS.Enable = encrypted
		if u.User != nil {
			c.Net.SASL.Enable = true
			c.Net.SASL.User = u.User.Username()
			c.Net.SASL.Password, _ = u.User.Password()
		}
		return c
	}

	publisher, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{
		Brokers: brokers, Marshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: producing(config()),
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("kafka: connect: %w", err)
	}

	o.OnClose = publisher.Close
	b, err := watermill.New(publisher, &subscriber{wmkafka.SubscriberConfig{
		Brokers: brokers, Unmarshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: consuming(config()),
	}}, o)
	if err != nil {
		return nil, errors.Join(err, publisher.Close())
	}
	return b, nil
}

func producing(c *sarama.Config) *sarama.Config {
	c.Producer.Return.Successes = true // Watermill waits for them
	c.Producer.RequiredAcks = sarama.WaitForAll
	// The partition of a key depends on how many there are, and on the client. The one that
	// Watermill states is 0.
	c.Producer.Partitioner = sarama.NewManualPartitioner
	return c
}

func consuming(c *sarama.Config) *sarama.Config {
	c.Consumer.Offsets.Initial = sarama.OffsetNewest
	// Watermill's own configuration has this set, and it never takes the errors: when some hundred
	// have piled up, the consumer stands still.
	c.Consumer.Return.Errors = false
	return c
}

// brokers returns the URL's hosts as the client wants them.
func brokers(u *url.URL) ([]string, error) {
	if strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%w: kafka has no use for a path", backends.ErrURL)
	}
	var list []string
	for host := range strings.SplitSeq(u.Host, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "9092")
		}
		if strings.HasPrefix(host, ":") {
			return nil, fmt.Errorf("%w: a host is empty", backends.ErrURL)
		}
		list = append(list, host)
	}
	return list, nil
}
