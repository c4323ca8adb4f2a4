// Package direct carries streams on connections that were taken over from their server. It is the
// one place that knows of hijacking, and of the types of response writers that may be seen
// through.
//
// An [Engine] has a few goroutines, its shards. A shard writes to all of its connections without
// blocking; what a shard must not wait for, a socket that is full or user code that takes long,
// goes on in a goroutine of the connection's own.
package direct

import (
	"context"
	"runtime"
	"sync"

	"github.com/headrace/headrace/sse/feed/internal/session"
)

// Engine carries streams. A connection belongs to its shard or, while its socket takes nothing
// more or its user code takes long, to a goroutine of its own that hands it back when it has
// caught up. So nobody waits for a slow client, and a socket has one writer at a time.
//
// The zero Engine is ready. It has goroutines only while it has connections. Methods may be called
// concurrently.
type Engine struct {
	mu     sync.Mutex
	shards []*shard
	next   int
}

// Source is a source whose topics an engine can tell apart.
type Source interface {
	session.Source
	// Topics returns how many topics there are, Topic what is equal for sources in which the i-th
	// topic changes at the same time.
	Topics() int
	Topic(i int) any
	// Custom reports whether Poll runs user code.
	Custom() bool
}

// Socket is a connection as the engine sees it. TryWrite and Write are called by one goroutine at a
// time, the others by any.
type Socket interface {
	// TryWrite writes as much as the socket takes now. It never blocks.
	TryWrite(p []byte) (n int, err error)
	// Write writes all of p, with a write timeout for each 64 KiB.
	Write(p []byte) error
	// Drop reads and drops what the client sends, until the client has closed the connection, has
	// sent more than anybody needs to, or Release is called.
	Drop()
	// Release makes Drop return, Interrupt a Write.
	Release()
	Interrupt()
	// Close closes the connection; clean says that the client is to see the end of a stream, and
	// has all bytes before it.
	Close(clean bool)
}

// Response is what goes before a stream, and around it.
type Response struct {
	// Head is the status, the headers, and what of the body has to come before the stream. It is
	// written in front of the stream's first bytes.
	Head []byte
	// Chunked says that the stream is framed as HTTP/1.1 chunks.
	Chunked bool
}

// Run carries a stream on a socket until the stream ends, and closes the socket. The calling
// goroutine is parked meanwhile, reading, so that the client's leaving is noticed at once. Else
// it is as session.Run.
func (e *Engine) Run(ctx context.Context, c session.Config, source Source, s Socket, r Response, done func(session.Result)) {
	conn := e.begin(ctx, c, source, s, r)
	conn.live()
	result := conn.Result
	result.Panicked = nil
	done(result)
	if conn.Panicked != nil {
		panic(conn.Panicked) // here, where somebody can recover it
	}
}

// Go is Run on a goroutine of its own. A panic of the source goes no further than to the result.
func (e *Engine) Go(ctx context.Context, c session.Config, source Source, s Socket, r Response, done func(session.Result)) {
	conn := e.begin(ctx, c, source, s, r)
	go func() {
		conn.live()
		done(conn.Result)
	}()
}

// begin hands a new connection to a shard.
func (e *Engine) begin(ctx context.Context, config session.Config, source Source, s Socket, r Response) *conn {
	c := newConn(e.pick(), source, s, r)
	c.Init(ctx, config, source, c)
	c.shard.join(c) // before anything else can have it poked
	return c
}

// pick returns the shard of the next connection.
func (e *Engine) pick() *shard {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shards == nil {
		for range runtime.GOMAXPROCS(0) {
			e.shards = append(e.shards, newShard())
		}
	}
	e.next++
	return e.shards[e.next%len(e.shards)]
}
