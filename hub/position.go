package hub

import "time"

// Position is where a subscription starts; it is an option of Subscribe. The zero Position is
// Latest.
type Position struct {
	kind positionKind
	id   ID
	seek Seek
}

type positionKind uint8

const (
	latest positionKind = iota
	earliest
	after
	seeking
)

// Latest is the position after the newest message: only what is published from now on. It is where
// a subscription starts that is given no position.
func Latest() Position { return Position{} }

// Earliest is the position before the oldest message that is retained.
func Earliest() Position { return Position{kind: earliest} }

// After is the position after the message that id names, or the position that id itself names. An
// ID that the topic does not know, or never knew, is a gap. The empty ID names no position:
// Subscribe refuses it with ErrPosition.
func After(id ID) Position { return Position{kind: after, id: id} }

// Last is the position before the newest n messages, or before the oldest retained one if there are
// fewer. With n below 1 it is Latest.
func Last(n int) Position {
	if n < 1 {
		return Latest()
	}
	return Position{kind: seeking, seek: Seek{Messages: n}}
}

// Since is the position before the oldest retained message that was appended at t or later, by the
// backend's clock. The zero time makes it Earliest.
func Since(t time.Time) Position {
	if t.IsZero() {
		return Earliest()
	}
	return Position{kind: seeking, seek: Seek{Since: t}}
}

// SubscribeOption changes where a subscription starts and what it does: a Position, or what the
// functions of this package return.
type SubscribeOption interface{ apply(*subscribeOptions) }

type subscribeOptions struct {
	at          Position
	markGaps    bool
	untilClosed bool
	endDeleted  bool
	// replay bounds what a reader gets whose position is unknown; zero does not.
	replay Seek
	// earlyGaps tells of a gap as soon as it is found: without Replay the message that comes
	// after it would be the one to tell.
	earlyGaps bool
}

func (p Position) apply(o *subscribeOptions) { o.at = p }

type optionFunc func(*subscribeOptions)

func (f optionFunc) apply(o *subscribeOptions) { f(o) }

// UntilClosed makes the context of Subscribe that of the call alone: the subscription goes on
// when the context has ended, until it is closed.
func UntilClosed() SubscribeOption {
	return optionFunc(func(o *subscribeOptions) { o.untilClosed = true })
}

// MarkGaps makes a subscription go on after a gap, with Message.Gap set on the next message.
// Without this option the subscription ends with ErrGap.
//
// It goes on at the oldest retained message that it has not had, as far as window and IDs can
// tell, else at what is newer than the newest message that it has had. One that has had none yet
// goes on at the oldest retained message; see Replay.
func MarkGaps() SubscribeOption {
	return optionFunc(func(o *subscribeOptions) { o.markGaps = true })
}

// Replay bounds what a subscription with MarkGaps gets when it starts After an ID that the topic
// does not know: at most the newest messages that are so many, and have about so many bytes. What
// is left out is part of the gap. A bound that is not positive is none. Default: no bound.
func Replay(messages int, bytes int64) SubscribeOption {
	return optionFunc(func(o *subscribeOptions) {
		o.replay = Seek{Messages: max(messages, 0), Bytes: max(bytes, 0)}
	})
}

// EndDeleted ends a subscription with ErrDeleted when its topic is deleted, behind the gap that
// deleting is. Without this option it waits for what is published under the name next.
func EndDeleted() SubscribeOption {
	return optionFunc(func(o *subscribeOptions) { o.endDeleted = true })
}
