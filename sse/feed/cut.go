package feed

import (
	"context"
	"errors"
	"net/http"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/headrace/headrace/internal/writers"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// cut is the end that http.Server's WriteTimeout makes of a stream whose response writer has no
// write deadline to put off. A nil cut is none.
type cut struct {
	begun time.Time
	after time.Duration
}

// warned has the types of the response writers that were warned of, so that it is once for each,
// and not for each connection.
var warned sync.Map

// underWriteTimeout warns of a response writer that hides deadlines from a server with a
// WriteTimeout, and has the stream know what will end it.
func underWriteTimeout(q *request) {
	server, ok := q.r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok || server.WriteTimeout <= 0 || !writers.HideDeadline(q.w) {
		return
	}
	if t := reflect.TypeOf(q.w); !saw(t) {
		q.o.Logger.Warn("headrace: http.Server's WriteTimeout will cut streams off: a middleware's response writer hides SetWriteDeadline; "+
			"give it a method Unwrap() http.ResponseWriter, or take that middleware off this route, or set WriteTimeout to 0",
			"writer", t.String(), "timeout", server.WriteTimeout, "topics", q.topics, "path", q.r.URL.Path)
	}
	q.cut = &cut{begun: time.Now(), after: server.WriteTimeout}
}

// context returns a context for a generator that says what ended the request's. release is called
// when the generator has returned.
func (c *cut) context(ctx context.Context) (blamed context.Context, release func()) {
	if c == nil {
		return ctx, func() {}
	}
	blamed, end := context.WithCancelCause(context.WithoutCancel(ctx))
	if ctx.Err() != nil { // at once: nothing may be sent before it is known
		end(c.blame(session.Ended(ctx)))
	}
	unbind := context.AfterFunc(ctx, func() { end(c.blame(session.Ended(ctx))) })
	return blamed, func() {
		unbind()
		end(nil)
	}
}

// saw reports whether a type was warned of, and notes that it is from now on.
func saw(t reflect.Type) bool {
	_, before := warned.LoadOrStore(t, true)
	return before
}

// blame returns the cause of a stream's end, or of its context's. What looks like the client's
// doing is the server's once the time is over. The server counts from a little before begun.
func (c *cut) blame(cause error) error {
	if c == nil || time.Since(c.begun) < c.after-c.after/10 {
		return cause
	}
	gone := errors.Is(cause, ErrClientGone) || errors.Is(cause, context.Canceled)
	if gone || errors.Is(cause, session.ErrWriteFailed) && errors.Is(cause, os.ErrDeadlineExceeded) {
		return ErrServerTimeout
	}
	return cause
}
