package hub

import (
	"context"
	"strings"
	"time"
)

// Backend is where messages live. It is the only thing that the author of a backend implements;
// users call the methods of [Hub], which brings the checks, replay, hand-over, healing and memory
// bounds that are the same for all backends.
//
// All methods may be called concurrently, for the same and for different topics. The rules below
// are numbered; package backends/backendtest has a test for each, under the same number.
//
// Publish
//
//   - P1 A nil error means that the message is appended: it has an ID, and Read and followers see
//     it.
//   - P2 The ID is valid (see ID.Valid), unique within the topic for all time, and the same for
//     every reader in every process.
//   - P3 Type, Data, Binary, Headers and Final come back as they were published, byte for byte.
//     Time is the time of appending.
//   - P4 Messages published one after another, each after the return of the one before, are
//     appended in this order.
//   - P5 An error that is ErrRejected means: certainly not appended. Any other error means:
//     perhaps.
//   - P6 No slice or map of the message is kept or modified after Publish returned.
//   - P7 With Traits.Keys at KeysStored, a repeated Key within the topic and the key window
//     appends nothing and returns the ID of the first message.
//   - P8 A context that is done before the call: nothing is appended, the error is ErrRejected.
//   - P9 With Traits.Atomic, PublishAll appends all of its messages or none, in their order, and
//     nothing comes between them. The rules above hold for each of them. When some have a Key
//     that is known, only those are left out.
//   - P10 With Traits.Ends, a message to a topic whose newest message is Final is refused with
//     ErrRejected and ErrEnded, unless it has AfterEnd. A Final one appends nothing instead, and
//     has the ID of the message that ended the topic. Within PublishAll the last message alone may
//     be Final.
//
// Follow
//
//   - F1 The sink gets exactly the messages appended after the returned tail, each once, in
//     append order. Deliver may begin before Follow returned.
//   - F2 When Follow returns, delivery is certain to have begun: a message published afterwards
//     is delivered without further calls.
//   - F3 The tail is a valid ID even for a topic that is empty or never existed, and Read(tail)
//     answers without a gap.
//   - F4 Calls into one sink are serial.
//   - F5 stop returns at once, whatever the network does, and no call into the sink begins after
//     it returned; a call that was decided on before counts as running, and may go on. stop may
//     be called more than once.
//   - F6 ctx bounds the establishing only; its end afterwards changes nothing.
//   - F7 Follows are independent: of the same topic and of different ones; stopping one disturbs
//     no other.
//   - F8 With Traits.Chained, every delivered message has Prev: the ID of the message before it,
//     or the tail for the first.
//   - F9 A live path that was broken is whole again only after Restored said so: messages lost in
//     between are never lost silently.
//
// Read
//
//   - R1 Read returns the retained messages after an ID, oldest first, at most limit (which is
//     positive). It may return fewer, but an empty page without Gap means: there is nothing after
//     the ID.
//   - R2 Read after "" starts at the oldest retained message and is never a gap.
//   - R3 Gap is set whenever it cannot be proven that nothing is missing between the ID and the
//     first message of the page (or Next). The page then starts at the oldest retained message
//     that is newer than the ID. Where the backend cannot tell which messages are newer, it starts
//     at the oldest retained one. A message that the backend has but cannot bring counts as one
//     that is not retained.
//   - R4 An ID that the backend cannot place (malformed, foreign, of a former life) is a gap;
//     never an error, never a panic, never a message of another topic.
//   - R5 Read at the newest message, or at a tail that Follow gave and nothing was appended
//     after, is an empty page without a gap.
//   - R6 Next is never empty: the last message's ID, or on an empty page an ID after which
//     nothing is retained; Read(Next) goes on from there.
//   - R7 A Read that begins after a message was delivered to a follower, or after its Publish
//     returned, sees it (or says Gap).
//   - R8 Final is set when the message at the ID is retained and Final, or when the entry at the ID
//     has Erases set and the newest message before it is.
//   - R9 Messages of a page are not modified by the backend afterwards.
//
// The life of a topic
//
//   - L1 With Traits.Deletes, Delete removes all messages of a topic, and its keys. The topic
//     begins anew with one entry that has Deleted set: followers get it, and Read returns it. All
//     IDs of before are gaps from then on. To delete a topic that has no messages does nothing.
//   - L2 With Traits.Deletes, Erase removes one message. An entry that names it in Erases is
//     appended, and followers and Read bring that one too. A message that is not retained, or
//     never was, is not an error, and nothing is appended for it. Neither a reader before the
//     erased message nor one at its ID has a gap for it. A follower that has not had the message
//     need not get it.
//   - L3 Info says what is retained. Entries with Deleted or Erases set do not make a topic
//     exist.
//   - L4 Seek returns the ID of the position from which Read returns what was asked for, "" for
//     the position before the oldest retained message. Entries with Deleted or Erases set do not
//     count as messages.
//   - L5 Ping returns nil when the backend can be expected to take messages, or why it cannot,
//     within its context.
//   - L6 Where the author's options say so, topics under a prefix are kept within bounds of their
//     own; see Retention.
//
// Beyond one process
//
//   - S1 With Traits.Shared, another instance over the same store has what this one publishes, live
//     and by Read, under the same IDs.
//   - D1 With Traits.Durable, what was appended survives a restart, and so do IDs, ends and keys:
//     a position of before is known, and what is published later has IDs that were never given.
//
// Close
//
//   - C1 Close releases everything; it may be called more than once. Afterwards Publish fails
//     with ErrRejected, Follow and Read fail, and nothing is delivered.
//   - C2 Methods return within bounded time after their context ended.
type Backend interface {
	// Publish appends m to topic and returns its ID. m.ID, m.Prev, m.Time and m.Gap are ignored.
	Publish(ctx context.Context, topic string, m Message) (ID, error)

	// PublishAll appends messages to topic and returns their IDs, in the same order. It is called
	// with at least two messages, and only with Traits.Atomic.
	PublishAll(ctx context.Context, topic string, ms []Message) ([]ID, error)

	// Follow delivers to sink, in order, exactly the messages appended after the returned tail,
	// until stop is called.
	Follow(ctx context.Context, topic string, sink Sink) (tail ID, stop func(), err error)

	// Read returns a page of what is retained after an ID. A backend without Traits.Replay is not
	// asked. It should end a page at about PageBytes, but never before the first message.
	Read(ctx context.Context, topic string, after ID, limit int) (Page, error)

	// Seek finds a position. A backend without Traits.Replay is not asked.
	Seek(ctx context.Context, topic string, s Seek) (ID, error)

	// Info describes a topic. A backend without Traits.Replay is not asked.
	Info(ctx context.Context, topic string) (Info, error)

	// Delete removes a topic. A backend without Traits.Deletes is not asked.
	Delete(ctx context.Context, topic string) error

	// Erase removes one message of a topic. A backend without Traits.Deletes is not asked.
	Erase(ctx context.Context, topic string, id ID) error

	// Ping asks whether the backend is ready.
	Ping(ctx context.Context) error

	// IsID reports whether a valid ID has the form of those that this kind of backend gives,
	// whatever the topic, and whenever it was. It does not ask the store.
	IsID(id ID) bool

	// Traits returns facts about the backend. They never change.
	Traits() Traits

	// Close releases the backend's resources.
	Close() error
}

// PageBytes is about the size, in bytes of data, at which Backend.Read should end a page.
const PageBytes = 1 << 20

// Page is the answer to Backend.Read.
type Page struct {
	// Messages are owned by the caller; their contents are shared and read-only.
	Messages []Message
	// Gap says that it cannot be proven that nothing is missing between the ID that was asked for
	// and the first message (or Next).
	Gap bool
	// Next is the last message's ID or, on an empty page, the ID to go on from; never empty.
	Next ID
	// Final says that the message at the ID that was asked for is the one that ended the topic, or
	// that there are only entries with Erases set between the two.
	Final bool
	// Deleted says that the entry at the ID that was asked for is the one with which the deleted
	// topic began anew.
	Deleted bool
}

// Seek is what Backend.Seek looks for: the newest messages within bounds. A bound that is zero is
// none; at least one is set.
type Seek struct {
	// Messages is the greatest number of messages.
	Messages int
	// Bytes is about the most that they may have, in bytes of data; the newest message is within
	// it whatever its size.
	Bytes int64
	// Since is the time that none is older than, by the backend's clock.
	Since time.Time
}

// Info describes a topic at one moment.
type Info struct {
	// Exists: at least one message is retained.
	Exists bool
	// Oldest and Newest are the IDs of the oldest and newest retained message, "" without any.
	Oldest, Newest ID
	// Finished: the newest message is the one that ended the topic.
	Finished bool
	// Expires is when the backend removes the topic as a whole if nothing more is published to
	// it; zero if it does not, or does not say.
	Expires time.Time
}

// Retention is how much of the topics under a prefix a backend keeps. Backends take a list of them
// in their options, beside the bounds for all other topics; the longest prefix that fits counts.
type Retention struct {
	// Prefix begins the names of the topics; "" fits all.
	Prefix string
	// Messages is how many messages a topic retains. Default 0: the backend's default.
	Messages int
	// Bytes is how many bytes of messages a topic retains; the newest one is retained whatever its
	// size. Default 0: the backend's default.
	Bytes int64
	// Age is how long a message is retained. Default 0: the backend's default.
	Age time.Duration
}

// RetentionOf returns the retention with the longest prefix of a topic's name. It reports false
// when none fits.
func RetentionOf(list []Retention, topic string) (r Retention, ok bool) {
	for _, l := range list {
		if strings.HasPrefix(topic, l.Prefix) && (!ok || len(l.Prefix) > len(r.Prefix)) {
			r, ok = l, true
		}
	}
	return r, ok
}

// Sink is the hub's side of Backend.Follow. Its methods never block; calls for one Follow must be
// serial.
type Sink interface {
	// Deliver hands over messages in append order. Their contents must not be modified
	// afterwards. The slice itself is not kept.
	Deliver(ms ...Message)
	// Broken says that the live path is down. It is for health reports only.
	Broken(err error)
	// Restored says that the live path is whole again from tail on, "" if that position is unknown.
	// What came before it may have been lost: the hub heals now.
	Restored(tail ID)
}

// Traits are facts about a backend.
type Traits struct {
	// Name is the backend's name in logs and statistics.
	Name string
	// Replay: Read answers from what the backend retains. Without it the past is the window of
	// this process.
	Replay bool
	// Ordered: every follower in every process sees the messages of a topic in the same order.
	Ordered bool
	// Chained: every live message has Prev.
	Chained bool
	// Shared: other processes see what is published, under the same IDs.
	Shared bool
	// Durable: messages survive a restart of this process.
	Durable bool
	// Keys is how far idempotency keys reach.
	Keys KeyReach
	// Atomic: PublishAll appends all of its messages or none.
	Atomic bool
	// Ends: nothing is appended behind the end of a topic by mistake.
	Ends bool
	// Deletes: topics can be deleted, and messages erased.
	Deletes bool
}

// KeyReach is how far a backend honours idempotency keys.
type KeyReach uint8

const (
	// KeysNone: not at all. Publish refuses a message with a key.
	KeysNone KeyReach = iota
	// KeysWindow: a repeat has the ID of the first message, so that readers that still have it in
	// their window drop the repeat.
	KeysWindow
	// KeysStored: the backend remembers keys; a repeat appends nothing and returns the first ID.
	KeysStored
)

// String returns "none", "window" or "stored".
func (k KeyReach) String() string {
	switch k {
	case KeysNone:
		return "none"
	case KeysWindow:
		return "window"
	case KeysStored:
		return "stored"
	}
	return "unknown"
}
