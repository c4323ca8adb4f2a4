package redisstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// connections are all those of a backend. They tell each other what one of them finds out: that the
// way to a server is dead, or that another server is the master.
type connections struct {
	mu   sync.Mutex
	open map[*connection]bool
	// former are addresses of servers that are masters no more, and when they were last among the
	// servers at all: what somebody who does not know that yet wants of them fails at once.
	former map[string]time.Time
	// dialed is told of every new connection, if it is set: to where, and when dialing began. It
	// reports false for one that leads to the wrong server.
	dialed func(remote string, began time.Time) bool
}

func newConnections() *connections {
	return &connections{open: make(map[*connection]bool)}
}

var errFormer = &failure{ErrNotReady, "another server is the master"}

// dialHook makes a client's connections some of a backend's.
type dialHook struct {
	passing

	conns *connections
	live  bool // they wait for live messages
}

// DialHook implements redis.Hook.
func (h dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		h.conns.mu.Lock()
		_, former := h.conns.former[addr]
		h.conns.mu.Unlock()
		if former {
			return nil, errFormer
		}
		began := time.Now()
		inner, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return h.conns.add(inner, addr, h.live, began)
	}
}

func (cs *connections) add(inner net.Conn, addr string, live bool, began time.Time) (net.Conn, error) {
	c := &connection{Conn: inner, set: cs, addr: addr, live: live}
	if at := inner.RemoteAddr(); at != nil {
		c.remote = at.String()
	}
	c.heard.Store(now())
	cs.mu.Lock()
	cs.open[c] = true
	dialed := cs.dialed
	cs.mu.Unlock()
	if dialed != nil && !dialed(c.remote, began) {
		_ = c.Close()
		return nil, errFormer
	}
	if raw, beneathTLS := rawOf(inner); raw != nil {
		return &checkedConnection{connection: c, raw: raw, beneathTLS: beneathTLS}, nil
	}
	return c, nil
}

func (cs *connections) remove(c *connection) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c)
}

// closeThose closes the connections that a condition holds for.
func (cs *connections) closeThose(hold func(*connection) bool) {
	cs.mu.Lock()
	var those []*connection
	for c := range cs.open {
		if hold(c) {
			those = append(those, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range those {
		_ = c.Close()
	}
}

// refuse adds servers to those that no connection is dialed to. Those before stay until they are
// masters, or have not been among the nodes for long: a server that fails is not named among them,
// and a dial to one that is frozen would take until its timeout.
func (cs *connections) refuse(gone, masters, nodes map[string]bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.former == nil {
		cs.former = make(map[string]time.Time)
	}
	at := time.Now()
	for addr := range gone {
		cs.former[addr] = at
	}
	for addr, last := range cs.former {
		switch {
		case masters[addr], at.Sub(last) > keptFor:
			delete(cs.former, addr)
		case nodes[addr]:
			cs.former[addr] = at
		}
	}
}

// silent closes the connections to a server that were silent for as long as one of them was waited
// for in vain. Where a network has forgotten a connection it has mostly forgotten all of them, and
// each would cost somebody a timeout of his own. One that brought a little is slow, and not
// forgotten.
func (cs *connections) silent(which *connection, since int64) {
	if which.heard.Load() >= since {
		return
	}
	cs.closeThose(func(c *connection) bool {
		dead := c != which && c.remote == which.remote && c.heard.Load() < since
		if dead {
			c.silenced.Store(true)
		}
		return dead
	})
}

// errSilenced is with the errors of a connection that was closed because another one was waited for
// in vain.
var errSilenced = &failure{ErrUnreachable, "timeout"}

const (
	// leastProgress is how many bytes have to arrive within a timeout, so that the rest of a long
	// reply is waited for.
	leastProgress = 1 << 10
	// longestReply is how long one is waited for however much of it comes: a hub waits no longer
	// for a page, and a message alone is waited for less long. The ways to a server are few.
	longestReply = 30 * time.Second
	// writeChunk is how much is written within a timeout.
	writeChunk = 64 << 10
	// leastPatience is the shortest timeout that says something about a connection.
	leastPatience = time.Second
)

// connection is one to a server. Its timeouts are for silence: go-redis sets a deadline for a whole
// reply or command, which would make one that the link takes longer for impossible. So a deadline
// is put off as long as bytes go over; that of a reply for longestReply at most.
type connection struct {
	net.Conn
	set          *connections
	addr, remote string // as it was asked for, and as it is
	live         bool
	once         sync.Once

	greeted  atomic.Bool // something arrived
	silenced atomic.Bool // see connections.silent

	heard  atomic.Int64 // when something arrived last
	asked  atomic.Int64 // when the read deadline was set or put off
	began  atomic.Int64 // when it was set
	gained atomic.Int64 // bytes since it was set or put off
	sent   atomic.Int64 // bytes since something arrived
	// How long reading and writing may take.
	reading, writing atomic.Int64
}

// tooManyClients is what a server says before it hangs up on one more client. go-redis takes it for
// the answer to its first command, and reports only that the connection was closed.
var (
	tooManyClients    = []byte("-ERR max number of clients")
	errTooManyClients = errors.New("redisstream: too many clients")
)

// Read implements net.Conn.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		at := now()
		c.heard.Store(at)
		if !c.greeted.Swap(true) && bytes.HasPrefix(p[:n], tooManyClients) {
			return 0, errTooManyClients
		}
		c.sent.Store(0)
		if d := c.reading.Load(); d > 0 && c.gained.Add(int64(n)) >= leastProgress && at-c.asked.Load() > d/8 {
			c.putOff(at, d)
		}
		return n, err
	}
	if d := c.reading.Load(); d >= int64(leastPatience) && errors.Is(err, os.ErrDeadlineExceeded) {
		c.set.silent(c, c.asked.Load())
	}
	return n, c.explain(err)
}

// explain adds why the connection was closed.
func (c *connection) explain(err error) error {
	if err != nil && c.silenced.Load() {
		return fmt.Errorf("%w: %w", errSilenced, err)
	}
	return err
}

func (c *connection) putOff(at, d int64) {
	c.gained.Store(0)
	c.asked.Store(at)
	left := min(d, max(d, int64(longestReply))-(at-c.began.Load()))
	_ = c.Conn.SetReadDeadline(time.Now().Add(time.Duration(left))) // a connection that is closed says so at the next Read
}

// errUnsent is with the error of a Write, and so of the commands in it, if nothing of them was
// sent.
var errUnsent = errors.New("redisstream: not sent")

// Write implements net.Conn.
func (c *connection) Write(p []byte) (n int, err error) {
	for {
		k, err := c.Conn.Write(p[:min(len(p), writeChunk)])
		n, p = n+k, p[k:]
		// go-redis reads all replies before it writes again.
		err = c.explain(err)
		if c.sent.Add(int64(k)) == 0 && err != nil {
			err = fmt.Errorf("%w: %w", errUnsent, err)
		}
		if err != nil || len(p) == 0 {
			return n, err
		}
		if d := c.writing.Load(); d > 0 {
			_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Duration(d))) // as above
		}
	}
}

// SetReadDeadline implements net.Conn.
func (c *connection) SetReadDeadline(t time.Time) error {
	at := now()
	c.gained.Store(0)
	c.asked.Store(at)
	c.began.Store(at)
	c.reading.Store(until(t))
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *connection) SetWriteDeadline(t time.Time) error {
	c.writing.Store(until(t))
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *connection) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close implements net.Conn. The first of several calls does it.
func (c *connection) Close() (err error) {
	c.once.Do(func() {
		c.set.remove(c)
		err = c.Conn.Close()
	})
	return err
}

// checkedConnection is one that go-redis can look at before it uses it again, for that it was
// closed meanwhile. It does so with plain connections only; servers and balancers close those of
// TLS as well.
type checkedConnection struct {
	*connection
	raw        syscall.Conn
	beneathTLS bool
}

// SyscallConn implements syscall.Conn.
func (c *checkedConnection) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.raw.SyscallConn()
	if err != nil || !c.beneathTLS {
		return raw, err
	}
	return idleTLS{raw}, nil
}

// rawOf returns what has the file descriptor of a connection, nil if nothing does.
func rawOf(c net.Conn) (raw syscall.Conn, beneathTLS bool) {
	if raw, ok := c.(syscall.Conn); ok {
		return raw, false
	}
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		raw, _ := over.NetConn().(syscall.Conn)
		return raw, true
	}
	return nil, false
}

// idleTLS is what lies beneath a TLS connection that nobody uses. Bytes that wait there are no
// reply but a record of TLS itself, and mostly that of its end. go-redis would ask the TLS
// connection for a reply then, and wait for ever.
type idleTLS struct{ syscall.RawConn }

// Read implements syscall.RawConn.
func (r idleTLS) Read(f func(fd uintptr) bool) error {
	if waiting(r.RawConn) {
		return io.EOF
	}
	return r.RawConn.Read(f)
}

var started = time.Now()

// now counts nanoseconds by a clock that is never put back.
func now() int64 { return int64(time.Since(started)) }

// until returns how long it is until a deadline, 0 for none.
func until(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(int64(time.Until(t)), 1)
}
