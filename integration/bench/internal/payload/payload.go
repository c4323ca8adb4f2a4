// Package payload is the form of the messages that the measurements send: JSON with the time of
// publishing in it and one byte by which a reader counts messages without parsing them, whatever a
// server puts around them.
package payload

import (
	"bytes"
	"encoding/hex"

	"golang.org/x/sys/unix"
)

const (
	// Mark is in each message that is counted exactly once, and in nothing else that a server
	// sends.
	Mark = '!'
	// Probe is in messages that only show that a connection gets messages; they have no Mark.
	Probe = '^'
	// StampSize is the length of the time after the Mark.
	StampSize = 16
	// MinSize is the length of the shortest message.
	MinSize = len(head) + 1 + StampSize + len(middle) + len(tail)

	head, middle, tail = `{"t":"`, `","x":"`, `"}`
)

// Now returns the time in nanoseconds by the clock that all processes of the machine share.
func Now() int64 {
	var t unix.Timespec
	// The only errors are an unknown clock and a bad address.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// Message returns a new message of size bytes, or MinSize if that is more, that was published at a
// time.
func Message(size int, at int64) []byte {
	m := append(start(size), Mark)
	var stamp [StampSize / 2]byte
	for i := range stamp {
		stamp[i] = byte(at >> (8 * (len(stamp) - 1 - i)))
	}
	m = hex.AppendEncode(m, stamp[:])
	return finish(m, size)
}

// ProbeMessage returns a new message of about size bytes that is not counted.
func ProbeMessage(size int) []byte { return finish(append(start(size), Probe), size) }

// Stamp returns the time in what follows a Mark. It reports false when something stands between its
// digits, as the boundary of a chunk does now and then.
func Stamp(b []byte) (at int64, ok bool) {
	var stamp [StampSize / 2]byte
	if len(b) < StampSize {
		return 0, false
	}
	if _, err := hex.Decode(stamp[:], b[:StampSize]); err != nil {
		return 0, false
	}
	for _, b := range stamp {
		at = at<<8 | int64(b)
	}
	return at, true
}

func start(size int) []byte {
	return append(make([]byte, 0, max(size, MinSize)), head...)
}

func finish(m []byte, size int) []byte {
	m = append(m, middle...)
	m = append(m, bytes.Repeat([]byte{'x'}, max(0, size-len(m)-len(tail)))...)
	return append(m, tail...)
}
