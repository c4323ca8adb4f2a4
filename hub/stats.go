package hub

import (
	"errors"
	"sync/atomic"
	"time"
)

// Observer is a set of hooks for metrics and traces. Each may be nil. They are called from the
// hub's own goroutines and from callers of its methods, several at once; they must return quickly,
// not panic and not call the hub.
type Observer struct {
	// Published is called after each Publish, Finish and Revoke with its outcome.
	Published func(topic string, id ID, took time.Duration, err error)
	// Gap is called when the hub itself, not a single reader, found that messages of a topic are
	// gone.
	Gap func(topic string)
	// Healed is called when a topic's live path was made whole again by reading from the backend.
	Healed func(topic string, took time.Duration)
	// Broken is called when a backend reports that the live path of a topic is down, and with nil
	// when it is whole again.
	Broken func(topic string, err error)
	// Read is called after each Read at the backend.
	Read func(topic string, messages int, took time.Duration, err error)
}

// Stats are counts since New, except where they say "now".
type Stats struct {
	Topics        int   // followed topics now
	Subscriptions int   // open subscriptions now; the hub's own, for leases, is not among them
	Watched       int   // of them those with a Watcher, as the streams of feeds have one
	WindowBytes   int64 // bytes of all windows, and of messages held while a live path heals, now

	Published  uint64 // messages appended by Publish, Finish and Revoke
	Rejected   uint64 // publishes certainly not appended
	Unknown    uint64 // publishes with an unknown outcome
	Received   uint64 // messages taken into windows
	Duplicates uint64 // received messages dropped because they were known
	Skipped    uint64 // received messages dropped because they had no valid ID
	Heals      uint64 // live paths made whole again
	Gaps       uint64 // gaps found by the hub on live paths
	ReaderGaps uint64 // gaps told to readers
	Reads      uint64 // reads at the backend
	ReadErrors uint64 // of them failed
}

type counters struct {
	watched atomic.Int64
	appended, rejected, unknown, received, duplicates, skipped,
	heals, gaps, readerGaps, reads, readErrors atomic.Uint64
}

func (c *counters) published(err error) {
	switch {
	case err == nil:
		c.appended.Add(1)
	case errors.Is(err, ErrUnknown):
		c.unknown.Add(1)
	default:
		c.rejected.Add(1)
	}
}
