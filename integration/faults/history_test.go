package faults

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// history is all that a run has recorded. Times count from the run's beginning.
type history struct {
	attempts []attempt
	readers  []*reader
	// logs are what the topics have in the end, as Redis itself says.
	logs map[string][]entry
	// erased are the messages that somebody tried to erase, by topic.
	erased map[string]map[hub.ID]bool
	// lossy: the topology may lose what it acknowledged, within losses.
	lossy  bool
	losses []loss
	calms  []calm
}

// outcome is what a call of Publish said.
type outcome uint8

const (
	acknowledged outcome = iota
	rejected
	unknown
)

func (o outcome) String() string { return [...]string{"acknowledged", "rejected", "unknown"}[o] }

// attempt is one message of one call of Publish or PublishAll. Attempts of a publisher are in the
// order of the calls.
type attempt struct {
	publisher, topic, text string
	// keyed: the message has an idempotency key, and an unknown outcome is tried again.
	keyed bool
	// batch names the call that appended several messages, "" for one of its own.
	batch string
	// hasty: the caller had no patience, so that it need not be acknowledged in a calm.
	hasty        bool
	began, ended time.Duration
	outcome      outcome
	id           hub.ID // of a message that was acknowledged
	err          error
}

// kind is what a reader went through.
type kind uint8

const (
	// joined: Subscribe was called, to go on after the item's ID. It is "" for the oldest message.
	joined kind = iota
	// message: it was delivered.
	message
	// gap: it was told that messages are gone. The item's ID is that of the position behind the gap,
	// "" where only the next message tells.
	gap
	// left: the reader closed its subscription.
	left
)

// item is one thing that a reader went through.
type item struct {
	kind kind
	at   time.Duration
	id   hub.ID
	text string
}

func (it item) String() string {
	at := it.at.Round(time.Millisecond)
	switch it.kind {
	case joined:
		return fmt.Sprintf("%8v joins after %q", at, it.id)
	case message:
		return fmt.Sprintf("%8v %s %s", at, it.id, it.text)
	case gap:
		return fmt.Sprintf("%8v GAP, to %q", at, it.id)
	default:
		return fmt.Sprintf("%8v leaves", at)
	}
}

// reader is what one reader of a topic went through, over all its subscriptions.
type reader struct {
	name, topic string
	items       []item
}

// entry is one of a topic's log: a message, or the entry with which a deleted topic began anew.
type entry struct {
	id      hub.ID
	text    string
	deleted bool
}

// loss is when what was acknowledged may be lost: from when the new master lacked something of the
// old one, to shortly after it took over.
type loss struct {
	topics      map[string]bool // nil for all
	from, until time.Duration
}

func (l loss) covers(topic string, at time.Duration) bool {
	return (l.topics == nil || l.topics[topic]) && l.from <= at && at <= l.until
}

// calm is a time without faults. It begins when Redis takes writes again. After so long everybody
// has to be back.
type calm struct {
	from, to, back time.Duration
}

// compareIDs compares two IDs as Redis does: each master gives them in this order.
func compareIDs(a, b hub.ID) int {
	a1, a2 := splitID(a)
	b1, b2 := splitID(b)
	return cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2))
}

func splitID(id hub.ID) (ms, seq uint64) {
	first, second, _ := strings.Cut(string(id), "-")
	ms, _ = strconv.ParseUint(first, 10, 64)
	seq, _ = strconv.ParseUint(second, 10, 64)
	return ms, seq
}

// isPosition reports whether an ID names a position in a topic that was empty, and no message.
func isPosition(id hub.ID) bool { return strings.HasPrefix(string(id), "0-") }
