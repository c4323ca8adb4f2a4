package delivery

import (
	"container/heap"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// shard is one goroutine of an engine and the connections it writes to. What is not said to be shared belongs to that goroutine, which runs while there are connections.
type shard struct {
	groups    map[any]*group
	deadlines deadlines
	conns     int // those that have joined and are not over
	list      [][]byte
	batch     []byte   // what was written last, as it was framed
	framed    [][]byte // the frames of batch
	chunked   bool     // how batch is framed

	mu      sync.Mutex
	running bool
	wake    chan struct{} // of the goroutine that runs; holds one: something was poked or is dirty
	joining int           // connections on their way
	dirty   []*group
	poked   []*conn
}

// group is a shard's connections that have something new at the same time.
type group struct {
	shard *shard
	key   any
	dirty atomic.Bool // is, or is about to be, in shard.dirty
	conns []*conn
}

// Wake implements hub.Watcher.
func (g *group) Wake() {
	if g.dirty.Swap(true) {
		return
	}
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	g.shard.dirty = append(g.shard.dirty, g)
	g.shard.signal()
}

// turns is how many full batches a connection gets before it is the others' turn.
const turns = 4

// deadlinesAtOnce is how many deadlines are seen to before what is new gets its turn: many connections may have begun at the same time.
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
		go s.run(s.wake)
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

func (s *shard) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shard) run(wake <-chan struct{}) {
	var (
		timer alarm
		dirty []*group
		poked []*conn
	)
	defer timer.stop()
	for {
		s.mu.Lock()
		dirty, s.dirty = s.dirty, dirty[:0]
		poked, s.poked = s.poked, poked[:0]
		if len(poked) == 0 && s.conns == 0 && s.joining == 0 {
			// Whoever joins from here on starts the goroutine anew.
			s.running, s.wake = false, nil
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()

		now := time.Now()
		for _, c := range poked {
			s.look(c, now)
		}
		for _, g := range dirty {
			g.dirty.Store(false) // before the polls: what comes after one sets it again
			for i := 0; i < len(g.conns); i++ {
				c := g.conns[i]
				if c.state != kept {
					continue
				}
				if s.step(c, now); c.state == left {
					i-- // another one has its place
				}
			}
		}
		for n := 0; n < deadlinesAtOnce && len(s.deadlines) > 0 && !now.Before(s.deadlines[0].due); n++ {
			c := s.deadlines[0]
			if next := c.machine.deadline(); now.Before(next) {
				c.due = next
				heap.Fix(&s.deadlines, 0)
				continue
			}
			s.step(c, now)
		}
		clear(dirty)
		clear(poked)
		s.forget()

		s.mu.Lock()
		idle := len(s.poked) == 0 && len(s.dirty) == 0 && s.conns+s.joining > 0
		s.mu.Unlock()
		if !idle {
			continue
		}
		var due time.Time
		if len(s.deadlines) > 0 {
			due = s.deadlines[0].due
		}
		select {
		case <-wake:
		case <-timer.at(due):
			timer.rang()
		}
	}
}

// forget lets go of the batch, so that an idle shard keeps no messages alive.
func (s *shard) forget() {
	clear(s.framed)
	s.framed = s.framed[:0]
	if cap(s.batch) > 2*BatchBytes {
		s.batch = nil
	}
	s.batch = s.batch[:0]
}

// look takes in a connection that has joined, or was handed back, and obeys what others want of it.
func (s *shard) look(c *conn, now time.Time) {
	switch c.state {
	case fresh:
		s.mu.Lock()
		s.joining--
		s.mu.Unlock()
		s.conns++
		c.state = kept
		s.enter(c)
	case away:
		if !c.back.Load() {
			return // its own goroutine obeys
		}
		c.state = kept
	case left:
		return
	}
	c.obey()
	if c.ended {
		s.leave(c)
		return
	}
	s.step(c, now)
}

// enter puts a connection into its group.
func (s *shard) enter(c *conn) {
	key := c.feed.Topic()
	g := s.groups[key]
	if g == nil {
		g = &group{shard: s, key: key}
		s.groups[key] = g
	}
	c.group, c.member = g, len(g.conns)
	g.conns = append(g.conns, c)
	c.feed.Watch(g)
}

// leave takes a connection out of everything: nobody touches it from here on.
func (s *shard) leave(c *conn) {
	g := c.group
	last := len(g.conns) - 1
	g.conns[c.member] = g.conns[last]
	g.conns[c.member].member = c.member
	g.conns[last] = nil
	if g.conns = g.conns[:last]; last == 0 {
		delete(s.groups, g.key)
	}
	if c.place >= 0 {
		heap.Remove(&s.deadlines, c.place)
	}
	s.conns--
	c.state, c.rest = left, nil
	c.isOver.Store(true)
	c.over.Done()
	c.socket.Release() // last: it is to find that the connection is over
}

// step writes what a connection has to write.
func (s *shard) step(c *conn, now time.Time) {
	for range turns {
		step := s.next(c, now)
		full := s.write(c, step)
		clear(step.Frames)
		step.Frames = nil
		switch {
		case c.ended:
			s.leave(c)
			return
		case full, step.Then == Fetch:
			s.send(c, step)
			return
		case step.Then == End:
			c.end(step)
			s.leave(c)
			return
		case step.Then == Wait && !IsClosed(step.Changed):
			s.schedule(c, step.Deadline, now)
			return
		}
	}
	s.poke(c)
}

// next asks the machine for its next step. A panic of its source ends its connection, and no other.
func (s *shard) next(c *conn, now time.Time) (step Step) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(Recovered(p))
			step = Step{}
		}
	}()
	step = c.machine.Next(now, s.list[:0])
	s.list = step.Frames
	return step
}

// write writes the frames of a step. It reports whether some are left, in c.rest.
func (s *shard) write(c *conn, step Step) (full bool) {
	if total(step.Frames) == 0 {
		return false // and no chunk of nothing, which is the end of the stream
	}
	size := s.frame(step.Frames, c.chunked)
	n, err := c.socket.TryWrite(s.batch)
	if err != nil {
		c.fail(err)
		return false
	}
	if n == len(s.batch) {
		c.count(step.Events, size)
		return false
	}
	c.rest, c.events, c.bytes = skip(step.Frames, c.chunked, size, n), step.Events, size
	return true
}

// frame makes s.batch of frames. The many connections that are at the same place follow each other here, and what was made for one is as good for the next.
func (s *shard) frame(frames [][]byte, chunked bool) (size int) {
	size = total(frames)
	if chunked == s.chunked && slices.EqualFunc(frames, s.framed, same) {
		return size
	}
	s.framed = append(s.framed[:0], frames...)
	s.chunked = chunked
	s.batch = s.batch[:0]
	if chunked {
		s.batch = appendChunkHead(s.batch, size)
	}
	for _, f := range frames {
		s.batch = append(s.batch, f...)
	}
	if chunked {
		s.batch = append(s.batch, crlf...)
	}
	return size
}

// same reports whether two frames are the same bytes in memory.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

const crlf = "\r\n"

func appendChunkHead(dst []byte, size int) []byte {
	return append(strconv.AppendUint(dst, uint64(size), 16), crlf...)
}

// skip returns what is left of frames, as they are framed, behind the first n bytes. It shares the frames.
func skip(frames [][]byte, chunked bool, size, n int) (rest [][]byte) {
	all := make([][]byte, 0, len(frames)+2)
	if chunked {
		all = append(all, appendChunkHead(nil, size))
	}
	all = append(all, frames...)
	if chunked {
		all = append(all, []byte(crlf))
	}
	for len(all) > 0 && n >= len(all[0]) {
		n -= len(all[0])
		all = all[1:]
	}
	if len(all) > 0 {
		all[0] = all[0][n:]
	}
	return slices.Clone(all)
}

// send gives a connection to a goroutine of its own.
func (s *shard) send(c *conn, then Step) {
	if c.place >= 0 {
		heap.Remove(&s.deadlines, c.place)
	}
	c.state = away
	c.back.Store(false)
	go c.catchUp(then)
}

// schedule sees to it that a connection is looked at by a time. One that only moves away from now is left where it is: when its place comes up nothing is due, and it gets a new one.
func (s *shard) schedule(c *conn, due, now time.Time) {
	switch {
	case due.IsZero():
		if c.place >= 0 {
			heap.Remove(&s.deadlines, c.place)
		}
	case c.place < 0:
		c.due = due
		heap.Push(&s.deadlines, c)
	case due.Before(c.due), !c.due.After(now):
		c.due = due
		heap.Fix(&s.deadlines, c.place)
	}
}

// deadlines is a heap of connections by the time at which something is due.
type deadlines []*conn

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

func (d *deadlines) Push(x any) {
	c := x.(*conn)
	c.place = len(*d)
	*d = append(*d, c)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	c := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	c.place = -1
	return c
}
