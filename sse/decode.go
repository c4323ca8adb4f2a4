package sse

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"math"
	"strings"
	"time"
)

// DefaultMaxEventSize is the size above which a [Decoder] gives up on an event
// when it was not told otherwise.
const DefaultMaxEventSize = 8 << 20

// ErrTooLong means that an event is larger than the decoder's limit. It is the
// last thing a decoder reports.
var ErrTooLong = errors.New("sse: event is too long")

// A Decoder reads events from a stream as the WHATWG text asks of browsers. It
// is not for concurrent use.
type Decoder struct {
	// MaxEventSize bounds the bytes of one event's data and of each line; 0 means
	// [DefaultMaxEventSize], and [math.MaxInt] no bound. It may be set before the
	// first Decode.
	MaxEventSize int

	r   io.Reader
	err error // what r reported, or ErrTooLong; returned when buf holds no more lines

	buf     []byte
	start   int  // buf[start:] is not yet parsed
	scanned int  // buf[start:scanned] holds no line end
	skipLF  bool // the last line ended with CR: an LF now belongs to it
	begun   bool // the place of the byte order mark has passed

	// The buffers of the standard's text. id outlives a block, the others do not.
	data     []byte
	typ      string
	id       string
	hasData  bool
	blockTry time.Duration

	moved    func(id string)           // called when lastID changes
	asked    func(retry time.Duration) // called for each reconnection time
	comment  func(text string)         // called for each comment
	lastID   string
	retry    time.Duration
	hasRetry bool
	lastType string
}

// NewDecoder returns a decoder that reads from r. It buffers, and may read
// beyond the last event it returned.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: r} }

// Decode returns the next event, as soon as its blank line has been read. It
// blocks as long as the reader does.
//
// At the end of the stream it returns [io.EOF]; an event without its blank line
// is dropped, as browsers do. Other errors are the reader's own, or
// [ErrTooLong]. After an error every call returns that error.
func (d *Decoder) Decode() (Event, error) {
	for {
		line, ok := d.line()
		if !ok {
			return Event{}, d.err
		}
		if len(line) > 0 {
			d.field(line)
			continue
		}
		if event, ok := d.dispatch(); ok {
			return event, nil
		}
	}
}

// LastEventID returns the last event ID as of the last blank line: it moves
// with events, and with blocks that have an id and no data.
func (d *Decoder) LastEventID() string { return d.lastID }

// Retry returns the last reconnection time the stream stated, and whether it
// stated one. It counts as soon as its line was read. Times beyond the range of
// a [time.Duration] are its maximum.
func (d *Decoder) Retry() (time.Duration, bool) { return d.retry, d.hasRetry }

// Read returns the events of r. A clean end ends the sequence; any other error
// of [Decoder.Decode] is yielded once, with an empty event, as the last pair. It
// can be ranged over once.
func Read(r io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		d := NewDecoder(r)
		for {
			event, err := d.Decode()
			if err == io.EOF {
				return
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// line returns the next line without its end. The line is valid until the next
// call. It returns false with d.err set when there is none.
func (d *Decoder) line() ([]byte, bool) {
	for {
		if d.skipLF && d.start < len(d.buf) {
			d.skipLF = false
			if d.buf[d.start] == '\n' {
				d.start++
			}
			d.scanned = d.start
		}
		n, width := lineEnd(d.buf[d.scanned:])
		end := d.scanned + n
		if end-d.start > d.limit() {
			d.fail(ErrTooLong)
			return nil, false
		}
		if width > 0 {
			line := d.buf[d.start:end]
			d.start = end + width
			d.scanned = d.start
			// A line that ends with CR is complete: waiting for an LF that belongs
			// to it would hold an event back until the next one.
			d.skipLF = d.start == len(d.buf) && d.buf[d.start-1] == '\r'
			if !d.begun {
				d.begun = true
				line = bytes.TrimPrefix(line, []byte("\uFEFF"))
			}
			return line, true
		}
		d.scanned = end
		if !d.fill() {
			return nil, false
		}
	}
}

// fill reads more bytes behind those not yet parsed.
func (d *Decoder) fill() bool {
	const first = 4 << 10
	if d.err != nil {
		return false
	}
	if d.start == len(d.buf) {
		d.buf = d.buf[:0]
		if cap(d.buf) > keepBytes {
			d.buf = nil
		}
		d.start, d.scanned = 0, 0
	}
	if len(d.buf) == cap(d.buf) {
		// What is kept is less than one line. Growing only when it fills half of
		// the buffer keeps both copying and memory proportional to that line.
		kept := d.buf[d.start:]
		to := d.buf[:0]
		if len(kept) >= cap(d.buf)/2 {
			to = make([]byte, 0, max(first, 2*cap(d.buf)))
		}
		d.scanned -= d.start
		d.start = 0
		d.buf = append(to, kept...)
	}
	for range 100 {
		n, err := d.r.Read(d.buf[len(d.buf):cap(d.buf)])
		d.buf = d.buf[:len(d.buf)+n]
		if err != nil {
			d.err = err
		}
		if n > 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
	d.err = io.ErrNoProgress
	return false
}

// field takes over one line that is not blank.
func (d *Decoder) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "":
		if d.comment != nil {
			d.comment(string(appendUTF8(nil, value)))
		}
	case "data":
		if d.hasData {
			d.data = append(d.data, '\n')
		}
		d.hasData = true
		d.data = appendUTF8(d.data, value)
		if len(d.data) > d.limit() {
			d.fail(ErrTooLong)
		}
	case "event":
		d.typ = keep(d.lastType, value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.id = keep(d.id, value)
		}
	case "retry":
		if retry, ok := parseRetry(value); ok {
			d.retry, d.hasRetry, d.blockTry = retry, true, retry
			if d.asked != nil {
				d.asked(retry)
			}
		}
	}
}

// dispatch ends a block. It returns false when the block makes no event.
func (d *Decoder) dispatch() (Event, bool) {
	if d.lastID != d.id {
		d.lastID = d.id
		if d.moved != nil {
			d.moved(d.id)
		}
	}
	event := Event{ID: d.id, Type: d.typ, Retry: d.blockTry}
	ok := d.hasData
	if ok {
		event.Data = string(d.data)
		d.lastType = d.typ
	}
	d.data = d.data[:0]
	if cap(d.data) > keepBytes {
		d.data = nil
	}
	d.typ, d.hasData, d.blockTry = "", false, 0
	return event, ok
}

func (d *Decoder) limit() int {
	if d.MaxEventSize > 0 {
		return d.MaxEventSize
	}
	return DefaultMaxEventSize
}

// fail drops all input: nothing after err is parsed.
func (d *Decoder) fail(err error) {
	d.err = err
	d.buf, d.start, d.scanned = nil, 0, 0
}

// keep returns value as a string that is UTF-8, and last itself when that is
// the same: most streams repeat one type.
func keep(last string, value []byte) string {
	if string(value) == last {
		return last
	}
	return string(appendUTF8(nil, value))
}

// parseRetry reads ASCII digits, at least one.
func parseRetry(value []byte) (time.Duration, bool) {
	const most = int64(math.MaxInt64 / time.Millisecond)
	if len(value) == 0 || strings.Trim(string(value), "0123456789") != "" {
		return 0, false
	}
	var ms int64
	for _, c := range value {
		ms = ms*10 + int64(c-'0')
		if ms > most {
			return math.MaxInt64, true
		}
	}
	return time.Duration(ms) * time.Millisecond, true
}
