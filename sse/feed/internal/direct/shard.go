package direct

import (
	"container/heap"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// shard is one goroutine of an engine and the connections it writes to. What is not said to be
// shared belongs to that goroutine, which runs while there are connections.
type shard struct {
	groups    map[any]*group
	deadlines deadlines
	conns     int    // those that have joined and are not over
	passes    uint64 // of the loop

	mu      sync.Mutex
	running bool
	wake    chan struct{} // of the goroutine that runs; holds one: something was poked or is dirty
	joining int           // connections on their way
	dirty   []*group
	poked   []*conn
}

func newShard() *shard { return &shard{groups: make(map[any]*group)} }

// turns is how many full batches a connection gets before it is the others' turn.
const turns = 4

// deadlinesAtOnce is how many deadlines are seen to before what is new gets its turn: many
// connections may have begun at the same time.
const deadlinesAtOnce = 512

// join gives a connection to the shard.
func (s *shard) join(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joining++
	s.poked = append(s.poked, c)
	if !s.running {
		s.running = true
		s.wake = make(chan struct{}, 1)
		go s.run(&loop{shard: s})
		return
	}
	s.signal()
}

// poke has the shard look at a connection.
func (s *shard) poke(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return // the connection is over, and so are all others
	}
	s.poked = append(s.poked, c)
	s.signal()
}

// signal wakes the loop. The lock is held.
func (s *shard) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine of the shard, until there are no connections any more, or until user code
// has held it for so long that another goroutine took its place.
func (s *shard) run(l *loop) {
	returned := false
	defer func() {
		l.stop()
		if !returned {
			l.abandon() // user code has called runtime.Goexit
		}
	}()
	for s.pass(l) {
		s.rest(l)
	}
	returned = true
}

// pass gives each connection its turn that was poked, whose topic has changed, or for which
// something is due. It reports false when there are no connections any more, or when the shard
// belongs to another goroutine now.
func (s *shard) pass(l *loop) bool {
	s.mu.Lock()
	l.dirty, s.dirty = s.dirty, l.dirty[:0]
	l.poked, s.poked = s.poked, l.poked[:0]
	if len(l.poked) == 0 && s.conns == 0 && s.joining == 0 {
		// Whoever joins from here on starts the goroutine anew.
		s.running, s.wake = false, nil
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	s.passes++
	now := time.Now()
	for _, g := range l.dirty {
		g.dirty.Store(false) // before any poll: what comes after one sets it again
	}
	for _, c := range l.poked {
		if !s.look(l, c, now) {
			return false
		}
	}
	for _, g := range l.dirty {
		for i := 0; i < len(g.members); i++ {
			c := g.members[i].conn
			switch {
			case c.state != kept:
				c.missed = true
			case c.pass == s.passes:
				// It had its turn for another of its topics.
			case !s.step(l, c, now):
				return false
			case c.state == left:
				i-- // another one has its place
			}
		}
	}
	for n := 0; n < deadlinesAtOnce && len(s.deadlines) > 0 && !now.Before(s.deadlines[0].due); n++ {
		c := s.deadlines[0]
		if next := c.Deadline(); now.Before(next) {
			c.due = next
			heap.Fix(&s.deadlines, 0)
			continue
		}
		if !s.step(l, c, now) {
			return false
		}
	}
	l.forget()
	return true
}

// rest waits until there is something new, or something is due.
func (s *shard) rest(l *loop) {
	s.mu.Lock()
	idle := len(s.poked) == 0 && len(s.dirty) == 0 && s.conns+s.joining > 0
	wake := s.wake
	s.mu.Unlock()
	if !idle {
		return
	}
	var due time.Time
	if len(s.deadlines) > 0 {
		due = s.deadlines[0].due
	}
	select {
	case <-wake:
	case <-l.timer.At(due):
		l.timer.Rang()
	}
}

// look takes in a connection that has joined or was handed back, and gives it its turn. It reports
// false as step does.
func (s *shard) look(l *loop, c *conn, now time.Time) bool {
	switch c.state {
	case fresh:
		s.mu.Lock()
		s.joining--
		s.mu.Unlock()
		s.conns++
		c.state = kept
		s.enter(c)
		c.Watch()
	case away:
		if !c.back.Load() {
			c.missed = true // its own goroutine may have looked before
			return true
		}
		c.state = kept
		if c.Cause != nil {
			s.leave(c)
			return true
		}
		if !c.missed {
			s.deadlines.schedule(c, c.Deadline(), now)
			return true
		}
	case left:
		return true
	}
	return s.step(l, c, now)
}

// leave takes a connection out of everything: nobody touches it from here on.
func (s *shard) leave(c *conn) {
	s.exit(c)
	s.deadlines.remove(c)
	s.conns--
	c.state, c.rest = left, nil
	c.isOver.Store(true)
	c.over.Done()
	c.socket.Release() // last: it is to find that the connection is over
}

// send gives a connection to a goroutine of its own.
func (s *shard) send(c *conn, then session.Step) {
	s.cede(c)
	go c.catchUp(then)
}

// cede makes a goroutine of its own the owner of a connection.
func (s *shard) cede(c *conn) {
	s.deadlines.remove(c)
	c.state, c.missed = away, false
	c.back.Store(false)
}

// step writes what a connection has to write. It reports false when the shard belongs to another
// goroutine now.
func (s *shard) step(l *loop, c *conn, now time.Time) bool {
	c.pass = s.passes
	if c.custom && (c.trust < trusted || l.isWary()) {
		s.send(c, session.Step{})
		return true
	}
	for range turns {
		var step session.Step
		if !c.custom {
			step = l.poll(c, now)
		} else {
			var ours bool
			if step, ours = l.guarded(c, now); !ours {
				return false
			}
		}
		full := c.Cause == nil && l.write(c)
		switch {
		case c.Cause != nil:
			s.leave(c)
			return true
		case full:
			s.send(c, step)
			return true
		case step.Status == hub.Ended:
			c.End(step)
			s.leave(c)
			return true
		case step.Status == hub.Waiting:
			s.deadlines.schedule(c, step.Deadline, now)
			return true
		}
	}
	s.poke(c)
	return true
}
