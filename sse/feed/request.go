package feed

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// request is a request for a stream, up to its answer or to the stream.
type request struct {
	w      http.ResponseWriter
	r      *http.Request
	o      Options
	topics []string // of a feed
	life   *life    // of a stream that may be detached; else nil

	free func() // takes the stream off the Limits
	left func() // tells the Drain that the stream has ended
}

func newRequest(w http.ResponseWriter, r *http.Request, topics []string, o Options) *request {
	q := &request{w: w, r: r, o: o, topics: topics}
	q.o.fill()
	return q
}

// check refuses requests that cannot be served, and tells those that want a document instead of a
// stream, if there is one to be had.
func (q *request) check(documents bool) (document, done bool, err error) {
	if q.r.Method != http.MethodGet && q.r.Method != http.MethodHead {
		q.w.Header().Set("Allow", "GET, HEAD")
		return false, true, q.refuse(http.StatusMethodNotAllowed, ErrMethod)
	}
	if documents {
		q.w.Header().Add("Vary", "Accept")
		if prefersDocument(q.r.Header) {
			return true, false, nil
		}
	}
	if ok, _ := accepts(q.r.Header); !ok {
		return false, true, q.refuse(http.StatusNotAcceptable, ErrAccept)
	}
	return false, false, nil
}

// enter counts the stream among those that are open, until leave is called.
func (q *request) enter() error {
	if q.o.Drain.hasBegun() {
		return q.draining()
	}
	release, err := q.o.Limits.acquire(q.r) // first, because Key may panic
	if err != nil {
		return q.tooMany(err)
	}
	left, ok := q.o.Drain.enter()
	if !ok {
		release()
		return q.draining()
	}
	q.free, q.left = release, left
	return nil
}

// open subscribes to a feed's topics. It blocks, at most for Options.ConnectTimeout and until the
// request's context ends.
func (q *request) open(f Feed, set *cursor.Set, where opening) (*source, error) {
	ctx := q.r.Context()
	s := &source{ctx: ctx, feed: f, set: set, gap: where.gap, spread: q.o.Retry, within: q.o.SnapshotTimeout}
	bounded := &patience{Context: ctx, timeout: q.o.ConnectTimeout}
	if q.life != nil {
		bounded.Context = q.life.request // the stream's may outlive it
	}
	defer bounded.end()
	s.readers, s.at = s.one.readers[:], s.one.at[:]
	if err := s.subscribe(bounded, f, where.at...); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		s.close()
		return nil, context.Cause(ctx) // there is still a status to be had
	}
	return s, nil
}

// head answers HEAD with what GET would begin with.
func (q *request) head() {
	sse.SetHeaders(q.w.Header(), q.r.ProtoMajor)
	q.w.WriteHeader(http.StatusOK)
}

// over returns why the request's context has ended, nil if it has not.
func (q *request) over() error {
	if cause := session.Gone(q.r.Context()); cause != nil || q.life == nil {
		return cause
	}
	return session.Gone(q.life.request) // a life ends a moment later
}

func (q *request) log(message string) {
	if q.o.Logger.Enabled(q.r.Context(), slog.LevelDebug) {
		q.o.Logger.Debug(message, "topics", q.topics, "proto", q.r.Proto)
	}
}
