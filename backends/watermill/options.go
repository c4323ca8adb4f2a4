package watermill

import (
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// Options say what a Pub/Sub gives and how topics are named there. The zero value is right for a
// Pub/Sub about which nothing is known but that every subscription gets every message.
type Options struct {
	// Name is the broker's name in logs and statistics. Default "watermill".
	Name string
	// Ordered declares that every subscription gets the messages of a topic in the same order,
	// and those of one publisher in the order of publishing.
	Ordered bool
	// OrderedByPublisher declares the second half of that alone. Losses are noticed by it, and
	// what comes out of order is not shown. Ordered includes it.
	OrderedByPublisher bool
	// Persistent declares that the broker keeps messages when it restarts.
	Persistent bool
	// Local declares that the Pub/Sub ends at this process, as gochannel does.
	Local bool
	// Topic returns the name of a topic at the broker, or an error if it cannot have one.
	// Different topics must have different names. It is called concurrently. Default: the name as
	// it is.
	Topic func(topic string) (string, error)
	// Decode makes a message of one that another program published. It is called concurrently and
	// must not keep or modify the message; ID, Type, Data, Binary, Final, Headers and Time of the
	// result count, and the ID must be valid and lasting. A message with an error is skipped and
	// counted. Default DecodeForeign("").
	Decode func(m *message.Message) (hub.Message, error)
	// NoProbes is for topics that must not be written to. There is no proof then that a
	// subscription delivers when Follow returns, nor that it does later, and instances that share
	// a consumer group are not found out.
	NoProbes bool
	// ProbeEvery is how often it is proven that a subscription still delivers. Default 30 s.
	ProbeEvery time.Duration
	// OnClose is called once, at the end of Close, for whoever wants the Publisher and the
	// Subscriber closed with the backend. Default none.
	OnClose func() error
	// Logger gets what an operator should know. Default slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "watermill"
	}
	o.OrderedByPublisher = o.OrderedByPublisher || o.Ordered
	if o.Topic == nil {
		o.Topic = func(topic string) (string, error) { return topic, nil }
	}
	if o.Decode == nil {
		o.Decode = DecodeForeign("")
	}
	if o.ProbeEvery <= 0 {
		o.ProbeEvery = 30 * time.Second
	}
	if o.OnClose == nil {
		o.OnClose = func() error { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// DecodeForeign returns an Options.Decode: the ID is the UUID, the data the payload, binary
// unless it is UTF-8, and the type what the metadata has under a key, nothing if that is "". A
// message whose UUID cannot be an ID, or whose type cannot be one, is an error.
func DecodeForeign(typeKey string) func(*message.Message) (hub.Message, error) {
	return func(m *message.Message) (hub.Message, error) {
		got := hub.Message{ID: hub.ID(m.UUID), Data: m.Payload, Binary: !utf8.Valid(m.Payload)}
		if typeKey != "" {
			got.Type = m.Metadata.Get(typeKey)
		}
		return got, nil
	}
}
