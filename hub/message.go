package hub

import (
	"bytes"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// ID names one message within its topic, or the position before its first message. It is given by
// the backend, compared for equality only, and at most 128 bytes of [0-9A-Za-z._~-]. The empty ID
// means "not stated"; no position has it.
type ID string

// MaxID is the greatest length of an ID in bytes.
const MaxID = 128

// Valid reports whether id has the form of an ID. It says nothing about whether any topic knows it.
func (id ID) Valid() bool {
	if len(id) == 0 || len(id) > MaxID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case c == '.', c == '_', c == '~', c == '-':
		default:
			return false
		}
	}
	return true
}

// Message is one entry of a topic.
//
// A received message shares Data and Headers with other readers: they must not be modified.
type Message struct {
	// ID names the message within its topic. The backend gives it; Publish ignores what stands
	// here.
	ID ID
	// Prev is the ID of the message, or position, before this one. Backends set it on live messages
	// (see Traits.Chained); Publish ignores it.
	Prev ID
	// Type is the kind of message, "" for none: up to 255 bytes of UTF-8 without control
	// characters. The types gap, checkpoint, snapshot, stream-error, torn, close, heartbeat, open
	// and error, and those that end in ";base64", are reserved. A message of a foreign writer that
	// has one of them is received as x-<type>.
	Type string
	// Data is the payload. It must be UTF-8 unless Binary is set. Feeds deliver it line by line,
	// so a browser sees CR and CRLF as LF.
	Data []byte
	// Binary declares Data as arbitrary bytes. Feeds deliver it in base64, with ";base64" after
	// the type.
	Binary bool
	// Headers travel with the message from publisher to Go subscribers (a trace context, for
	// example) and are not sent to browsers. Keys and values are UTF-8.
	Headers map[string]string
	// Key is an idempotency key, "" for none, up to 255 bytes of UTF-8 without control characters,
	// not under ReservedPrefix: of several messages published with the same key to a topic at most
	// one is appended within the backend's key window, which may be bounded in number as well as in
	// time. It is not delivered.
	Key string
	// Time is when the backend appended the message, by the backend's clock.
	Time time.Time
	// Gap reports that messages before this one are gone: this one does not directly follow what
	// the reader got before it.
	Gap bool
	// Final marks the message that ended the topic; see Hub.Finish. Publish refuses it.
	Final bool
	// AfterEnd lets Publish append the message to a topic that is finished. It is not delivered.
	AfterEnd bool
	// Erases and Deleted mark entries of the log that are no messages: one that took the message
	// with an ID away, and the one with which a deleted topic begins anew. Backends make them,
	// readers do not get them, and Publish ignores them.
	Erases  ID
	Deleted bool
}

// published returns the message without what Publish ignores.
func (m Message) published() Message {
	m.ID, m.Prev, m.Time, m.Gap, m.Erases, m.Deleted = "", "", time.Time{}, false, "", false
	return m
}

const (
	headerOverhead = 64 // what a header takes beside its texts
	lineOverhead   = 8  // what a line of data takes on the wire beside its text
)

// entryOverhead is what an entry counts for beside its contents: the struct, its slots in the
// log, its share of the index.
const entryOverhead = 384

// size is what the message counts for against the byte bounds: its contents, without overhead.
func (m *Message) size() int {
	n := len(m.Type) + len(m.Data) + len(m.ID) + len(m.Prev)
	if len(m.Headers) == 0 {
		// To range over nothing costs more than all the rest, and this is asked for each
		// delivery.
		return n
	}
	for k, v := range m.Headers {
		n += headerOverhead + len(k) + len(v)
	}
	return n
}

// wireSize is about what the message takes in wire form.
func (m *Message) wireSize() int {
	n := len(m.Type) + len(m.Data) + len(m.ID)
	if m.Binary {
		return n + len(m.Data)/3
	}
	return n + lineOverhead*(bytes.Count(m.Data, []byte{'\n'})+bytes.Count(m.Data, []byte{'\r'}))
}

// Entry is one message in a log shared by all readers of a topic in this process. It also holds
// the encoded form that they share.
type Entry struct {
	// Message must not be modified.
	Message
	wire atomic.Pointer[encoded]
	// hushed entries are not for readers: they are no messages, or were erased.
	hushed bool
	// gap counts the gap before this entry among those of the topic; see followed.gaps. 0 without
	// one.
	gap uint64
}

func newEntry(m Message) *Entry {
	return &Entry{Message: m, hushed: m.Erases != "" || m.Deleted}
}

type encoded struct {
	by    Encoder
	bytes []byte
}

// Encoder turns a message into the bytes of some wire format. Encoders are compared with ==, so
// an Encoder must be comparable.
type Encoder interface {
	// Encode returns the message in wire form. The hub and every reader keep and share the
	// result: it must not be modified afterwards.
	Encode(m *Message) []byte
}

// Encoded returns the message in the wire form of an encoder. The entry has one slot, which
// belongs to the first encoder that asks, so that all its connections share the same bytes; for
// another encoder the form is computed each time. The result must not be modified. It is safe for
// concurrent use.
func (e *Entry) Encoded(by Encoder) []byte {
	w := e.wire.Load()
	if w == nil {
		// Two readers may both come here and encode; one result is kept, and both are right.
		w = &encoded{by: by, bytes: by.Encode(&e.Message)}
		if e.wire.CompareAndSwap(nil, w) {
			return w.bytes
		}
		w = e.wire.Load()
	}
	if w.by == by {
		return w.bytes
	}
	return by.Encode(&e.Message)
}

const maxType = 255

// reservedTypes are the names of control events of feeds, and names that collide with
// EventSource's own events.
var reservedTypes = map[string]bool{
	"gap": true, "checkpoint": true, "snapshot": true, "stream-error": true, "torn": true, "close": true,
	"heartbeat": true, "open": true, "error": true,
}

const finalType = "close"

// binarySuffix marks, on the wire, a type whose data is in base64.
const binarySuffix = ";base64"

func validText(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		// C0, DEL and C1 controls.
		if r < 0x20 || 0x7f <= r && r <= 0x9f {
			return false
		}
	}
	return true
}

// CheckType returns nil when t may be the type of a published message, by the rules of
// Message.Type; "" may. Otherwise the error is ErrType.
func CheckType(t string) error {
	if reservedTypes[t] || strings.HasSuffix(t, binarySuffix) || !validText(t, maxType) {
		return ErrType
	}
	return nil
}

// checkMessage applies the rules of Publish to what a user wants to publish.
func checkMessage(m *Message, maxMessage int) error {
	if err := CheckType(m.Type); err != nil {
		return err
	}
	switch {
	case !validText(m.Key, maxType), strings.HasPrefix(m.Key, ReservedPrefix):
		return ErrKey
	case !m.Binary && !utf8.Valid(m.Data):
		return ErrData
	}
	size := len(m.Type) + len(m.Data)
	for k, v := range m.Headers {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return ErrHeader
		}
		size += len(k) + len(v)
	}
	if size > maxMessage {
		return ErrTooLarge
	}
	return nil
}

// received makes a message of a topic from a backend fit for readers, whoever wrote it. It
// reports false when the message has no usable ID.
func received(topic string, m *Message) bool {
	if !m.ID.Valid() {
		return false
	}
	m.Gap, m.Key = false, ""
	m.Final = m.Final && !internal(topic) // no foreign writer ends those
	switch {
	case m.Final:
		m.Type = finalType
	case reservedTypes[m.Type]:
		m.Type = "x-" + m.Type
	case !validText(m.Type, maxType), strings.HasSuffix(m.Type, binarySuffix):
		m.Type = "x-unknown"
	}
	if !m.Binary && !utf8.Valid(m.Data) {
		m.Binary = true
	}
	return true
}
