package redisstream

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/headrace/headrace/hub"
)

// follower is one Follow. It holds what arrives until its tail is known, and then lets through
// what is newer.
type follower struct {
	sink        hub.Sink
	stopped     atomic.Bool
	established bool // guarded by live.mu

	// Held during calls into the sink, which makes them serial; never taken by stop.
	mu    sync.Mutex
	begun bool // the tail is known
	tail  hub.ID
	at    entryID
	fresh bool // what arrives may still be from before the tail
	first bool // nothing was delivered yet

	held      []hub.Message
	heldBytes int
	overflown bool
}

// Bounds of what is held until the tail is known.
const (
	heldMessages = 1024
	heldBytes    = 4 << 20
)

// Follow implements hub.Backend. With FollowPubSub it subscribes to the topic's channel, waits
// for the confirmation and reads the tail afterwards, so that nothing falls in between; with
// FollowXRead it reads the tail, and all reading goes on from there. While the server is
// unreachable it tries twice, or until ctx ends, and fails.
func (b *Backend) Follow(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
	if ctx.Err() != nil {
		return "", nil, opError("follow", topic, context.Cause(ctx))
	}
	stream := b.keys.stream(topic)
	if b.xreaders != nil {
		tail, stop, err := b.xreaders.follow(ctx, stream, sink)
		if err != nil {
			return "", nil, opError("follow", topic, err)
		}
		return tail, stop, nil
	}
	f := &follower{sink: sink, first: true}
	t, err := b.live.add(ctx, stream, b.keys.channel(stream), f)
	if err != nil {
		return "", nil, opError("follow", topic, err)
	}
	stop := func() {
		if !f.stopped.Swap(true) {
			b.live.remove(t, f)
		}
	}
	for {
		s, err := b.live.await(ctx, t)
		if err != nil {
			stop()
			return "", nil, opError("follow", topic, err)
		}
		tail, err := b.history.tail(ctx, stream)
		if err != nil {
			stop()
			return "", nil, opError("follow", topic, err)
		}
		if b.live.establish(t, f, s) && f.begin(tail) {
			return tail, stop, nil
		}
	}
}

// begin hands over what was held and is after the tail. It reports false when some of it had to
// be dropped: then the tail has to be read again, to be newer than that.
func (f *follower) begin(tail hub.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.overflown {
		f.overflown = false
		return false
	}
	f.tail, f.begun, f.fresh = tail, true, true
	f.at, _ = parseID(string(tail))
	for _, m := range f.held {
		f.pass(m)
	}
	f.held = nil
	return true
}

func (f *follower) deliver(m hub.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun {
		f.pass(m)
		return
	}
	f.heldBytes += len(m.Data)
	if len(f.held) == heldMessages || f.heldBytes > heldBytes {
		f.held, f.heldBytes, f.overflown = nil, len(m.Data), true
	}
	f.held = append(f.held, m)
}

// pass hands a message to the sink. f.mu is held.
//
// IDs are compared with the tail only as long as something from before it may arrive. Later a
// lower ID is that of a stream that began anew under a clock that went back, and the hub has to
// see it.
func (f *follower) pass(m hub.Message) {
	if f.fresh {
		if id, _ := parseID(string(m.ID)); id.compare(f.at) <= 0 {
			return
		}
		f.fresh = false
	}
	if m.Prev == "" {
		// The stream began with this message. For who was there before, it follows the position
		// that was the tail; for anyone else, nothing that is known. And a deletion follows on
		// messages that were there, and are gone.
		m.Prev = noEntry
		if f.first && f.at.place() && !m.Deleted {
			m.Prev = f.tail
		}
	}
	f.first = false
	if !f.stopped.Load() {
		f.sink.Deliver(m)
	}
}

// call makes another call into the sink.
func (f *follower) call(do func(hub.Sink)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped.Load() {
		do(f.sink)
	}
}
