package sse

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/headrace/headrace/internal/netconn"
	"github.com/headrace/headrace/internal/writers"
)

// DefaultWriteTimeout is how long a write of a [Writer] may take for each 64 KiB
// when it was not told otherwise.
const DefaultWriteTimeout = 10 * time.Second

// batchBytes is how much a Writer gathers before it hands it on: with one write
// for many small frames there is one chunk, not one for each.
const batchBytes = 32 << 10

// pieceBytes is how much has to be taken within one write timeout.
const pieceBytes = 64 << 10

var batches = sync.Pool{New: func() any {
	buf := make([]byte, 0, batchBytes)
	return &buf
}}

// A Writer sends events on a response. Make one with [Respond].
//
// Its methods may be called from several goroutines at once; each call reaches
// the client as a whole. A call blocks until the operating system has taken the
// bytes, at most for the write timeout for each 64 KiB. The first error ends the stream: it is
// what every later call returns.
type Writer struct {
	out   http.ResponseWriter
	rc    *http.ResponseController
	inner interface{ FlushError() error } // nil: it is not known whether it may be asked
	proto int                             // major * 10 + minor

	mu      sync.Mutex // held while writing
	err     error
	timeout time.Duration
	// armedFor is how many bytes may still be written before the deadline is set anew.
	armedFor int
	buf      []byte
	last     time.Time // when the last write ended; only kept for KeepAlive
	keeping  bool

	// deadline orders the write deadline of Abort after those of writes, without
	// waiting for a write that blocks.
	deadline   sync.Mutex
	aborted    bool
	noDeadline bool // the response writer has none
}

func newWriter(w http.ResponseWriter, r *http.Request) *Writer {
	return &Writer{
		out:     w,
		rc:      http.NewResponseController(w),
		proto:   r.ProtoMajor*10 + r.ProtoMinor,
		timeout: DefaultWriteTimeout,
	}
}

// SetWriteTimeout sets how long a write may take for each 64 KiB of it, beginning with the next
// one; d ≤ 0 means as long as it takes. The default is [DefaultWriteTimeout]. Writers that have
// no write deadline, such as those of httptest, ignore it.
func (w *Writer) SetWriteTimeout(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timeout = d
}

// Send sends one event and flushes. An event that [AppendEvent] refuses sends
// nothing and does not end the stream.
func (w *Writer) Send(e Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	buf, err := AppendEvent(w.buf[:0], e)
	if err != nil {
		return err
	}
	if cap(buf) <= keepBytes {
		w.buf = buf
	}
	return w.write(buf)
}

// Write sends frames, made by [AppendFrame] and its like, one after the other
// and flushes once. Without frames it only flushes. It keeps no reference to
// them.
func (w *Writer) Write(frames ...[]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(frames...)
}

// Heartbeat sends a [Heartbeat] and flushes.
func (w *Writer) Heartbeat() error {
	return w.Write([]byte(Heartbeat))
}

// KeepAlive sends a [Heartbeat] whenever nothing was sent for the given time,
// until stop is called or a write fails. It starts no goroutine while it waits.
// Stop waits for a heartbeat that is under way, may be called repeatedly, and
// must be called before the handler returns. An interval ≤ 0 sends none.
func (w *Writer) KeepAlive(interval time.Duration) (stop func()) {
	if interval <= 0 {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keeping = true
	w.last = time.Now()
	var timer *time.Timer
	stopped := false
	timer = time.AfterFunc(interval, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if stopped || w.err != nil {
			return
		}
		wait := interval - time.Since(w.last)
		if wait <= 0 {
			if w.write([]byte(Heartbeat)) != nil {
				return
			}
			wait = interval
		}
		timer.Reset(wait)
	})
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// Abort ends the connection in a way that a client cannot take for the end of
// the stream: bytes not yet sent are dropped, a write that blocks fails, and the
// handler should return. It does not block, except where the response writer has
// no write deadline: there it waits for a write that is under way. It returns an
// error that matches [http.ErrNotSupported] when the response writer has no
// means to end a connection; panicking with [http.ErrAbortHandler] is left then.
func (w *Writer) Abort() error {
	w.deadline.Lock()
	w.aborted = true
	err := w.rc.SetWriteDeadline(longAgo)
	w.deadline.Unlock()
	// The end of an HTTP/1.0 response is the end of its connection, so only a
	// reset tells the two apart.
	if w.proto == 10 || errors.Is(err, http.ErrNotSupported) {
		if resetErr := w.reset(); resetErr == nil || err != nil {
			return resetErr
		}
	}
	return err
}

// reset takes the connection over and closes it at once.
func (w *Writer) reset() error {
	// A response must not be written to while its connection is taken over.
	w.mu.Lock()
	defer w.mu.Unlock()
	// From the inside first: Gin's writer refuses once it has written.
	inner, _ := writers.Innermost(w.out)
	conn, _, err := http.NewResponseController(inner).Hijack()
	if err != nil {
		conn, _, err = w.rc.Hijack()
	}
	if err != nil {
		return err
	}
	if tcp, ok := netconn.Plain(conn).(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a failure leaves an ordinary close
	}
	return conn.Close()
}

func (w *Writer) write(frames ...[]byte) error {
	if w.err != nil {
		return w.err
	}
	err := w.arm()
	if err == nil {
		err = w.put(frames)
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = w.disarm()
	}
	if w.keeping {
		w.last = time.Now()
	}
	w.err = err
	return err
}

// put hands frames to the response writer, gathered into few writes.
func (w *Writer) put(frames [][]byte) error {
	if len(frames) == 1 {
		return w.piecewise(frames[0])
	}
	batch := batches.Get().(*[]byte)
	defer batches.Put(batch)
	buf := (*batch)[:0]
	for _, frame := range frames {
		if len(buf)+len(frame) > cap(buf) {
			if err := w.piecewise(buf); err != nil {
				return err
			}
			buf = buf[:0]
			if len(frame) > cap(buf) {
				if err := w.piecewise(frame); err != nil {
					return err
				}
				continue
			}
		}
		buf = append(buf, frame...)
	}
	return w.piecewise(buf)
}

// piecewise writes p with a deadline for each piece: a client that is slow but
// alive takes longer for a large frame than any deadline that notices a dead one
// in time.
func (w *Writer) piecewise(p []byte) error {
	for len(p) > 0 {
		if w.armedFor == 0 {
			if err := w.arm(); err != nil {
				return err
			}
		}
		piece := p[:min(len(p), w.armedFor)]
		w.armedFor -= len(piece)
		n, err := w.out.Write(piece)
		if err == nil && n < len(piece) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// flush goes through the outermost writer, so that middleware hands on what it
// holds, and then asks the server's own writer: some wrappers, Gin's among
// them, do not report that a flush failed, and the second flush of an empty
// buffer costs little and returns the error of a dead connection.
func (w *Writer) flush() error {
	if err := w.rc.Flush(); err != nil {
		return err
	}
	if w.inner != nil {
		return w.inner.FlushError()
	}
	return nil
}

// arm sets the deadline of one write. On a writer without deadlines writes take
// as long as they take.
func (w *Writer) arm() error {
	w.armedFor = pieceBytes
	if w.timeout <= 0 {
		// Respond replaces the deadline that Server.WriteTimeout has set.
		return w.setDeadline(time.Time{})
	}
	return w.setDeadline(time.Now().Add(w.timeout))
}

// disarm clears the deadline: on HTTP/2 it is a timer that ends the stream when
// it runs out, with or without a write. After a failed write it stays, so that
// the end of the handler cannot block either.
func (w *Writer) disarm() error {
	return w.setDeadline(time.Time{})
}

func (w *Writer) setDeadline(t time.Time) error {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	if w.aborted {
		return errAborted
	}
	if w.noDeadline {
		return nil
	}
	err := w.rc.SetWriteDeadline(t)
	if errors.Is(err, http.ErrNotSupported) {
		w.noDeadline = true
		return nil
	}
	return err
}

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

var errAborted = errors.New("sse: the stream was aborted")
