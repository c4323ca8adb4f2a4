package sse

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
)

// An Item is what a feed says: a [Message], a [Snapshot], a [Gap] or a [Close].
type Item interface{ item() }

// A Message is a message of a topic, with its data as a value.
type Message[T any] struct {
	// ID is the cursor at this message.
	ID string
	// Type is "" for a message that has none. The ending ";base64" of binary data is cut off.
	Type string
	// Data is as Follow says.
	Data T
}

// A Snapshot is the state that the messages behind it change. It replaces what the program has made
// of everything before it.
type Snapshot[T any] struct {
	ID    string // the cursor that the state belongs to
	State T
}

// A Gap says that messages before the next one are gone. A feed that has snapshots sends one behind
// it; of any other the program has to load the state anew.
type Gap struct {
	ID string // the cursor at the gap
}

// A Close says that the feed has ended for good. Nothing follows it.
type Close struct {
	ID string // the cursor at the end
}

func (Message[T]) item()  {}
func (Snapshot[T]) item() {}
func (Gap) item()         {}
func (Close) item()       {}

// Follow is [Stream.All] for a feed of package feed, in Go's types:
//
//	for item, err := range sse.Follow[Order, []Order](client.Stream(ctx)) {
//		switch item := item.(type) {
//		case sse.Message[Order]:
//		case sse.Snapshot[[]Order]:
//		case sse.Gap:
//		case sse.Close:
//		}
//	}
//
// M is what the messages' data is, and S the state of snapshots; a feed without them never asks for
// S. A string or []byte gets data as it is, without its base64 where the message is binary. Any
// other type is read as JSON.
//
// Checkpoints, and other events by which a feed does its own business, are not items: the stream
// takes over their cursors. An event of a Hello is a message.
//
// The sequence ends as that of All does, behind Close too. It also ends, with a [*PayloadError],
// yielded once with a nil item, at data that does not fit: ranging over the stream again goes on
// behind it.
func Follow[M, S any](s *Stream) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for event, err := range s.All() {
			if err != nil {
				yield(nil, err)
				return
			}
			item, err := itemOf[M, S](event)
			if err != nil {
				yield(nil, &PayloadError{ID: event.ID, Type: event.Type, Err: err})
				return
			}
			if item == nil {
				continue
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

// A PayloadError means that the data of an event is not what [Follow] was told.
type PayloadError struct {
	ID, Type string // of the event
	Err      error  // of package json or base64
}

// Error names the event and the kind of Err, whose text can repeat the data.
func (e *PayloadError) Error() string {
	return fmt.Sprintf("sse: the data of event %q, type %q, does not fit: %T", e.ID, e.Type, e.Err)
}

// Unwrap returns Err.
func (e *PayloadError) Unwrap() error { return e.Err }

// itemOf returns nil for an event that is no item.
func itemOf[M, S any](e Event) (item Item, err error) {
	text := e.Text()
	switch e.Type {
	case "checkpoint", "heartbeat", "stream-error", "open", "error":
		return nil, nil
	case "gap":
		return Gap{ID: e.ID}, nil
	case "close":
		return Close{ID: e.ID}, nil
	case "snapshot":
		state, err := payload[S]([]byte(text))
		return Snapshot[S]{ID: e.ID, State: state}, err
	}
	data := []byte(text)
	typ, binary := strings.CutSuffix(e.Type, ";base64")
	if binary {
		if data, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, err
		}
		if typ == "message" {
			typ = "" // what a feed calls a binary message without a type
		}
	}
	value, err := payload[M](data)
	return Message[M]{ID: e.ID, Type: typ, Data: value}, err
}

// payload reads data as a value.
func payload[T any](data []byte) (value T, err error) {
	switch into := any(&value).(type) {
	case *string:
		*into = string(data)
	case *[]byte:
		*into = data
	default:
		err = json.Unmarshal(data, &value)
	}
	return value, err
}
