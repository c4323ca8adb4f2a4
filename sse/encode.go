package sse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// Heartbeat is a comment line without text. It keeps a connection alive and no
// reader makes an event of it, because it brings no blank line either.
const Heartbeat = ":\n"

// keepBytes is the largest buffer kept between events: one large event must not
// cost its size for the rest of a connection's life.
const keepBytes = 64 << 10

// AppendEvent appends the wire form of e to dst and returns the extended slice.
// On error it returns dst unchanged and an error that matches [ErrInvalid] or,
// for data that cannot be encoded, the error of encoding/json.
//
// An event that has nothing but a Retry is one retry line without a blank line:
// readers act on that line at once, and some make an event of a block without
// data.
func AppendEvent(dst []byte, e Event) ([]byte, error) {
	if e.Retry < 0 {
		return dst, errRetry
	}
	if !validField(e.ID) {
		return dst, errID
	}
	if !validField(e.Type) {
		return dst, errType
	}
	out := dst
	if e.Retry > 0 {
		out = AppendRetry(out, e.Retry)
	}
	switch data := e.Data.(type) {
	case nil:
		switch {
		case e.Type != "":
			return appendFrame(out, e.ID, e.Type, nil), nil
		case e.ID != "":
			return append(appendField(out, "id: ", e.ID), '\n'), nil
		case e.Retry > 0:
			return out, nil
		default:
			return dst, errEmpty
		}
	case string:
		return appendFrame(out, e.ID, e.Type, []byte(data)), nil
	case []byte:
		return appendFrame(out, e.ID, e.Type, data), nil
	default:
		text, err := json.Marshal(data)
		if err != nil {
			return dst, fmt.Errorf("sse: encode data: %w", err)
		}
		return appendFrame(out, e.ID, e.Type, text), nil
	}
}

// AppendFrame appends an event with the given ID, type and data to dst and
// returns the extended slice. It is [AppendEvent] for data that is bytes
// already: an empty id or typ writes no such line, empty or nil data writes one
// empty data line. It allocates only to grow dst, and keeps no reference to
// data. On error, which matches [ErrInvalid], it returns dst unchanged.
func AppendFrame(dst []byte, id, typ string, data []byte) ([]byte, error) {
	if !validField(id) {
		return dst, errID
	}
	if !validField(typ) {
		return dst, errType
	}
	return appendFrame(dst, id, typ, data), nil
}

// AppendComment appends text as comment lines, which readers ignore, and
// returns the extended slice. Text is split on LF, CRLF and CR into one comment
// line each; empty text is one [Heartbeat]. No blank line follows.
func AppendComment(dst []byte, text string) []byte {
	for {
		n, width := lineEnd([]byte(text))
		if n == 0 {
			dst = append(dst, Heartbeat...)
		} else {
			dst = appendField(dst, ": ", text[:n])
		}
		if width == 0 {
			return dst
		}
		text = text[n+width:]
	}
}

// AppendRetry appends a retry line without a blank line, which asks the reader
// to wait d before it reconnects, and returns the extended slice. A fraction of
// a millisecond counts as a whole one, a negative d as zero.
func AppendRetry(dst []byte, d time.Duration) []byte {
	ms := int64(max(d, 0) / time.Millisecond)
	if d > 0 && d%time.Millisecond != 0 {
		ms++
	}
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, '\n')
}

func validField(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == '\r' || c == '\n' || c == 0 {
			return false
		}
	}
	return true
}

func appendFrame(dst []byte, id, typ string, data []byte) []byte {
	// What a frame with its data on one line takes: one allocation where dst is short, not one
	// for each line.
	dst = slices.Grow(dst, len("event: \ndata: \nid: \n\n")+len(typ)+len(data)+len(id))
	if typ != "" {
		dst = appendField(dst, "event: ", typ)
	}
	dst = appendData(dst, data)
	if id != "" {
		dst = appendField(dst, "id: ", id)
	}
	return append(dst, '\n')
}

func appendData(dst, data []byte) []byte {
	const prefix = "data: "
	for {
		n, width := lineEnd(data)
		dst = append(dst, prefix...)
		dst = append(dst, data[:n]...)
		dst = append(dst, '\n')
		if width == 0 {
			return dst
		}
		data = data[n+width:]
	}
}

func appendField(dst []byte, prefix, value string) []byte {
	dst = append(dst, prefix...)
	dst = append(dst, value...)
	return append(dst, '\n')
}

// lineEnd returns the length of the first line of b and the length of the line
// end after it: 2 for CRLF, 1 for LF or CR, 0 when b ends first. Its cost is
// proportional to that line and not to b, so that splitting stays linear for
// data made of CRs alone.
func lineEnd(b []byte) (n, width int) {
	const step = 512
	for n < len(b) {
		part := b[n:min(n+step, len(b))]
		if i := bytes.IndexByte(part, '\n'); i >= 0 {
			part = part[:i]
		}
		if i := bytes.IndexByte(part, '\r'); i >= 0 {
			n += i
			if n+1 < len(b) && b[n+1] == '\n' {
				return n, 2
			}
			return n, 1
		}
		n += len(part)
		if n < len(b) && b[n] == '\n' {
			return n, 1
		}
	}
	return n, 0
}

// An Encoder writes events to an [io.Writer]. It is not for concurrent use.
type Encoder struct {
	w   io.Writer
	buf []byte
}

// NewEncoder returns an encoder that writes to w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Encode writes e with exactly one Write, so that concurrent readers of the
// underlying writer never see half an event. An event that [AppendEvent]
// refuses writes nothing.
func (e *Encoder) Encode(event Event) error {
	buf, err := AppendEvent(e.buf[:0], event)
	if err != nil {
		return err
	}
	if cap(buf) <= keepBytes {
		e.buf = buf
	}
	n, err := e.w.Write(buf)
	if err == nil && n < len(buf) {
		err = io.ErrShortWrite
	}
	return err
}
