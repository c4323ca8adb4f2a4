package direct

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/sse/feed/internal/session"
)

// loop is what one goroutine of a shard works with.
//
// Filter and Map are user code, and run on the shard's goroutine, because a goroutine for each
// message and connection would cost more than the delivery. A call may take long, or never
// return, and the other connections must not wait for it. So a timer looks at the loop while it
// runs user code. A call that it finds twice, patience apart, loses the shard: another goroutine
// takes the loop's place, and the one that is held up goes on as the connection's own when the
// call returns.
//
// A connection whose code was slow, or is not known yet, is not run by the shard at all but by a
// goroutine of its own each time, until it was quick for long enough; see conn.judge. And once a
// call was found to be slow, or looks have found user code running too often, all user code that is
// left of the pass at hand runs beside the shard (isWary). So the others wait for a few
// milliseconds in a pass at most, however many calls are slow or nearly so.
type loop struct {
	shard *shard
	work  session.Work
	batch batch
	timer session.Alarm
	dirty []*group // taken in this pass
	poked []*conn
	wary  bool

	// calls is odd while user code runs, and taken once the shard is lost.
	calls   atomic.Uint64
	calling *conn         // whose code it is; written before calls is
	seen    atomic.Uint64 // calls at the last look
	looks   atomic.Int32  // that have found user code running, in this pass

	mu      sync.Mutex // of the watch
	watch   *time.Timer
	ticking bool
	active  bool // user code was run in this pass
}

const (
	// patience is how long a call of user code may hold a shard up, and up to twice as long by
	// chance.
	patience = time.Millisecond
	// quick is how long a step with user code may take for the shard to run it. It is less than
	// patience, because others may have as many of them before it is their turn.
	quick = patience / 4
	// mostLooks is how many looks may find user code running before the rest of a pass is run
	// beside the shard.
	mostLooks = 4
	// trusted is how often user code was quick before a shard runs it, and distrust where the count
	// begins anew once it was slow.
	trusted  = 2
	distrust = -64
	// taken is the count of calls of a loop that has lost its shard.
	taken = ^uint64(0)
)

// isWary reports whether no more user code is to be run on the shard in this pass.
func (l *loop) isWary() bool { return l.wary || l.looks.Load() >= mostLooks }

// judge notes how quick the user code of a connection was, beside the shard.
func (c *conn) judge() {
	switch {
	case c.Slowest == 0:
		return // none was run
	case c.Slowest < quick:
		c.trust = min(c.trust+1, trusted)
	default:
		c.trust = distrust
	}
	c.Slowest = 0
}

// guarded is poll for a connection with user code. It reports false when the shard was lost
// meanwhile; the connection has caught up then, and is the shard's again.
func (l *loop) guarded(c *conn, now time.Time) (step session.Step, ours bool) {
	l.guard()
	l.calling = c
	call := l.calls.Add(1)
	step = l.poll(c, now)
	if l.calls.CompareAndSwap(call, call+1) {
		if l.seen.Load() == call {
			c.trust = 0 // it was running when somebody looked: it is to be judged beside the shard
		}
		return step, true
	}
	// The one who took the shard may not be done with what it takes over.
	l.mu.Lock()
	l.dirty, l.poked = nil, nil
	l.mu.Unlock()
	if c.Cause == nil {
		c.leave(&l.work, 0)
	}
	l.work.Forget()
	l.batch = batch{}
	c.Slowest = patience // at least
	c.catchUp(step)
	return session.Step{}, false
}

// poll asks a connection's machine for its next step. A panic of its source ends its connection,
// and no other.
func (l *loop) poll(c *conn, now time.Time) (step session.Step) {
	returned := false
	defer func() { c.caught(recover(), returned) }()
	step = c.Next(now, &l.work)
	returned = true
	return step
}

// caught is called behind user code, with what recover returned and whether the code has returned.
// It makes a panic, or an end of the goroutine, the end of the connection.
func (c *conn) caught(panicked any, returned bool) {
	if panicked != nil {
		c.Panic(session.Recovered(panicked))
	} else if !returned {
		c.Panic(errGoexit)
	}
}

// errGoexit is what user code comes to that ends its goroutine, as the functions of package testing
// do.
var errGoexit = errors.New("feed: Filter or Map called runtime.Goexit")

// write writes the frames of a step. It reports whether some are left, in c.rest.
func (l *loop) write(c *conn) (full bool) {
	size := l.work.Size()
	if size == 0 {
		return false // and no chunk of nothing, which is the end of the stream
	}
	l.batch.of(l.work.Frames, size, c.chunked, l.work.Private() > 0)
	p, head := l.batch.bytes, len(c.head)
	if head > 0 {
		p = slices.Concat(c.head, p)
	}
	n, err := c.socket.TryWrite(p)
	switch {
	case err != nil:
		c.Fail(err)
	case n < head:
		c.head = c.head[n:]
		c.leave(&l.work, 0)
		return true
	case n < len(p):
		c.head = nil
		c.leave(&l.work, n-head)
		return true
	default:
		c.head = nil
		c.Wrote(l.work.Events, size)
	}
	return false
}

// forget lets go of what a pass has worked with.
func (l *loop) forget() {
	clear(l.dirty)
	clear(l.poked)
	l.work.Forget()
	l.batch.forget()
	l.wary = false
	l.looks.Store(0)
	l.mu.Lock()
	l.active = false
	l.mu.Unlock()
}

// guard has the loop watched for the rest of the pass.
func (l *loop) guard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = true
	switch {
	case l.ticking:
	case l.watch == nil:
		l.ticking = true
		l.watch = time.AfterFunc(patience, l.look)
	default:
		l.ticking = true
		l.watch.Reset(patience)
	}
}

// look takes the shard away from a loop whose user code has not returned since the last look.
func (l *loop) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	call := l.calls.Load()
	if call%2 == 1 && call == l.seen.Load() && l.calls.CompareAndSwap(call, taken) {
		l.ticking = false
		l.shard.cede(l.calling)
		l.succeed()
		return
	}
	l.seen.Store(call)
	if call%2 == 1 {
		l.looks.Add(1)
	}
	if l.ticking = l.active; l.ticking {
		l.watch.Reset(patience)
	}
}

// succeed starts the goroutine that takes the place of one that user code holds up. It begins the
// pass anew; who had a turn already has nothing new.
func (l *loop) succeed() {
	s := l.shard
	s.mu.Lock()
	for _, g := range l.dirty {
		g.dirty.Store(true)
		s.dirty = append(s.dirty, g)
	}
	s.poked = append(s.poked, l.poked...)
	s.mu.Unlock()
	go s.run(&loop{shard: s, wary: true})
}

// stop ends the watch.
func (l *loop) stop() {
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watch != nil {
		l.watch.Stop()
	}
}

// abandon is called when the goroutine of a loop ends because user code has ended it. The
// connection whose code it was has its cause by now.
func (l *loop) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calling
	if l.calls.Swap(taken) == taken {
		// The shard was lost before: the connection is this goroutine's, to be handed back.
		c.back.Store(true)
		l.shard.poke(c)
		return
	}
	l.shard.leave(c)
	l.succeed()
}
