package delivery

import (
	"context"
	"runtime"
	"sync"

	"github.com/headrace/headrace/hub"
)

// Engine is the direct driver: a few goroutines, its shards, write to all connections without blocking. A connection belongs to its shard or, while its socket takes nothing
// more or a Fetch is wanted, to a goroutine of its own that hands it back when it has caught up; so nobody waits for a slow client, and a socket has one writer at a time.
//
// The zero Engine is ready. It has goroutines only while it has connections. Methods may be called concurrently.
type Engine struct {
	mu     sync.Mutex
	shards []*shard
	next   int
}

// Feed is a Source that tells an engine when there is something new, instead of by a channel for each who waits.
type Feed interface {
	Source
	// Topic is equal for feeds that change at the same time.
	Topic() any
	// Watch has w woken, from now on until the feed is closed, whenever Poll may return something else.
	Watch(w hub.Watcher)
}

// Socket is a connection as the engine sees it. TryWrite and Write are called by one goroutine at a time, the others by any.
type Socket interface {
	// TryWrite writes as much as the socket takes now. It never blocks.
	TryWrite(p []byte) (n int, err error)
	// Write writes all of p, with a write timeout for each 64 KiB.
	Write(p []byte) error
	// Drop reads and drops what the client sends, until the client has closed the connection, has sent more than anybody needs to, or Release is called.
	Drop()
	// Release makes Drop return, Interrupt a Write.
	Release()
	Interrupt()
	// Close closes the connection; clean says that the client is to see the end of a stream, and has all bytes before it.
	Close(clean bool)
}

// Run runs a machine on a socket that has its response headers behind it, until it ends, and closes the socket. The goroutine is parked meanwhile, reading, so that the client's leaving is
// noticed at once. chunked says that what is written is framed as HTTP/1.1 chunks. Else it is as the function Run.
func (e *Engine) Run(ctx context.Context, m *Machine, f Feed, s Socket, chunked bool, done func(Result)) {
	c := e.begin(ctx, m, f, s, chunked)
	c.live()
	panicked := c.result.Panicked
	c.result.Panicked = nil
	done(c.result)
	if panicked != nil {
		panic(panicked) // here, where somebody can recover it
	}
}

// Go is Run on a goroutine of its own. A panic of the source goes no further than to the result.
func (e *Engine) Go(ctx context.Context, m *Machine, f Feed, s Socket, chunked bool, done func(Result)) {
	c := e.begin(ctx, m, f, s, chunked)
	go func() {
		c.live()
		done(c.result)
	}()
}

// begin hands a new connection to a shard.
func (e *Engine) begin(ctx context.Context, m *Machine, f Feed, s Socket, chunked bool) *conn {
	c := &conn{machine: m, feed: f, socket: s, ctx: ctx, chunked: chunked, place: -1, shard: e.pick()}
	c.over.Add(1)
	if ctx.Err() != nil {
		// Perhaps the right to the stream was revoked: nothing may be sent before that is noticed.
		c.orders.ctxDone = true
		c.told.Store(true)
	}
	c.shard.join(c) // before anything else can have it poked
	return c
}

// pick returns the shard of the next connection.
func (e *Engine) pick() *shard {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shards == nil {
		for range runtime.GOMAXPROCS(0) {
			e.shards = append(e.shards, &shard{groups: make(map[any]*group)})
		}
	}
	e.next++
	return e.shards[e.next%len(e.shards)]
}
