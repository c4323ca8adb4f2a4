package sse

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrInvalid is matched by every error about an [Event] that has no wire form:
// a CR, LF or NUL in its ID or type, a negative Retry, or nothing in it at all.
var ErrInvalid = errors.New("sse: invalid event")

var (
	errID    = fmt.Errorf("%w: the id contains CR, LF or NUL", ErrInvalid)
	errType  = fmt.Errorf("%w: the type contains CR, LF or NUL", ErrInvalid)
	errRetry = fmt.Errorf("%w: the retry time is negative", ErrInvalid)
	errEmpty = fmt.Errorf("%w: it is empty", ErrInvalid)
)

// An Event is one event of a stream. It is a plain value: copies are
// independent except for what Data refers to.
type Event struct {
	// ID becomes the reader's last event ID. An empty ID writes no id line, so
	// the reader keeps the one it has. CR, LF and NUL are refused.
	//
	// On an event that was decoded it is the last event ID at that event, stated
	// by the event itself or by an earlier one.
	ID string

	// Type is what a browser calls the name of the event. An empty Type writes no
	// event line: browsers take such an event for a "message". CR, LF and NUL are
	// refused.
	Type string

	// Data is the payload. A string and a []byte are sent as they are; any other
	// value is sent as JSON.
	//
	// Nil writes no data line when Type is empty too: readers then take over ID
	// and Retry without receiving an event. With a Type, nil is the same as "",
	// because readers drop an event that has no data line.
	//
	// On an event that was decoded it is a string.
	Data any

	// Retry asks the reader to wait this long before it reconnects. Zero writes
	// no retry line, a fraction of a millisecond counts as a whole one, negative
	// times are refused.
	Retry time.Duration
}

// Text returns the data as it is sent: a string or []byte as it is, nil as "",
// anything else as JSON. It is "" for a value that cannot be encoded as JSON;
// [AppendEvent] reports why.
func (e Event) Text() string {
	switch data := e.Data.(type) {
	case nil:
		return ""
	case string:
		return data
	case []byte:
		return string(data)
	default:
		text, err := json.Marshal(data)
		if err != nil {
			return ""
		}
		return string(text)
	}
}

// Decode stores the data, read as JSON, in the value v points to. Errors are
// those of [json.Unmarshal], and match [errors.As] with its types.
func (e Event) Decode(v any) error {
	var text []byte
	if data, ok := e.Data.([]byte); ok {
		text = data
	} else {
		text = []byte(e.Text())
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("sse: decode data: %w", err)
	}
	return nil
}
