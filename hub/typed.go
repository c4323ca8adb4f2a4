package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"unicode/utf8"
)

// Typed is implemented by values that say of which message type they are. Values of other types
// are published without one.
type Typed interface {
	// MessageType returns the message's type, by the rules of Message.Type.
	MessageType() string
}

// Topic is a typed view of one topic: its messages are values of T. A string or []byte goes as it
// is (bytes that are not UTF-8 as Binary), anything else as JSON. A Topic holds nothing; it may
// be copied, and is safe for concurrent use.
type Topic[T any] struct {
	hub  *Hub
	name string
}

// NewTopic returns a typed view of the topic with this name; JoinTopic makes names of values. The
// name is checked by Publish and Subscribe.
func NewTopic[T any](h *Hub, name string) Topic[T] { return Topic[T]{hub: h, name: name} }

// Name returns the topic's name.
func (t Topic[T]) Name() string { return t.name }

// Publish appends v and returns its ID. Errors are those of Message and of Hub.Publish.
func (t Topic[T]) Publish(ctx context.Context, v T) (ID, error) {
	m, err := t.Message(v)
	if err != nil {
		return "", err
	}
	return t.hub.Publish(ctx, t.name, m)
}

// Message returns the message that Publish appends, for Hub.Publish when there is more to say,
// such as a Key or Headers. Its type is v's MessageType, if v is Typed. A value that cannot be
// encoded is ErrRejected together with the error of encoding/json.
func (t Topic[T]) Message(v T) (Message, error) {
	m := Message{}
	typed, ok := any(v).(Typed)
	if !ok {
		typed, ok = any(&v).(Typed)
	}
	if ok {
		m.Type = typed.MessageType()
	}
	var err error
	if m.Data, err = encodeValue(v); err != nil {
		return Message{}, &Error{Op: "publish", Topic: t.name, Err: reject(err)}
	}
	_, bytes := any(v).([]byte)
	m.Binary = bytes && !utf8.Valid(m.Data)
	return m, nil
}

// Subscribe opens a subscription; see Hub.Subscribe.
func (t Topic[T]) Subscribe(ctx context.Context, opts ...SubscribeOption) (*TopicSubscription[T], error) {
	s, err := t.hub.Subscribe(ctx, t.name, opts...)
	if err != nil {
		return nil, err
	}
	return &TopicSubscription[T]{s: s}, nil
}

// Event is a message of a typed topic.
type Event[T any] struct {
	Message
	// Value is the decoded data.
	Value T
	// Err is why the data could not be decoded, nil if it was. Such a message, of a foreign
	// writer perhaps, does not end the subscription.
	Err error
}

// TopicSubscription is one reader of a typed topic. See Subscription.
type TopicSubscription[T any] struct{ s *Subscription }

// All returns the events from the subscription's position on; see Subscription.All. The message
// that ends the topic has no value, and is not among them.
func (t *TopicSubscription[T]) All() iter.Seq2[Event[T], error] {
	return func(yield func(Event[T], error) bool) {
		for m, err := range t.s.All() {
			if err != nil {
				yield(Event[T]{}, err)
				return
			}
			if m.Final {
				return
			}
			e := Event[T]{Message: m}
			if err := decodeValue(m.Data, &e.Value); err != nil {
				e.Err = fmt.Errorf("hub: message %s of %q: %w", m.ID, t.s.Topic(), err)
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Start returns the ID of the position where the subscription started; see Subscription.Start.
func (t *TopicSubscription[T]) Start() ID { return t.s.Start() }

// Close ends the subscription; see Subscription.Close.
func (t *TopicSubscription[T]) Close() { t.s.Close() }

func encodeValue(v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return v, nil
	}
	return json.Marshal(v)
}

func decodeValue(data []byte, v any) error {
	switch v := v.(type) {
	case *string:
		*v = string(data)
		return nil
	case *[]byte:
		*v = data
		return nil
	}
	return json.Unmarshal(data, v)
}
