package redisstream

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// Options are the settings of a Backend. The zero value has the defaults; a number or duration
// that is not positive counts as zero. All processes that share topics must use the same Prefix,
// and should use the same bounds.
type Options struct {
	// Prefix begins every key and channel. It must have neither braces nor control characters.
	// Default "headrace:".
	Prefix string
	// MaxMessages is about how many messages a topic retains: Redis trims whole nodes of its
	// streams, so up to some hundreds more may be there. Default 10,000.
	MaxMessages int
	// MaxAge is about how long a message is retained, trimmed as MaxMessages is. A topic without
	// new messages is removed as a whole after twice this time; see MinExpiry and FinishedExpiry.
	// Default 24 hours.
	MaxAge time.Duration
	// KeepForever retains messages whatever their age and never lets a topic expire: MaxAge and
	// MinExpiry are ignored.
	KeepForever bool
	// MinExpiry is how long a topic without new messages is there at least. Whoever comes back with
	// its newest ID later has a gap, and so have those who followed it all the time: nothing is
	// left to prove by that they missed nothing. It is at least 2 s. Default 10 minutes.
	MinExpiry time.Duration
	// FinishedExpiry is how long a topic is there after its end, with KeepForever too. Whoever
	// comes later finds a topic that never was, and is not told of the end. A position before the
	// first message of a topic is good for no longer, since the topic may have come and gone; so it
	// should be longer than hub.Options.CheckEvery. It is at most as long as the topic were there
	// without an end. Default: twice the age, but at least 45 s; with KeepForever for ever.
	FinishedExpiry time.Duration
	// Retention has bounds for the topics under some prefixes, instead of those above. They hold
	// exactly: a count at each publish, bytes and ages within a sixteenth. The bytes are those of
	// types, data and headers. An age is a bound with KeepForever too, and each of these topics
	// expires by its own, as said above. Default: none, and no topic has a bound of bytes.
	Retention []hub.Retention
	// KeyWindow is how long an idempotency key is remembered, retained or not its message.
	// Default 24 hours.
	KeyWindow time.Duration
	// MaxKeys is how many idempotency keys a topic remembers within KeyWindow at least, the newest
	// ones. Up to twice as many may be known. Default 10,000.
	MaxKeys int
	// Replicas is how many replicas must have a message before Publish returns its ID, by the
	// command WAIT, which the user needs the right to. Otherwise the error is hub.ErrUnknown and
	// ErrReplicas, and a retry with the same idempotency key asks again. It costs a round trip to
	// the replicas for each batch, and makes a failover lose next to nothing that was acknowledged:
	// the sentinels, or the cluster, may yet promote a replica that is not among them. Default 0:
	// Publish does not wait.
	Replicas int
	// ReplicasTimeout is how long they are waited for, at most 4 s. Default 1 s.
	ReplicasTimeout time.Duration
	// Follow is how live messages arrive. Default FollowPubSub.
	Follow FollowMode
	// Foreign makes a message of a stream entry that another program added with plain XADD. It is
	// called concurrently and must not keep the entry's fields. The ID and the time are set
	// afterwards, to those of the entry. Default: the fields as a JSON object, see Entry.
	Foreign func(Entry) hub.Message
	// Logger gets what an operator should know, see the package's documentation. Default
	// slog.Default().
	Logger *slog.Logger
}

// FollowMode is how a Backend gets live messages. Processes that share topics may differ in it.
type FollowMode uint8

const (
	// FollowPubSub listens to what publishers of this package announce. It is the fastest way, at
	// the least cost for Redis. Entries that another program added with XADD arrive late, see the
	// package's documentation.
	FollowPubSub FollowMode = iota
	// FollowXRead waits at the streams themselves with XREAD, so that entries arrive at once,
	// whoever added them. It costs Redis more the more topics are followed: it is meant for some
	// hundreds. Up to 256 topics share a connection; in a cluster each topic has its own. Where
	// CLIENT ID and CLIENT UNBLOCK are not allowed, a message can be 0.05 s late when its topic
	// was followed just before.
	FollowXRead
)

const (
	defaultPrefix = "headrace:"
	maxAge        = 100 * 365 * 24 * time.Hour
	// deletedExpiry is how long it is known at least that a topic was deleted which is kept for
	// ever.
	deletedExpiry = 24 * time.Hour
	// leastFinished leaves time for a position of an empty topic to be renewed before it is no good
	// any more: a hub asks every 30 s.
	leastFinished = 45 * time.Second
	// leastExpiry keeps a topic while messages come: its expiry is put off once in a second.
	leastExpiry = 2 * time.Second
	// mostBytes is far above any topic, and the script counts exactly up to it.
	mostBytes = 1 << 50
)

var errPrefix = errors.New("redisstream: Options.Prefix has a brace or a control character")

func (o Options) withDefaults() (Options, error) {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if strings.ContainsFunc(o.Prefix, func(r rune) bool { return r == '{' || r == '}' || r < ' ' || r == 0x7f }) {
		return o, errPrefix
	}
	if o.Follow > FollowXRead {
		return o, fmt.Errorf("redisstream: Options.Follow is no FollowMode")
	}
	if o.MaxMessages <= 0 {
		o.MaxMessages = 10_000
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 24 * time.Hour
	}
	// Redis counts in milliseconds, and takes no zero for a time to live. Twice the age has to be
	// a duration too.
	o.MaxAge = min(max(o.MaxAge, time.Millisecond), maxAge)
	if o.KeepForever {
		o.MaxAge = 0
	}
	if o.MinExpiry <= 0 {
		o.MinExpiry = 10 * time.Minute
	}
	o.MinExpiry = min(max(o.MinExpiry, leastExpiry), 2*maxAge)
	if o.FinishedExpiry > 0 {
		o.FinishedExpiry = min(max(o.FinishedExpiry, time.Millisecond), 2*maxAge)
	}
	o.Retention = slices.Clone(o.Retention)
	for i := range o.Retention {
		r := &o.Retention[i]
		if r.Age > 0 {
			r.Age = min(max(r.Age, time.Millisecond), maxAge)
		}
		r.Bytes = min(r.Bytes, mostBytes)
	}
	if o.KeyWindow <= 0 {
		o.KeyWindow = 24 * time.Hour
	}
	o.KeyWindow = max(o.KeyWindow, time.Millisecond)
	o.Replicas = max(o.Replicas, 0)
	if o.ReplicasTimeout <= 0 {
		o.ReplicasTimeout = time.Second
	}
	// WAIT takes a zero for ever, and go-redis waits for a reply as long as for any other one.
	o.ReplicasTimeout = min(max(o.ReplicasTimeout, time.Millisecond), commandTimeout-time.Second)
	if o.MaxKeys <= 0 {
		o.MaxKeys = 10_000
	}
	if o.Foreign == nil {
		o.Foreign = Entry.JSON
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

// age is how old the messages of a topic get, 0 for any age.
func (o *Options) age(topic string) time.Duration {
	if r, _ := hub.RetentionOf(o.Retention, topic); r.Age > 0 {
		return r.Age
	}
	return o.MaxAge
}

// expiry is how long a topic without new messages, and with no age of its own, is there; 0 for
// ever.
func (o *Options) expiry() time.Duration { return o.expiryAfter(o.MaxAge) }

// expiryOf is expiry for a topic, which may have an age of its own.
func (o *Options) expiryOf(topic string) time.Duration { return o.expiryAfter(o.age(topic)) }

func (o *Options) expiryAfter(age time.Duration) time.Duration {
	if age == 0 {
		return 0
	}
	return max(2*age, o.MinExpiry)
}

// finishedExpiry is how long a topic is there after its end, 0 for ever.
func (o *Options) finishedExpiry(topic string) time.Duration {
	open, finished := o.expiryOf(topic), o.FinishedExpiry
	switch {
	case open == 0:
		return max(finished, 0)
	case finished <= 0:
		finished = max(2*o.age(topic), leastFinished)
	}
	return min(finished, open)
}

// deletionExpiry is how long it is known at least that a topic was deleted.
func (o *Options) deletionExpiry(topic string) time.Duration {
	if e := o.expiryOf(topic); e > 0 {
		return e
	}
	return max(o.MinExpiry, deletedExpiry)
}

// placeExpiry is how long a position before the first message of a topic is good: nothing tells for
// longer that the topic came and went.
func (o *Options) placeExpiry(topic string) time.Duration {
	least := o.deletionExpiry(topic)
	if e := o.finishedExpiry(topic); e > 0 {
		least = min(least, e)
	}
	return least
}

// bounds are the options of the publish script for the bounds of a topic, "" if it has none of its
// own.
func (o *Options) bounds(topic string, size int) string {
	r, ok := hub.RetentionOf(o.Retention, topic)
	if !ok {
		return ""
	}
	var b []byte
	if r.Messages > 0 {
		b = strconv.AppendInt(append(b, 'm'), int64(r.Messages), 10)
	}
	if r.Bytes > 0 {
		b = strconv.AppendInt(append(b, 'z'), r.Bytes, 10)
		b = strconv.AppendInt(append(b, 'w'), int64(size), 10)
	}
	if r.Age > 0 {
		b = strconv.AppendInt(append(b, 't'), r.Age.Milliseconds(), 10)
		b = strconv.AppendInt(append(b, 'x'), o.expiryOf(topic).Milliseconds(), 10)
	}
	return string(b)
}
