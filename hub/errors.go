package hub

import (
	"errors"
	"fmt"
)

// Outcomes of Publish. Every error of Publish is one of the two.
var (
	// ErrRejected means that the message was certainly not appended.
	ErrRejected = errors.New("not appended")
	// ErrUnknown means that the message may or may not have been appended.
	ErrUnknown = errors.New("outcome unknown")
)

// Causes, found with errors.Is in an *Error.
var (
	// ErrGap ends a subscription whose next messages are gone. Subscribe anew, or use MarkGaps.
	ErrGap = errors.New("messages are gone")
	// ErrClosed means that the hub is shut down, or the subscription closed.
	ErrClosed = errors.New("closed")
	// ErrTopic means that a name may not name a topic; see CheckTopic.
	ErrTopic = errors.New("invalid topic name")
	// ErrType means that a message's type is reserved or malformed.
	ErrType = errors.New("message type is reserved or malformed")
	// ErrData means that a message's data is not UTF-8 and not declared Binary.
	ErrData = errors.New("data is not UTF-8 and not declared binary")
	// ErrHeader means that a header has an empty key, or is not UTF-8.
	ErrHeader = errors.New("malformed header")
	// ErrKey means that an idempotency key is reserved or malformed, or that the key of a lease
	// is malformed or missing.
	ErrKey = errors.New("key is reserved or malformed")
	// ErrNoKeys means that the backend does not honour idempotency keys.
	ErrNoKeys = errors.New("the backend does not honour idempotency keys")
	// ErrEnded means that the topic is finished; see Message.AfterEnd.
	ErrEnded = errors.New("the topic is finished")
	// ErrDeleted ends a subscription with EndDeleted whose topic was deleted.
	ErrDeleted = errors.New("the topic was deleted")
	// ErrUnsupported means that the backend cannot do it; see Traits.
	ErrUnsupported = errors.New("the backend cannot do that")
	// ErrTooLarge means that a message exceeds Options.MaxMessage.
	ErrTooLarge = errors.New("message is too large")
	// ErrPosition means that a position has no ID.
	ErrPosition = errors.New("position without an ID")
)

// The texts above have no "hub: " of their own: they stand in an *Error, which has it.

// ErrRevoked is the cause (context.Cause) of the end of a context that Hub.Lease returned, when
// one of its keys was revoked. It stands in no *Error.
var ErrRevoked = errors.New("hub: revoked")

// Error is the error of every operation of a Hub: what was done, to which topic, and why it
// failed. It holds no data of messages.
type Error struct {
	Op    string // "publish", "finish", "subscribe", "delete", "erase", "info", "ping", "lease", "revoke" or "shutdown"
	Topic string // "" when the operation concerns no single topic
	Err   error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Topic == "" {
		return fmt.Sprintf("hub: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("hub: %s %q: %v", e.Op, e.Topic, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
