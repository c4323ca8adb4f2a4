package feed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// Generate streams the events of a generator on one connection, from the checks of the request to
// the end of the stream. Call it on the handler's goroutine, where the generator runs too, before
// anything is written to w; headers set before are kept. Authorise before.
//
// yield sends one event and returns when it is written. It returns false when nothing more can be
// sent; the generator must return then. The context given to seq has the values of the request's.
// It ends at that moment, also while the generator blocks elsewhere, and context.Cause tells why,
// with one of the causes of this package. When Generate returns, the generator's deferred
// functions have run. Heartbeats are sent while it blocks.
//
// When the generator returns, the stream ends cleanly, and a client reconnects; tell a client
// that has nothing more to get so, by an event of an agreed type. An error that is hub.ErrClosed
// or ErrShutdown ends the stream as a shutdown does. Any other error that is yielded, or an event
// that sse.AppendEvent refuses, aborts the connection after an event of type stream-error, which
// does not say which error it was. So does a panic, which goes on. A deadline of the request's
// context is a rotation, and no error.
//
// It returns nil after a clean end and after HEAD; otherwise the cause of the end, or why there
// was no stream, as Serve does.
func Generate(w http.ResponseWriter, r *http.Request, seq func(context.Context) iter.Seq2[sse.Event, error], o Options) error {
	s := &stream{request: newRequest(w, r, nil, o)}
	if _, done, err := s.check(false, false); done {
		return err
	}
	if r.Method == http.MethodHead {
		return s.head()
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.left()
	defer s.free()
	underWriteTimeout(s.request)
	ctx, release := s.cut.context(s.r.Context())
	defer release()
	s.report.why = "a generator"
	return s.respond(func(writer *sse.Writer, done func(session.Result)) {
		session.Generate(ctx, s.o.config(), writer, func(ctx context.Context) iter.Seq2[sse.Event, error] {
			return draining(seq(ctx))
		}, done)
	})
}

// draining makes the end of a generator that passes on hub.ErrClosed, as one that ranges over a
// subscription does when the hub shuts down, the shutdown that it is.
func draining(seq iter.Seq2[sse.Event, error]) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		for event, err := range seq {
			if errors.Is(err, hub.ErrClosed) {
				err = fmt.Errorf("%w: %w", ErrShutdown, err)
			}
			if !yield(event, err) {
				return
			}
		}
	}
}
