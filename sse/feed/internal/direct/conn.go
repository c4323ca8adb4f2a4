package direct

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// conn is a connection of an engine. What is not said to be shared belongs to its owner: the
// shard, or while the state is away the connection's own goroutine.
type conn struct {
	session.Stream
	shard   *shard
	source  Source
	socket  Socket
	head    []byte // of the response, until it is written or in rest
	chunked bool
	custom  bool // the source runs user code

	// The shard's.
	state  connState
	missed bool         // something new came while the connection was away
	pass   uint64       // of the loop in which the connection had its turn last
	topics []membership // one for each topic
	one    [1]membership
	place  int       // index in the shard's deadlines, -1 when it is in none
	due    time.Time // the deadlines' order

	trust  int      // how often, in a row, its user code was quick; see trusted
	rest   [][]byte // of the last step, as framed, not written yet
	events int      // of that step
	bytes  int      // of that step

	over   sync.WaitGroup // done when nobody touches the connection any more
	isOver atomic.Bool
	back   atomic.Bool // the own goroutine is done
}

// membership is a connection's place in a group.
type membership struct {
	group *group
	index int // in group.members
}

type connState uint8

const (
	fresh connState = iota // on its way to the shard
	kept                   // the shard is the owner
	away                   // its own goroutine is
	left                   // nobody is
)

func newConn(s *shard, source Source, socket Socket, r Response) *conn {
	c := &conn{shard: s, source: source, socket: socket, head: r.Head, chunked: r.Chunked, custom: source.Custom(), place: -1}
	c.topics = c.one[:]
	if n := source.Topics(); n > len(c.one) {
		c.topics = make([]membership, n)
	}
	c.over.Add(1)
	return c
}

// Wake implements session.Waker.
func (c *conn) Wake() { c.shard.poke(c) }

// Topic implements session.Waker.
func (c *conn) Topic(i int) hub.Watcher { return c.topics[i].group }

// live reads until the client leaves, or the stream is over, and closes the socket when the
// stream is.
func (c *conn) live() {
	stop := c.Follow()
	c.socket.Drop()
	if !c.isOver.Load() {
		c.Leave()
		c.socket.Interrupt()
	}
	c.over.Wait()
	stop()
	// It ended before anything was written.
	if c.head != nil && !c.Broken && c.socket.Write(c.head) != nil {
		c.Broken = true
	}
	if c.Panicked != nil && !c.Broken {
		// Proxies make a clean end of an abort.
		for _, p := range skip([][]byte{session.Failure()}, c.chunked, len(session.Failure()), 0) {
			if c.socket.Write(p) != nil {
				break
			}
		}
	}
	c.socket.Close(!c.Broken && !c.Aborted)
}

// catchUp writes what is left of a step, runs the stream on the calling goroutine until it waits
// or has ended, and hands the connection back.
func (c *conn) catchUp(then session.Step) {
	returned := false
	defer func() {
		c.judge()
		c.back.Store(true)
		c.shard.poke(c)
	}()
	defer func() { c.caught(recover(), returned) }()
	switch err := c.flush(); {
	case err != nil:
		c.Fail(err)
	case then.Status == hub.Ended:
		c.End(then)
	}
	c.Drive((*blocking)(c), func(time.Time) bool { return false })
	returned = true
}

// flush writes the rest, however long it takes.
func (c *conn) flush() error {
	rest := c.rest
	if len(rest) == 0 {
		return nil
	}
	if c.head != nil {
		rest = append([][]byte{c.head}, rest...)
		c.head = nil
	}
	if len(rest) > 1 && total(rest) <= PieceBytes {
		// One write, and not one more for the two bytes behind a chunk; what is larger is not
		// worth a copy.
		rest = [][]byte{slices.Concat(rest...)}
	}
	for _, p := range rest {
		if err := c.socket.Write(p); err != nil {
			return err
		}
	}
	c.Wrote(c.events, c.bytes)
	c.rest, c.events, c.bytes = nil, 0, 0
	return nil
}

// leave has a step's frames written by flush, from the n-th byte of what they are framed as.
func (c *conn) leave(w *session.Work, n int) {
	size := w.Size()
	if size == 0 {
		return
	}
	c.rest, c.events, c.bytes = skip(w.Frames, c.chunked, size, n), w.Events, size
	if w.Private() > 0 {
		c.rest = [][]byte{slices.Concat(c.rest...)}
	}
}

// blocking is a connection as the writer of its own goroutine.
type blocking conn

// Write implements session.Writer.
func (b *blocking) Write(frames ...[]byte) error {
	size := total(frames)
	if size == 0 {
		return nil // and no chunk of nothing, which is the end of the stream
	}
	c := (*conn)(b)
	c.rest = skip(frames, c.chunked, size, 0)
	return c.flush()
}

// Abort implements session.Writer. The socket is closed at the end.
func (b *blocking) Abort() error { return nil }

// total returns how many bytes frames have together.
func total(frames [][]byte) (size int) {
	for _, f := range frames {
		size += len(f)
	}
	return size
}
