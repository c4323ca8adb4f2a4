package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/headrace/headrace/internal/writers"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/direct"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// Serve serves a feed on one connection, from the checks of the request to the end of the stream,
// and returns then. Call it on the handler's goroutine, before anything is written to w; headers
// set before are kept. Authorise before.
//
// With Options.Detach it may return as soon as the stream has begun, and then returns nil.
//
// HEAD is answered as GET is, as far as that is known without a stream: nothing is opened, counted
// or loaded. POST is answered where Options.Post allows it.
//
// It returns nil after a clean end, after HEAD, after a 204, and after a snapshot or a page of
// messages in JSON. Otherwise the error is the cause of the end, or says why there was no stream:
// an error of this package, sse.ErrNotFlushable, or hub.ErrTopic. The client has its answer in
// any case. A panic of one of the feed's functions aborts the stream and goes on from Serve.
func Serve(w http.ResponseWriter, r *http.Request, f Feed, o Options) error {
	s := &stream{request: newRequest(w, r, f.Topics, o)}
	if done, err := s.admit(f); done {
		return err
	}
	defer s.leave()
	underWriteTimeout(s.request)
	config, ok, err := s.prepare()
	if !ok {
		return err
	}
	// What was needed to get here is off the stack, which a stream keeps as large as it once was.
	socket := s.takeOver()
	switch {
	case socket == nil:
		return s.respond(func(w *sse.Writer, done func(session.Result)) {
			session.Run(s.r.Context(), config, s.source, w, done)
		})
	case s.life == nil:
		return s.direct(socket, config)
	}
	return s.detach(socket, config)
}

// engine carries the connections that can be taken over. It has goroutines only while it has
// connections, so that it may be everybody's: connections of different hubs share nothing but
// these.
var engine direct.Engine

// TakenOver reports whether Serve has taken over the connection below w, a response writer of the
// server or Gin's. Middleware that runs behind Serve must not flush such a writer: package
// net/http panics then.
func TakenOver(w http.ResponseWriter) bool { return direct.TakenOver(w) }

// stream is a request that may get a stream, and the stream.
type stream struct {
	*request
	report   report
	feed     Feed
	source   *source // nil before it is open
	release  func()  // of the life, if it is our own
	taken    bool    // the connection was taken over from the server
	detached bool    // the stream goes on without the handler
	cause    error   // of the end
}

// admit decides whether there is to be a stream, and counts it among those that are open. It
// reports true when the request has its answer.
func (s *stream) admit(f Feed) (done bool, err error) {
	as, done, err := s.check(f.Snapshot != nil, s.o.History != nil)
	if done {
		return true, err
	}
	if s.feed, err = f.prepared(); err == nil {
		err = s.o.check()
	}
	if err != nil {
		return true, s.refuseFor(err)
	}
	s.topics = s.feed.Topics
	if as == asPage || f.Snapshot == nil {
		if err := s.choose(); err != nil {
			return true, err
		}
	}
	switch {
	case as == asPage:
		return true, servePage(s.request, s.feed)
	case as == asDocument, s.r.Method == http.MethodHead:
		if done, err := s.absent(s.feed); done {
			return true, err
		}
		if as == asDocument {
			return true, serveDocument(s.request, s.feed)
		}
		return true, s.head()
	}
	if err := s.enter(); err != nil {
		return true, err
	}
	if s.o.Detach {
		s.detachable()
	}
	return false, nil
}

// leave is called when the handler is done with the stream. One that is detached goes on.
func (s *stream) leave() {
	if s.release != nil {
		defer s.release()
	}
	if s.detached {
		return
	}
	if s.source != nil {
		s.source.close()
	}
	s.free()
	if ctx := s.r.Context(); s.taken && ctx.Done() != nil && ctx.Err() == nil {
		// The server's Shutdown does not wait for a connection that was taken over, so Drain.Wait
		// has to, and for the handlers before this one too: the context of a request ends when
		// they have all returned. One whose client has left has ended already.
		context.AfterFunc(ctx, s.left)
		return
	}
	s.left()
}

// prepare subscribes to the feed's topics, and has everything ready that the stream begins with. It
// reports false when the request has its answer.
func (s *stream) prepare() (config session.Config, ok bool, err error) {
	opened := time.Now()
	f, set := s.feed, setOf(s.feed)
	text, stated := sse.LastEventID(s.r)
	where := openingOf(f, set, s.o.Start, text, stated)
	// Who comes back to what was deleted has an end of his own, and then nobody needs to be asked.
	back := s.o.EndDeleted && where.stated
	if !back {
		if done, err := s.absent(f); done {
			return config, false, err
		}
	}
	if s.source, err = s.open(f, set, where); err != nil {
		return config, false, s.unavailable(err)
	}
	config = s.o.config()
	ctx := s.r.Context()
	over := where.stated && !where.gap && s.source.finished(ctx, s.source.terms, s.o.ConnectTimeout-time.Since(opened))
	if over && (s.o.MessagesOnly || !s.source.lost()) { // a gap and a close are left out
		s.log("headrace: feed is finished")
		s.nothing()
		return config, false, nil
	}
	if back {
		if done, err := s.absent(f); done {
			return config, false, err
		}
	}
	if lost := where.gap || s.source.lost(); f.Snapshot != nil && !over && (!where.stated || lost) {
		if where.stated && !where.gap {
			// Now there is still a status to be had, and nobody to wait for.
			s.source.close()
			if s.source, err = s.open(f, set, latest(f)); err != nil {
				return config, false, s.unavailable(err)
			}
			s.source.gap = true
		}
		state, err := load(ctx, s.o.SnapshotTimeout, "snapshot", f.Snapshot)
		if err != nil {
			return config, false, s.unready(err)
		}
		frame, err := snapshotFrame(s.source.cursor(), state)
		if err != nil {
			return config, false, s.unready(err)
		}
		s.source.first = append(s.source.first, frame)
	}
	if (!where.stated || where.partly) && f.Snapshot == nil && !s.source.gap && !s.source.over() {
		config.Checkpoint = s.source.cursor()
	}
	s.source.messagesOnly = s.o.MessagesOnly
	if f.Hello != nil {
		if config.Hello, err = s.hello(); err != nil {
			return config, false, err
		}
	}
	return config, true, nil
}

// hello returns the frame that the connection begins with, or answers the request.
func (s *stream) hello() ([]byte, error) {
	event, err := load(s.r.Context(), s.o.SnapshotTimeout, "hello", s.feed.Hello)
	if err != nil {
		return nil, s.unready(err)
	}
	event.ID = ""
	if err := checkMapped(event.Type); err != nil {
		return nil, s.refuseFor(fmt.Errorf("feed: hello: %w", err))
	}
	frame, err := sse.AppendEvent(nil, event)
	if err != nil {
		return nil, s.unready(fmt.Errorf("hello: %w", err))
	}
	return frame, nil
}

// takeOver takes the connection over from the server where the engine can carry it. Nil means
// that the handler's own goroutine is to.
func (s *stream) takeOver() (socket direct.Socket) {
	socket, s.report.why = direct.TakeOver(s.w, s.r, s.o.WriteTimeout, s.life != nil)
	s.taken = socket != nil
	return socket
}

// begin notes that the stream is open from now on.
func (s *stream) begin() {
	s.report.topics, s.report.logger, s.report.onEnd = s.topics, s.o.Logger, s.o.OnEnd
	s.report.opened = time.Now()
	s.stateHeartbeat()
}

// direct serves the stream on a connection that was taken over.
func (s *stream) direct(socket direct.Socket, config session.Config) error {
	s.begin()
	s.log("headrace: stream opened")
	engine.Run(s.r.Context(), config, s.source, socket, direct.ResponseTo(s.r, s.w.Header()), s.ended)
	return s.outcome()
}

// respond opens the stream on the server's response, has it run, and reports its end. run calls
// done with the result exactly once, even when it panics.
func (s *stream) respond(run func(*sse.Writer, func(session.Result))) error {
	s.begin()
	writer, err := sse.Respond(s.w, s.r)
	if err != nil {
		return s.unwritable(err)
	}
	writer.SetWriteTimeout(s.o.WriteTimeout)
	s.log("headrace: stream opened")
	run(writer, s.ended)
	return s.outcome()
}

// unwritable is for a response that cannot be a stream.
func (s *stream) unwritable(err error) error {
	if errors.Is(err, sse.ErrNotFlushable) {
		s.o.Logger.Error("headrace: the response cannot be a stream: a middleware holds it back; take http.TimeoutHandler and its like off this route",
			"topics", s.topics, "path", s.r.URL.Path, "err", err)
		if writers.Committed(s.w) {
			return err // sse has answered below that middleware
		}
		return s.refuse(http.StatusInternalServerError, err)
	}
	s.ended(session.Result{Cause: fmt.Errorf("%w: %w", ErrWriteFailed, err)})
	return s.cause
}

// outcome returns what Serve returns after a stream.
func (s *stream) outcome() error {
	if session.Clean(s.cause) {
		return nil
	}
	return s.cause
}

// ended takes note of the end of the stream.
func (s *stream) ended(r session.Result) {
	r.Cause = s.cut.blame(r.Cause)
	s.cause = r.Cause
	s.report.ended(r)
}
