package redisstream

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// streamsAtOnce is how many streams one XREAD names: its cost grows with them.
const streamsAtOnce = 256

// xreaders are the live path of FollowXRead. XREAD only tells which topics have something new;
// what that is, is read as history is, from the last entry that was delivered on, so that what
// was trimmed in between is noticed. Each reader has a connection of its own.
type xreaders struct {
	nodes
	ctx     context.Context
	history *history
	spawn   func(func()) bool
	path    *outage
	// open returns a new client of the server that has a stream.
	open func(stream string) (*redis.Client, error)
	most int // streams of a reader

	// Guards everything below, and the follows of readers; never held during a call into a sink
	// or to the server.
	mu      sync.Mutex
	closed  bool
	readers map[*xreader]bool
}

func newXReaders(h *history, n nodes, spawn func(func()) bool, path *outage) *xreaders {
	x := &xreaders{
		nodes: n, ctx: h.lanes.ctx, history: h, spawn: spawn, path: path, most: streamsAtOnce, readers: make(map[*xreader]bool),
	}
	if n.cluster != nil {
		x.most = 1 // one command may name streams of one slot only
	}
	x.open = func(stream string) (*redis.Client, error) {
		client, err := n.of(x.ctx, stream)
		if err != nil {
			return nil, err
		}
		o := singleOptions(*client.Options(), following)
		o.ReadTimeout += longBlock
		o.PoolSize = 1
		return n.client(o, true), nil
	}
	return x
}

// follow implements Backend.Follow for FollowXRead. The tail is an ID that Redis gave, and all
// reading goes on from it: nothing depends on when it begins.
func (x *xreaders) follow(ctx context.Context, stream string, sink hub.Sink) (hub.ID, func(), error) {
	tail, err := x.history.tail(ctx, stream)
	if err != nil {
		return "", nil, err
	}
	// Whoever may read history may lack the right to XREAD, and has to be told here.
	if _, err := x.history.lanes.command(ctx, stream, func(bool) redis.Cmder {
		return redis.NewCmd(x.ctx, "xread", "count", 1, "streams", stream, string(tail))
	}); err != nil {
		return "", nil, err
	}
	f := &xfollow{stream: stream, sink: sink, last: tail, lookAt: time.Now().Add(verifyEvery)}
	if !x.add(f) {
		return "", nil, hub.ErrClosed
	}
	return tail, func() {
		if !f.stopped.Swap(true) {
			x.remove(f)
		}
	}, nil
}

func (x *xreaders) add(f *xfollow) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	for r := range x.readers {
		if len(r.follows) < x.most {
			f.reader = r
			r.follows[f] = true
			r.added++
			if r.conn != 0 && !r.waking {
				r.waking = x.spawn(func() { r.wake(f.stream) })
			}
			select {
			case r.more <- struct{}{}:
			default:
			}
			return true
		}
	}
	r := &xreader{set: x, follows: map[*xfollow]bool{f: true}, more: make(chan struct{}, 1)}
	f.reader = r
	x.readers[r] = true
	return x.spawn(r.run)
}

func (x *xreaders) remove(f *xfollow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(f.reader.follows, f)
}

// close ends all deliveries. The readers end with the context.
func (x *xreaders) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for r := range x.readers {
		for f := range r.follows {
			f.stopped.Store(true)
		}
	}
}
