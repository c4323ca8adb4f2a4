package watermill

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// UUIDHeader is the header that has the UUID of a message from NewPublisher, under the name that
// Watermill's Pub/Subs use at their brokers.
const UUIDHeader = "_watermill_message_uuid"

// PublisherOptions say what NewPublisher makes of a Watermill message. The zero value is right
// for messages that have UUIDs of their own and payloads that are text, such as JSON. The
// functions are called concurrently and must not keep or modify the message.
type PublisherOptions struct {
	// Topic returns the hub's topic for a topic of Watermill's. Default: the name as it is.
	Topic func(topic string) string
	// Type returns a message's type, "" for none. Default: what the metadata has under "name",
	// where the marshalers of components/cqrs put the name of a command or an event.
	Type func(m *message.Message) string
	// Key returns what makes a message the same as another one published to the topic, so that
	// one of the two is appended; "" for nothing. It counts where the backend honours idempotency
	// keys. Default: the UUID, because a retry has the same message. Programs that use a UUID for
	// several messages must return something else.
	Key func(m *message.Message) string
	// Binary declares every payload as arbitrary bytes, which feeds deliver in base64. It is for
	// encodings such as protobuf, where one message happens to be UTF-8 and the next one is not.
	// Default: only payloads that are not UTF-8.
	Binary bool
}

// PublishError is the error of a publisher from NewPublisher. With errors.Is it is
// hub.ErrRejected, the message was certainly not appended, or hub.ErrUnknown, perhaps it was; and
// the rule that the message breaks or the error of its context, if that is the cause.
type PublishError struct {
	// Topic is the topic that Publish was called with.
	Topic string
	// Index is the place of the failed message in the call. Those before it are appended, those
	// after it were not tried.
	Index int
	// UUID is that of the failed message.
	UUID string
	// Err is the cause, a *hub.Error unless the publisher was closed or has no message or hub.
	Err error
}

// Error implements error. The text has nothing of the message but its UUID.
func (e *PublishError) Error() string {
	// The UUID is the sender's text: it may be long, and anything.
	return fmt.Sprintf("watermill: message %d (uuid %.64q) for %q: %v", e.Index+1, e.UUID, e.Topic, e.Err)
}

// Unwrap returns the cause.
func (e *PublishError) Unwrap() error { return e.Err }

type publisher struct {
	hub    *hub.Hub
	keys   bool
	opts   PublisherOptions
	closed atomic.Bool
}

// NewPublisher returns a Watermill publisher into a hub, so that routers, the buses of
// components/cqrs and the outbox of components/forwarder publish into topics. It holds nothing
// and costs nothing: a router closes the publisher of a handler that ends, so handlers that end
// apart need one each.
//
// The payload becomes the data, the metadata the headers, and the UUID the header UUIDHeader and,
// where the backend honours them, the idempotency key: a message that is published again, by a
// retry after an unknown outcome for example, is appended once within the backend's key window. A
// handler that runs again makes new messages: give them UUIDs that follow from the one it
// handles. A key that cannot be an idempotency key as it is stands for one by its hash; a UUID
// that is not UTF-8 has no header.
//
// Publish appends the messages of a call one after the other, each under its own Context, and
// blocks as long as the backend does. The first failure ends the call with a *PublishError;
// trying again is for a middleware to do. The rules for topics, types, headers and sizes are
// those of Hub.Publish: a message that breaks one is never appended, however often it is tried.
// Probes of this package's backend, in a topic that a router forwards, are left out. Publish does
// not modify messages and keeps nothing of them. It may be called concurrently; messages of
// different calls are in no order.
//
// Close makes later calls of Publish fail with hub.ErrClosed and leaves those that have begun to
// their end. It does not wait, returns nil, may be called again, and does not touch the hub.
func NewPublisher(h *hub.Hub, o PublisherOptions) message.Publisher {
	if o.Topic == nil {
		o.Topic = func(topic string) string { return topic }
	}
	if o.Type == nil {
		o.Type = func(m *message.Message) string { return m.Metadata.Get("name") }
	}
	if o.Key == nil {
		o.Key = func(m *message.Message) string { return m.UUID }
	}
	return &publisher{hub: h, keys: h != nil && h.Traits().Keys != hub.KeysNone, opts: o}
}

// Publish implements message.Publisher.
func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	// Once for the call: Close must not leave half of it behind.
	closed := p.closed.Load()
	for i, m := range messages {
		if m != nil && m.Metadata[keyProbe] != "" {
			continue
		}
		var err error
		switch {
		case m == nil:
			err = fmt.Errorf("%w: there is no message", hub.ErrRejected)
		case closed:
			err = fmt.Errorf("%w: publisher: %w", hub.ErrRejected, hub.ErrClosed)
		case p.hub == nil:
			err = fmt.Errorf("%w: publisher without a hub", hub.ErrRejected)
		default:
			_, err = p.hub.Publish(m.Context(), p.opts.Topic(topic), p.translate(m))
		}
		if err != nil {
			failed := &PublishError{Topic: topic, Index: i, Err: err}
			if m != nil {
				failed.UUID = m.UUID
			}
			return failed
		}
	}
	return nil
}

// Close implements message.Publisher.
func (p *publisher) Close() error {
	p.closed.Store(true)
	return nil
}

// translate returns the message as the hub takes it.
func (p *publisher) translate(m *message.Message) hub.Message {
	got := hub.Message{
		Type:    p.opts.Type(m),
		Data:    m.Payload,
		Binary:  p.opts.Binary || !utf8.Valid(m.Payload),
		Headers: make(map[string]string, len(m.Metadata)+1),
	}
	maps.Copy(got.Headers, m.Metadata)
	if m.UUID != "" && utf8.ValidString(m.UUID) {
		got.Headers[UUIDHeader] = m.UUID
	}
	if p.keys {
		got.Key = idempotencyKey(p.opts.Key(m))
	}
	return got
}

// maxPlainKey is the greatest length of a key that is used as it is.
const maxPlainKey = 255

// idempotencyKey returns s if it can surely be an idempotency key, or is "", and otherwise its
// hash: no text that a sender took for a UUID keeps a message from being published.
func idempotencyKey(s string) string {
	plain := len(s) <= maxPlainKey && !strings.HasPrefix(s, hub.ReservedPrefix)
	for i := 0; plain && i < len(s); i++ {
		plain = ' ' <= s[i] && s[i] <= '~'
	}
	if plain {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + hex.EncodeToString(sum[:])
}
