package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection of an engine. What is not said to be shared belongs to its owner: the shard, or while the state is away the connection's own goroutine.
type conn struct {
	shard   *shard
	machine *Machine
	feed    Feed
	socket  Socket
	ctx     context.Context
	chunked bool

	// The shard's.
	state  connState
	group  *group
	member int       // index in group.conns
	place  int       // index in the shard's deadlines, -1 when it is in none
	due    time.Time // the deadlines' order

	rest   [][]byte // of the last step, as framed, not written yet
	events int      // of that step
	bytes  int      // of that step
	ended  bool     // the machine has ended, or the connection failed
	failed bool     // the connection did, or the client has left
	result Result
	over   sync.WaitGroup // done when nobody touches the connection any more
	isOver atomic.Bool

	back atomic.Bool // the own goroutine is done
	told atomic.Bool // orders are new

	mu     sync.Mutex
	orders orders
}

type connState uint8

const (
	fresh connState = iota // on its way to the shard
	kept                   // the shard is the owner
	away                   // its own goroutine is
	left                   // nobody is
)

// orders are what others want of a connection's owner.
type orders struct {
	gone    bool // the client is
	ctxDone bool
	drain   bool
}

// live reads until the client leaves, or the stream is over, and closes the socket when the stream is.
func (c *conn) live() {
	forget, stop := func() {}, func() bool { return true }
	if c.ctx.Done() != nil {
		stop = context.AfterFunc(c.ctx, func() { c.tell(func(o *orders) { o.ctxDone = true }) })
	}
	if onClosing := c.machine.config.OnClosing; onClosing != nil {
		forget = onClosing(func() { c.tell(func(o *orders) { o.drain = true }) })
	}
	c.socket.Drop()
	if !c.isOver.Load() {
		c.tell(func(o *orders) { o.gone = true })
		c.socket.Interrupt()
	}
	c.over.Wait()
	stop()
	forget()
	c.socket.Close(!c.failed && !c.result.Aborted)
}

// tell leaves an order and wakes the owner.
func (c *conn) tell(change func(*orders)) {
	c.mu.Lock()
	change(&c.orders)
	c.mu.Unlock()
	c.told.Store(true)
	c.shard.poke(c)
}

// obey carries out what others have ordered.
func (c *conn) obey() {
	if c.ended || !c.told.Swap(false) {
		return
	}
	c.mu.Lock()
	o := c.orders
	c.mu.Unlock()
	if o.drain {
		c.machine.Drain(c.machine.config.drainAt())
	}
	switch cause := Gone(c.ctx); {
	case o.ctxDone && decided(cause):
		c.machine.Stop(cause)
	case cause != nil:
		c.ended, c.result.Cause = true, cause
	case o.gone:
		c.ended, c.result.Cause = true, ErrClientGone
	}
	c.failed = c.failed || o.gone
}

// catchUp runs the machine on a goroutine of its own until it waits, and hands the connection back.
func (c *conn) catchUp(then Step) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(Recovered(p))
		}
		c.back.Store(true)
		c.shard.poke(c)
	}()
	list := frameLists.Get().(*[][]byte)
	defer frameLists.Put(list)
	for {
		if err := c.flush(); err != nil {
			c.fail(err)
		}
		if c.ended {
			return
		}
		switch {
		case then.Then == Fetch:
			// In slices: an order that is no end of the context must be heard too.
			fetch(c.ctx, c.machine, then.Deadline, true)
		case then.Then == End:
			c.end(then)
			return
		case then.Then == Wait && !IsClosed(then.Changed):
			return
		}
		if c.obey(); c.ended {
			return
		}
		then = c.machine.Next(time.Now(), (*list)[:0])
		if size := total(then.Frames); size > 0 {
			c.rest = skip(then.Frames, c.chunked, size, 0)
			c.events, c.bytes = then.Events, size
		}
		clear(then.Frames)
		if cap(then.Frames) <= maxFrames {
			*list = then.Frames[:0]
		}
		then.Frames = nil
	}
}

// flush writes the rest, however long it takes.
func (c *conn) flush() error {
	rest := c.rest
	if len(rest) > 1 && total(rest) <= PieceBytes {
		// One write, and not one more for the two bytes behind a chunk; what is larger is not worth a copy.
		rest = [][]byte{slices.Concat(rest...)}
	}
	for _, p := range rest {
		if err := c.socket.Write(p); err != nil {
			return err
		}
	}
	c.count(c.events, c.bytes)
	c.rest, c.events, c.bytes = nil, 0, 0
	return nil
}

// total returns how many bytes frames have together.
func total(frames [][]byte) (size int) {
	for _, f := range frames {
		size += len(f)
	}
	return size
}

// count counts what was written.
func (c *conn) count(events, size int) {
	c.result.Events += events
	c.result.Bytes += int64(size)
}

// end takes over the end of the machine. Its last frames are written.
func (c *conn) end(step Step) {
	c.ended, c.result.Cause, c.result.Aborted = true, step.Cause, step.Abort
}

// panicked takes over what the source panicked with, which goes on where somebody can recover it.
func (c *conn) panicked(value any) {
	c.ended, c.result.Cause, c.result.Aborted, c.result.Panicked = true, ErrPanicked, true, value
}

// fail takes over the end of the connection.
func (c *conn) fail(err error) {
	c.ended, c.failed = true, true
	switch cause := Gone(c.ctx); {
	case cause != nil && !decided(cause):
		c.result.Cause = cause // which made the write fail
	case errors.Is(err, errInterrupted):
		c.result.Cause = ErrClientGone
	default:
		c.result.Cause = fmt.Errorf("%w: %w", ErrWriteFailed, err)
	}
}

// errInterrupted is matched by the error of a Write that Interrupt has made fail.
var errInterrupted = errors.New("interrupted")
