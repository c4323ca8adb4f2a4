package sse

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/headrace/headrace/internal/writers"
)

// reachable is the writer of middleware with a way to the server's own below
// it, which has the deadlines and can break a connection off.
type reachable struct {
	http.ResponseWriter
	below http.ResponseWriter
}

// Unwrap is for http.ResponseController.
func (w reachable) Unwrap() http.ResponseWriter { return w.below }

// FlushError is for http.ResponseController.
func (w reachable) FlushError() error { return http.NewResponseController(w.ResponseWriter).Flush() }

// reach returns a writer that writes through w and that can be unwrapped down to
// the server's. Writers of middleware often embed the one below and have no
// Unwrap method, gin-contrib/gzip's among them: http.Server.WriteTimeout would
// cut such a stream off, and nothing else could.
func reach(w http.ResponseWriter) (out, inner http.ResponseWriter) {
	inner, hidden := writers.Innermost(w)
	if !hidden {
		return w, inner
	}
	return reachable{w, inner}, inner
}

// open sends what a stream begins with, on a response writer that may be one of
// middleware.
//
// Middleware that has not decided yet what it makes of the response must not be
// flushed past: the head would leave without what it adds, Content-Encoding for
// one, and the client could not read the bytes behind it. So what is below it is
// left alone until something has come through.
func open(w *Writer, middleware, inner http.ResponseWriter, first []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if writers.Plain(middleware) {
		if below, _ := writers.Below(middleware); below != nil {
			w.inner, _ = inner.(interface{ FlushError() error })
		}
		return w.write(first)
	}
	if len(first) == 0 {
		first = []byte(Heartbeat) // there are writers that decide at the first bytes only
	}
	before, known := writers.Look(inner)
	if !known {
		return w.write(first)
	}
	flushed, past := writers.Flushed(middleware)
	o := opening{Writer: w, inner: inner, began: before.Body, past: past && writers.Plain(flushed)}
	through, err := o.send(first)
	if h := w.out.Header(); err == nil && !through && h.Get("Content-Encoding") == "" {
		// A writer that waits until there is enough to be worth compressing lets through what is
		// encoded already.
		h.Set("Content-Encoding", "identity")
		through, err = o.send([]byte(Heartbeat))
	}
	if err == nil && !through {
		err = o.refuse(middleware)
	}
	if err != nil {
		w.err = err
		return err
	}
	w.inner, _ = inner.(interface{ FlushError() error })
	return w.write()
}

// opening is a stream's first bytes on their way through middleware.
type opening struct {
	*Writer
	inner   http.ResponseWriter // of a server that is known
	past    bool                // a flush goes past the middleware, which has none
	began   int64
	written int64
}

// send writes p and reports whether what was written has come through: as it was,
// or as something else that a flush sends.
func (o *opening) send(p []byte) (through bool, err error) {
	if err := o.arm(); err != nil {
		return false, err
	}
	if err := o.piecewise(p); err != nil {
		return false, err
	}
	o.written += int64(len(p))
	if same, _ := o.came(); same || o.past {
		return same, nil
	}
	if err := o.flush(); err != nil {
		return false, err
	}
	same, sent := o.came()
	return same || sent, nil
}

func (o *opening) came() (same, sent bool) {
	now, _ := writers.Look(o.inner)
	came := now.Body - o.began
	return came == o.written, now.Sent && came > 0
}

// refuse answers below middleware that holds the stream back, or breaks the
// connection off where that is too late.
func (o *opening) refuse(middleware http.ResponseWriter) error {
	err := fmt.Errorf("%w: %T holds back what is written", ErrNotFlushable, middleware)
	if now, _ := writers.Look(o.inner); now.Committed {
		o.deadline.Lock()
		defer o.deadline.Unlock()
		o.aborted = true
		_ = o.rc.SetWriteDeadline(longAgo) // nothing else is left to be tried
		return err
	}
	const body = `{"error":"internal server error"}`
	h := o.inner.Header()
	h.Del("Content-Encoding")
	h.Del("X-Accel-Buffering")
	h.Del("Heartbeat-Interval")
	h.Set("Cache-Control", "no-store")
	if o.proto < 20 {
		h.Set("Connection", "close")
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body))) // what is held back cannot get behind it
	o.inner.WriteHeader(http.StatusInternalServerError)
	_, _ = o.inner.Write([]byte(body)) // a client that is gone needs no answer
	_ = http.NewResponseController(o.inner).Flush()
	return err
}
