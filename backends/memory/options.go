package memory

import (
	"slices"
	"time"

	"github.com/headrace/headrace/hub"
)

// Options bound what a Backend retains. The zero value has the defaults; a value that is not
// positive counts as zero.
//
// A byte bound counts a message's contents and about 450 bytes for its management.
type Options struct {
	// MaxMessages is how many messages a topic retains, and how many idempotency keys it
	// remembers. Default 10,000.
	MaxMessages int
	// MaxBytes is how many bytes of messages a topic retains; the newest message is retained
	// whatever its size. Default 16 MiB.
	MaxBytes int64
	// MaxAge is how long a message is retained. Default 24 hours.
	MaxAge time.Duration
	// KeepForever retains messages whatever their age: MaxAge is ignored.
	KeepForever bool
	// Retention is what topics retain whose names begin with a prefix: of several prefixes that
	// fit the longest counts. What it leaves at zero is as above. The slice is not modified, and
	// not kept.
	Retention []hub.Retention
	// KeyWindow is how long an idempotency key is remembered, retained or not its message.
	// Default 24 hours.
	KeyWindow time.Duration
	// MaxTotalBytes bounds messages and keys of all topics together; the oldest go first,
	// whatever their topic. Default 256 MiB.
	MaxTotalBytes int64
}

func (o Options) withDefaults() Options {
	if o.MaxMessages <= 0 {
		o.MaxMessages = 10_000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 16 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 24 * time.Hour
	}
	if o.KeyWindow <= 0 {
		o.KeyWindow = 24 * time.Hour
	}
	if o.MaxTotalBytes <= 0 {
		o.MaxTotalBytes = 256 << 20
	}
	o.Retention = slices.Clone(o.Retention)
	return o
}

// bounds are what one topic retains.
type bounds struct {
	messages int
	bytes    int64
	age      time.Duration // 0: whatever the age
}

func (o *Options) bounds(topic string) bounds {
	b := bounds{o.MaxMessages, o.MaxBytes, o.MaxAge}
	if o.KeepForever {
		b.age = 0
	}
	r, _ := hub.RetentionOf(o.Retention, topic)
	if r.Messages > 0 {
		b.messages = r.Messages
	}
	if r.Bytes > 0 {
		b.bytes = r.Bytes
	}
	if r.Age > 0 {
		b.age = r.Age
	}
	return b
}

// shortest returns the shortest time after which anything gets too old.
func (o *Options) shortest() time.Duration {
	d := o.KeyWindow
	if !o.KeepForever {
		d = min(d, o.MaxAge)
	}
	for _, r := range o.Retention {
		if r.Age > 0 {
			d = min(d, r.Age)
		}
	}
	return d
}
