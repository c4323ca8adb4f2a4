package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/query"
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
	cut    *cut     // of a stream that the server's WriteTimeout will cut off; else nil

	free func() // takes the stream off the Limits
	left func() // tells the Drain that the stream has ended
}

func newRequest(w http.ResponseWriter, r *http.Request, topics []string, o Options) *request {
	q := &request{w: w, r: r, o: o, topics: topics}
	q.o.fill()
	q.chooseHeartbeat()
	return q
}

// form is what a request asks for.
type form uint8

const (
	asStream   form = iota
	asDocument      // the snapshot alone
	asPage          // a page of the messages
)

// check refuses requests that cannot be served, and tells what the others ask for, of what there
// is to be had beside a stream.
func (q *request) check(snapshot, history bool) (_ form, done bool, err error) {
	switch method := q.r.Method; {
	case method == http.MethodGet, method == http.MethodHead, method == http.MethodPost && q.o.Post:
	default:
		q.w.Header().Set("Allow", q.o.methods())
		return asStream, true, q.refuse(http.StatusMethodNotAllowed, ErrMethod)
	}
	as, accept := asStream, acceptOf(q.r.Header)
	if snapshot || history {
		q.w.Header().Add("Vary", "Accept")
		switch {
		case !accept.prefersDocument():
		case history && asksForPage(q.r.URL.RawQuery):
			as = asPage
		case snapshot:
			as = asDocument
		}
	}
	if ok, _ := accept.takesStream(); !ok && as == asStream {
		return asStream, true, q.refuse(http.StatusNotAcceptable, ErrAccept)
	}
	if q.r.Method == http.MethodPost {
		if q.r, err = withoutBody(q.w, q.r, q.o.ConnectTimeout); err != nil {
			return as, true, q.refuseFor(err)
		}
	}
	return as, false, nil
}

// choose takes over the start that the request has chosen.
func (q *request) choose() error {
	if !q.o.Starts.offers() {
		return nil
	}
	text, _ := query.Value(q.r.URL.RawQuery, "start")
	if text == "" {
		return nil
	}
	start, ok := q.o.Starts.position(text, time.Now())
	if !ok {
		return q.malformed(q.o.Starts.words())
	}
	q.o.Start = start
	return nil
}

// malformed answers 400 with what is allowed.
func (q *request) malformed(words string) error {
	q.answer(http.StatusBadRequest, words, 0)
	return fmt.Errorf("%w: %s", ErrParameter, words)
}

// absent answers the request with Options.Absent if none of the feed's topics exists, and then
// reports true. It blocks as long as the backend, at most for Options.ConnectTimeout.
func (q *request) absent(f Feed) (done bool, err error) {
	if q.o.Absent == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeoutCause(q.r.Context(), q.o.ConnectTimeout, errConnect)
	defer cancel()
	for _, topic := range f.Topics {
		info, err := f.Hub.Info(ctx, topic)
		switch {
		case errors.Is(err, hub.ErrUnsupported), err == nil && info.Exists:
			return false, nil
		case err != nil:
			return true, q.unavailable(err)
		}
	}
	q.log("headrace: none of the topics exists")
	if q.o.Absent == http.StatusNoContent {
		q.nothing()
		return true, nil
	}
	return true, q.refuse(q.o.Absent, ErrAbsent)
}

// nothing answers a client that need not come back.
func (q *request) nothing() {
	q.w.Header().Set("Cache-Control", "no-store")
	q.bodyless(http.StatusNoContent)
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
	s.terms = terms{q.o.ReplayMessages, q.o.ReplayBytes, q.o.EndDeleted}
	bounded := &patience{Context: ctx, timeout: q.o.ConnectTimeout}
	if q.life != nil {
		bounded.Context = q.life.request // the stream's may outlive it
	}
	defer bounded.end()
	s.readers, s.at = s.one.readers[:], s.one.at[:]
	if err := s.subscribe(bounded, f, s.terms, where.at...); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		s.close()
		return nil, context.Cause(ctx) // there is still a status to be had
	}
	return s, nil
}

// head answers HEAD with what GET would begin with.
func (q *request) head() error {
	if q.o.Drain.hasBegun() {
		return q.draining()
	}
	sse.SetHeaders(q.w.Header(), q.r.ProtoMajor)
	q.stateHeartbeat()
	q.bodyless(http.StatusOK)
	return nil
}

// Bounds of the heartbeat that a request may choose: each wakes a phone's radio, and a proxy may
// end what is silent for a minute.
const (
	shortestHeartbeat = 5 * time.Second
	longestHeartbeat  = time.Minute
)

// chooseHeartbeat takes over the heartbeat that the request has chosen. What is no number asks for
// events at the interval that there is.
func (q *request) chooseHeartbeat() {
	if q.r.URL == nil {
		return
	}
	text, chosen := query.Value(q.r.URL.RawQuery, "heartbeat")
	if !chosen {
		return
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(seconds) {
		seconds = q.o.Heartbeat.Seconds()
	}
	seconds = min(max(seconds, shortestHeartbeat.Seconds()), longestHeartbeat.Seconds())
	q.o.Heartbeat = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	q.o.VisibleHeartbeats = true
}

// stateHeartbeat sets the header by which clients know when a connection is dead: the seconds
// after which a heartbeat is due.
func (q *request) stateHeartbeat() {
	seconds := max(q.o.Heartbeat.Round(time.Millisecond), time.Millisecond).Seconds()
	q.w.Header().Set("Heartbeat-Interval", strconv.FormatFloat(seconds, 'f', -1, 64))
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
