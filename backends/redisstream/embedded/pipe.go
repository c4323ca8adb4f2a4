package embedded

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// newPipe returns the two ends of a connection within the process. Unlike net.Pipe it takes what is
// written without waiting for a reader: a client that writes a long pipeline reads no replies
// meanwhile, and the server reads no commands while it writes one. What is not read yet is kept,
// however much it is, as Redis keeps replies for its clients.
func newPipe() (client, server net.Conn) {
	a, b := newQueue(), newQueue()
	return &end{in: a, out: b}, &end{in: b, out: a}
}

// end is one end of a pipe. It has the deadlines of a net.Conn, but for writing, which never waits.
type end struct{ in, out *queue }

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }

// Close ends both directions: the other end reads what was written, and then EOF.
func (e *end) Close() error {
	e.out.end(false)
	e.in.end(true)
	return nil
}

func (e *end) LocalAddr() net.Addr  { return addr{} }
func (e *end) RemoteAddr() net.Addr { return addr{} }

func (e *end) SetDeadline(t time.Time) error      { e.in.setDeadline(t); return nil }
func (e *end) SetReadDeadline(t time.Time) error  { e.in.setDeadline(t); return nil }
func (e *end) SetWriteDeadline(_ time.Time) error { return nil }

// addr is the address of either end.
type addr struct{}

func (addr) Network() string { return "pipe" }
func (addr) String() string  { return "pipe" }

// keptBytes is how large an empty buffer may be that is kept.
const keptBytes = 64 << 10

// queue is one direction of a pipe.
type queue struct {
	mu             sync.Mutex
	bytes          bytes.Buffer // that are not read yet
	ended, dropped bool         // nobody writes any more; nobody reads
	changed        chan struct{}
	deadline       time.Time
}

func newQueue() *queue { return &queue{changed: make(chan struct{})} }

// notify wakes who reads. mu is held.
func (q *queue) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.dropped {
		return 0, io.ErrClosedPipe
	}
	q.bytes.Write(p)
	q.notify()
	return len(p), nil
}

func (q *queue) end(drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	if drop {
		q.dropped, q.bytes = true, bytes.Buffer{}
	}
	q.notify()
}

func (q *queue) setDeadline(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deadline = t
	q.notify()
}

// take reads what is there. Without anything it returns what tells of a change, and how long may be
// waited, 0 for any time.
func (q *queue) take(p []byte) (n int, changed <-chan struct{}, wait time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.deadline.IsZero() {
		if wait = time.Until(q.deadline); wait <= 0 {
			return 0, nil, 0, os.ErrDeadlineExceeded
		}
	}
	switch {
	case q.dropped:
		return 0, nil, 0, net.ErrClosed
	case q.bytes.Len() > 0 || len(p) == 0:
		n, err = q.bytes.Read(p)
		if q.bytes.Len() == 0 && q.bytes.Cap() > keptBytes {
			q.bytes = bytes.Buffer{}
		}
		return n, nil, 0, err
	case q.ended:
		return 0, nil, 0, io.EOF
	}
	return 0, q.changed, wait, nil
}

func (q *queue) read(p []byte) (int, error) {
	for {
		n, changed, wait, err := q.take(p)
		if changed == nil {
			return n, err
		}
		if wait == 0 {
			<-changed
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}
