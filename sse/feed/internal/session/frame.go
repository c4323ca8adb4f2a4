package session

import (
	"time"

	"github.com/headrace/headrace/sse"
)

// Control frames that are the same for everybody.
var (
	heartbeatFrame = []byte(sse.Heartbeat)
	visibleFrame   = Frame("", "heartbeat", []byte("{}"))
	failureFrame   = Frame("", "stream-error", []byte("{}"))
)

// Prelude returns the first bytes of every stream. There is no blank line: some readers would
// take a block without data for an event.
func Prelude(retry time.Duration) []byte {
	b := sse.AppendComment(nil, "ok")
	if retry > 0 {
		b = sse.AppendRetry(b, retry)
	}
	return b
}

// Failure returns the event that comes before a connection is aborted because of a failure. It does
// not say which.
func Failure() []byte { return failureFrame }

// Gap returns the event that says that messages before the next one are gone. at is where the
// client's cursor is moved to when no event follows that would move it; else it is "".
func Gap(at string) []byte {
	if at == "" {
		return gapFrame
	}
	return Frame(at, "gap", []byte("{}"))
}

var gapFrame = Frame("", "gap", []byte("{}"))

// Frame returns a control event. An id that cannot stand on the wire is left out: without one the
// client keeps the cursor it has.
func Frame(id, typ string, data []byte) []byte {
	b, err := sse.AppendFrame(nil, id, typ, data)
	if err != nil {
		b, _ = sse.AppendFrame(nil, "", typ, data) // typ is one of our own names
	}
	return b
}
