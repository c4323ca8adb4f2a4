package watermill

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// The keys of the metadata. Values are printable ASCII, for brokers that carry them in headers.
const (
	keyID      = "headrace_id"
	keyType    = "headrace_type"
	keyFlags   = "headrace_flags"
	keyTime    = "headrace_time"
	keyHeaders = "headrace_headers"
	keyOrigin  = "headrace_origin"
	keySeq     = "headrace_seq"
	keyProbe   = "headrace_probe"

	flagBinary = 'b'
	flagFinal  = 'f'
)

// maxOrigin bounds what a foreign program can make us remember.
const maxOrigin = 64

var errMalformed = errors.New("malformed envelope")

// envelope is a message of ours as it goes over the broker.
type envelope struct {
	hub.Message
	origin string // who counts; "" for nobody
	seq    uint64 // from 1
	probe  string // not "" for a probe
}

// wrap makes the broker's message.
func (e *envelope) wrap() *message.Message {
	m := message.NewMessage(string(e.ID), message.Payload(e.Data))
	m.Metadata.Set(keyID, string(e.ID))
	m.Metadata.Set(keyTime, strconv.FormatInt(e.Time.UnixMilli(), 10))
	if e.Type != "" {
		m.Metadata.Set(keyType, url.PathEscape(e.Type))
	}
	flags := ""
	if e.Binary {
		flags += string(flagBinary)
	}
	if e.Final {
		flags += string(flagFinal)
	}
	if flags != "" {
		m.Metadata.Set(keyFlags, flags)
	}
	if len(e.Headers) > 0 {
		v := make(url.Values, len(e.Headers))
		for k, s := range e.Headers {
			v.Set(k, s)
		}
		m.Metadata.Set(keyHeaders, v.Encode())
	}
	if e.origin != "" {
		m.Metadata.Set(keyOrigin, e.origin)
		m.Metadata.Set(keySeq, strconv.FormatUint(e.seq, 10))
	}
	if e.probe != "" {
		m.Metadata.Set(keyProbe, e.probe)
	}
	return m
}

// enveloped reports whether a message claims to be one of ours.
func enveloped(m *message.Message) bool {
	_, ok := m.Metadata[keyID]
	return ok
}

// unwrap is the inverse of wrap. Origin and sequence number are there even beside an error, if
// they can be read: a message that cannot be shown has not been lost on the way.
func unwrap(m *message.Message) (envelope, error) {
	e := envelope{Message: hub.Message{ID: hub.ID(m.Metadata[keyID]), Data: m.Payload}, probe: m.Metadata[keyProbe]}
	var err error
	if origin, ok := m.Metadata[keyOrigin]; ok {
		seq, bad := strconv.ParseUint(m.Metadata[keySeq], 10, 48) // nobody counts further
		if bad != nil || seq == 0 || origin == "" || len(origin) > maxOrigin {
			err = errMalformed
		} else {
			e.origin, e.seq = strings.Clone(origin), seq
		}
	}
	if !e.ID.Valid() {
		return e, errMalformed
	}
	ms, bad := strconv.ParseInt(m.Metadata[keyTime], 10, 64)
	if bad != nil {
		return e, errMalformed
	}
	e.Time = time.UnixMilli(ms)
	if e.Type, bad = url.PathUnescape(m.Metadata[keyType]); bad != nil {
		return e, errMalformed
	}
	flags := m.Metadata[keyFlags]
	e.Binary = strings.IndexByte(flags, flagBinary) >= 0
	e.Final = strings.IndexByte(flags, flagFinal) >= 0
	if text, ok := m.Metadata[keyHeaders]; ok {
		v, bad := url.ParseQuery(text)
		if bad != nil {
			return e, errMalformed
		}
		e.Headers = make(map[string]string, len(v))
		for k := range v {
			e.Headers[k] = v.Get(k)
		}
	}
	return e, err
}
