package hub

// Position is where a subscription starts. The zero Position is Latest.
type Position struct {
	kind positionKind
	id   ID
}

type positionKind uint8

const (
	latest positionKind = iota
	earliest
	after
)

// Latest is the position after the newest message: only what is published from now on.
func Latest() Position { return Position{} }

// Earliest is the position before the oldest message that is retained.
func Earliest() Position { return Position{kind: earliest} }

// After is the position after the message that id names, or the position that id itself names. An
// ID that the topic does not know, or never knew, is a gap. The empty ID names no position:
// Subscribe refuses it with ErrPosition.
func After(id ID) Position { return Position{kind: after, id: id} }

// SubscribeOption changes what a subscription does.
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	markGaps    bool
	untilClosed bool
	// earlyGaps tells of a gap as soon as it is found: without Replay the message that comes
	// after it would be the one to tell.
	earlyGaps bool
}

// UntilClosed makes the context of Subscribe that of the call alone: the subscription goes on
// when the context has ended, until it is closed.
func UntilClosed() SubscribeOption {
	return func(o *subscribeOptions) { o.untilClosed = true }
}

// MarkGaps makes a subscription go on after a gap, at the oldest message still retained, with
// Message.Gap set on it. Without this option the subscription ends with ErrGap.
func MarkGaps() SubscribeOption {
	return func(o *subscribeOptions) { o.markGaps = true }
}
