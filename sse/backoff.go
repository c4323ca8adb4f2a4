package sse

import (
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// maxAsked bounds a wait that a server asks for: a typing error there must not silence a client
	// for ever.
	maxAsked = time.Hour
	// calm is a pace that a server may ask for without being taken for one that fails: servers that
	// are polled answer each request with an event, the end, and a time to come back.
	calm = time.Second
)

// A backoff spaces the connections of a stream.
type backoff struct {
	least, most time.Duration
	exact       bool // no jitter

	// asked is the reconnection time that the server stated, on this connection or an earlier one.
	asked    time.Duration
	hasAsked bool
	failures int // connections in a row that were of no use, or that failed
}

// ending says how one connection ended.
type ending struct {
	err      error // nil: the server ended the stream cleanly
	final    bool  // err ends the sequence
	over     bool  // the caller left the loop, or the server said that this is all
	received bool  // at least one event arrived
	moved    bool  // the next request states another ID
	lasted   time.Duration
	asked    time.Duration // what this very connection stated
}

// useful reports whether a connection ends a row of failures. An event alone does not: a server
// that greets each client with one, and dies, would be asked again and again at the least wait.
func (b *backoff) useful(end ending) bool {
	return end.moved || end.lasted >= b.most || end.err == nil && end.received && end.asked >= calm
}

// heard notes the reconnection time that the server states.
func (b *backoff) heard(retry time.Duration) { b.asked, b.hasAsked = min(retry, maxAsked), true }

// after returns how long to wait after a connection ended as end says.
func (b *backoff) after(end ending) time.Duration {
	useful := b.useful(end)
	if useful {
		b.failures = 0
	}
	wait := b.least
	if b.hasAsked {
		wait = b.asked
		if end.err != nil || !end.received || b.failures > 0 {
			wait = max(wait, b.least)
		}
	}
	if end.err != nil || !useful {
		// A wait beyond the most is what the server asked for, and stays.
		for range b.failures {
			if wait >= b.most {
				break
			}
			wait = min(2*wait, b.most)
		}
		b.failures++
	}
	if status, ok := errors.AsType[*StatusError](end.err); ok {
		wait = max(wait, min(status.RetryAfter, maxAsked))
	}
	if half := int64(wait / 2); half > 0 && !b.exact {
		wait += time.Duration(rand.Int64N(half))
	}
	return wait
}
