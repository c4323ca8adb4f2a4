package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
	"github.com/headrace/headrace/sse"
)

// Serve serves a feed on one connection, from the checks of the request to the end of the stream, and returns then. It must be called on the handler's goroutine, before
// anything is written to w; headers set before are kept. Authorise before.
//
// With Options.Detach it may return as soon as the stream has begun, and then returns nil.
//
// It returns nil after a clean end, after HEAD, after the 204 for a finished feed, and after a snapshot in JSON. Otherwise the error is the cause of the end, or says why there was no stream: an error of
// this package, sse.ErrNotFlushable, or hub.ErrTopic. The client has its answer in any case. A panic of one of the feed's functions breaks the stream off and goes on.
func Serve(w http.ResponseWriter, r *http.Request, f Feed, o Options) error {
	c := newConnection(w, r, f.Topics, o)
	if done, err := c.admit(f); done {
		return err
	}
	defer c.leave()
	m, err := c.prepare()
	if m == nil {
		return err
	}
	// What was needed to get here is off the stack, which a stream keeps as large as it once was.
	socket := c.takeOver()
	switch {
	case socket == nil:
		return c.stream(func(w *sse.Writer, done func(delivery.Result)) { delivery.Run(c.r.Context(), m, w, done) })
	case c.life == nil:
		return c.direct(socket, m)
	}
	return c.detach(socket, m)
}

// admit decides whether there is to be a stream, and takes its place among those that are open. It reports true when the request has its answer.
func (c *connection) admit(f Feed) (done bool, err error) {
	document, done, err := c.check(f.Snapshot != nil)
	if done {
		return true, err
	}
	if c.feed, err = f.prepared(); err != nil {
		return true, c.refuseFor(err)
	}
	c.topics = c.feed.Topics
	if document {
		return true, c.state()
	}
	if c.r.Method == http.MethodHead {
		c.head()
		return true, nil
	}
	if err := c.enter(); err != nil {
		return true, err
	}
	if c.o.Detach {
		c.detachable()
	}
	return false, nil
}

// leave is called when the handler is done with the stream. One that is detached goes on.
func (c *connection) leave() {
	if c.release != nil {
		defer c.release()
	}
	if c.detached {
		return
	}
	if c.source != nil {
		c.source.close()
	}
	c.free()
	if ctx := c.r.Context(); c.taken && ctx.Done() != nil && ctx.Err() == nil {
		// The server's Shutdown does not wait for a connection that was taken over, so Drain.Wait has to, and for the handlers before this one too: the context of a request
		// ends when they have all returned. One whose client has left has ended already.
		context.AfterFunc(ctx, c.left)
		return
	}
	c.left()
}

// prepare opens the feed's place in its topics, and has everything ready that the stream begins with. It returns nil when the request has its answer.
func (c *connection) prepare() (*delivery.Machine, error) {
	opened := time.Now()
	s, err := c.open(false)
	if err != nil {
		return nil, c.unavailable(err)
	}
	config := c.o.config()
	if c.stated && !s.gap && s.finished(c.o.ConnectTimeout-time.Since(opened)) {
		c.log("headrace: feed is finished")
		c.w.Header().Set("Cache-Control", "no-store")
		c.w.WriteHeader(http.StatusNoContent)
		return nil, nil //nolint:nilnil // answered, and well
	}
	f := c.feed
	if f.Snapshot != nil && (!c.stated || s.lost()) {
		if c.stated {
			// Now there is still a status to be had, and nobody to wait for.
			s.close()
			if s, err = c.open(true); err != nil {
				return nil, c.unavailable(err)
			}
			s.gap = true
		}
		state, err := load(c.r.Context(), c.o.SnapshotTimeout, "snapshot", f.Snapshot)
		if err != nil {
			return nil, c.unready(err)
		}
		frame, err := snapshotFrame(s.cursor(), state)
		if err != nil {
			return nil, c.unready(err)
		}
		s.first = append(s.first, frame)
	}
	if (!c.stated || c.partly) && f.Snapshot == nil && !s.gap && !s.over() {
		config.Checkpoint = s.cursor()
	}
	if f.Hello != nil {
		if config.Hello, err = c.hello(f); err != nil {
			return nil, err
		}
	}
	return delivery.NewMachine(config, s), nil
}

var errConnect = errors.New("feed: connecting to the backend took too long")

// over reports whether nothing but the close event is to come.
func (s *source) over() bool {
	for i := range s.readers {
		if b := s.readers[i].peek(); b.Status != hub.Ended || b.Err != nil {
			if b.Status != hub.Ready {
				s.readers[i].first = nil // it holds for this moment
			}
			return false
		}
	}
	return true
}

// hello returns the frame that the connection begins with.
func (c *connection) hello(f Feed) ([]byte, error) {
	event, err := load(c.r.Context(), c.o.SnapshotTimeout, "hello", f.Hello)
	if err != nil {
		return nil, c.unready(err)
	}
	event.ID = ""
	if err := checkMapped(event.Type); err != nil {
		return nil, c.refuseFor(fmt.Errorf("feed: hello: %w", err))
	}
	frame, err := sse.AppendEvent(nil, event)
	if err != nil {
		return nil, c.unready(fmt.Errorf("hello: %w", err))
	}
	return frame, nil
}

// connection is one request and its response.
type connection struct {
	w http.ResponseWriter
	r *http.Request
	o Options
	// stated says that the client came with a cursor, partly that this knows not all topics.
	stated, partly bool

	feed   Feed
	source *source // nil before it is open
	free   func()  // gives the stream's place among the Limits back
	left   func()  // tells the Drain that the stream has ended

	report
	life     *life  // of a stream that may be detached; else nil
	release  func() // of the life, if it is our own
	detached bool   // it was: it goes on without the handler
	cause    error  // of the end
}

func newConnection(w http.ResponseWriter, r *http.Request, topics []string, o Options) *connection {
	c := &connection{w: w, r: r, o: o}
	c.o.fill()
	c.report = report{topics: topics, logger: c.o.Logger, onEnd: o.OnEnd}
	return c
}

// check refuses requests that cannot be served, and tells those that want a document instead of a stream, if there is one to be had.
func (c *connection) check(documents bool) (document, done bool, err error) {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.w.Header().Set("Allow", "GET, HEAD")
		return false, true, c.refuse(http.StatusMethodNotAllowed, ErrMethod)
	}
	if documents {
		c.w.Header().Add("Vary", "Accept")
		if prefersDocument(c.r.Header) {
			return true, false, nil
		}
	}
	if ok, _ := accepts(c.r.Header); !ok {
		return false, true, c.refuse(http.StatusNotAcceptable, ErrAccept)
	}
	return false, false, nil
}

// enter takes a place among the streams that are open, which c.left gives back.
func (c *connection) enter() error {
	if delivery.IsClosed(c.o.Drain.closing()) {
		return c.draining()
	}
	release, err := c.o.Limits.acquire(c.r) // first, because Key may panic
	if err != nil {
		return c.tooMany(err)
	}
	left, ok := c.o.Drain.enter()
	if !ok {
		release()
		return c.draining()
	}
	c.free, c.left = release, left
	return nil
}

// head answers HEAD with what GET would begin with.
func (c *connection) head() {
	sse.SetHeaders(c.w.Header(), c.r.ProtoMajor)
	c.w.WriteHeader(http.StatusOK)
}

// stream opens the stream, has it run, and reports its end. run calls done with the result exactly once, even when it panics.
func (c *connection) stream(run func(*sse.Writer, func(delivery.Result))) error {
	c.opened = time.Now()
	writer, err := sse.Respond(c.w, c.r)
	if err != nil {
		return c.unwritable(err)
	}
	writer.SetWriteTimeout(c.o.WriteTimeout)
	c.log("headrace: stream opened")
	run(writer, c.ended)
	return c.outcome()
}

// unwritable is for a response that cannot be a stream.
func (c *connection) unwritable(err error) error {
	if errors.Is(err, sse.ErrNotFlushable) {
		c.o.Logger.Error("headrace: the response cannot be a stream: a middleware buffers it; take http.TimeoutHandler and its like off this route",
			"topics", c.topics, "path", c.r.URL.Path, "err", err)
		return c.refuse(http.StatusInternalServerError, err)
	}
	c.ended(delivery.Result{Cause: fmt.Errorf("%w: %w", ErrWriteFailed, err)})
	return c.cause
}

// outcome returns what Serve returns after a stream.
func (c *connection) outcome() error {
	if delivery.Clean(c.cause) {
		return nil
	}
	return c.cause
}

// ended takes note of the end of the stream.
func (c *connection) ended(r delivery.Result) {
	c.cause = r.Cause
	c.report.ended(r)
}

func (c *connection) log(message string) {
	c.o.Logger.Debug(message, "topics", c.topics, "proto", c.r.Proto)
}
