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

// Handler returns a handler that serves one topic. See the package comment for what clients see.
func Handler(h *hub.Hub, topic string, o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = Serve(w, r, h, topic, o) // logged there
	})
}

// HandlerFunc returns a handler that serves the topic that a function names for each request; hub.JoinTopic keeps values in it apart. It is the place to
// authorise, too: for an error made by Status the client gets that status, for hub.ErrTopic 404, for any other error 500. The text of errors goes to the log only.
func HandlerFunc(h *hub.Hub, topic func(*http.Request) (string, error), o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := topic(r)
		if err != nil {
			c := &connection{w: w, r: r, o: o.withDefaults(), topic: name}
			_ = c.refuseFor(err) // answered and logged there
			return
		}
		_ = Serve(w, r, h, name, o) // logged there
	})
}

// Serve serves a topic on one connection, from the checks of the request to the end of the stream, and returns then. It must be called on the handler's goroutine, before
// anything is written to w; headers set before are kept. Authorise before.
//
// It returns nil after a clean end, after HEAD, and after the 204 for a finished topic. Otherwise the error is the cause of the end, or says why there was no stream: an error of
// this package, sse.ErrNotFlushable, or hub.ErrTopic. The client has its answer in any case.
func Serve(w http.ResponseWriter, r *http.Request, h *hub.Hub, topic string, o Options) error {
	c := &connection{w: w, r: r, o: o.withDefaults(), topic: topic}
	if done, err := c.check(); done {
		return err
	}
	if err := hub.CheckTopic(topic); err != nil {
		return c.refuseFor(err)
	}
	if r.Method == http.MethodHead {
		c.head()
		return nil
	}

	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	until := time.Now().Add(c.o.ConnectTimeout)
	timeout := time.AfterFunc(c.o.ConnectTimeout, func() { cancel(errConnect) })
	defer timeout.Stop()

	at := c.o.Start
	cursor, stated := sse.LastEventID(r)
	if stated {
		at = hub.After(hub.ID(cursor))
	}
	sub, err := h.Subscribe(ctx, topic, at, hub.MarkGaps())
	if err != nil {
		return c.unavailable(err)
	}
	defer sub.Close()
	if !timeout.Stop() {
		return c.unavailable(errConnect) // the subscription ends with ctx
	}
	s := newSource(r.Context(), sub, sub.Start(), h.Closing())
	first := s.peek()
	if stated && first.Status == hub.Behind {
		// Only the backend knows whether the place is the end of a finished topic, and the status cannot wait. A failure shows in the stream.
		s.forget()
		fetch, stop := context.WithDeadline(r.Context(), until)
		_ = sub.Fetch(fetch)
		stop()
		first = s.peek()
	}
	finished := first.Status == hub.Ended && first.Err == nil
	if stated && finished {
		c.log("headrace: topic is finished")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	config := c.o.config()
	if !stated && !finished {
		config.Checkpoint = string(sub.Start())
	}
	return c.stream(func(writer *sse.Writer, done func(delivery.Result)) {
		done(delivery.Run(r.Context(), delivery.NewMachine(config, s), writer, c.o.Closing))
	})
}

var errConnect = errors.New("feed: connecting to the backend took too long")

// connection is one request and its response.
type connection struct {
	w     http.ResponseWriter
	r     *http.Request
	o     Options
	topic string
}

// check refuses requests that cannot become a stream.
func (c *connection) check() (done bool, err error) {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.w.Header().Set("Allow", "GET, HEAD")
		return true, c.refuse(http.StatusMethodNotAllowed, ErrMethod)
	}
	if ok, _ := accepts(c.r.Header); !ok {
		return true, c.refuse(http.StatusNotAcceptable, ErrAccept)
	}
	return false, nil
}

// head answers HEAD with what GET would begin with.
func (c *connection) head() {
	sse.SetHeaders(c.w.Header(), c.r.ProtoMajor)
	c.w.WriteHeader(http.StatusOK)
}

// stream opens the stream, has it run, and reports its end. run calls done with the result exactly once, even when it panics.
func (c *connection) stream(run func(*sse.Writer, func(delivery.Result))) error {
	opened := time.Now()
	writer, err := sse.Respond(c.w, c.r)
	if errors.Is(err, sse.ErrNotFlushable) {
		c.o.Logger.Error("headrace: the response cannot be a stream: a middleware buffers it; take http.TimeoutHandler and its like off this route",
			"topic", c.topic, "path", c.r.URL.Path, "err", err)
		return c.refuse(http.StatusInternalServerError, err)
	}
	var result delivery.Result
	report := func(r delivery.Result) {
		result = r
		c.ended(r, time.Since(opened))
	}
	if err != nil {
		report(delivery.Result{Cause: fmt.Errorf("%w: %w", ErrWriteFailed, err)})
		return result.Cause
	}
	writer.SetWriteTimeout(c.o.WriteTimeout)
	c.log("headrace: stream opened")
	run(writer, report)
	if delivery.Clean(result.Cause) {
		return nil
	}
	return result.Cause
}

func (c *connection) ended(r delivery.Result, took time.Duration) {
	args := []any{"topic", c.topic, "cause", r.Cause, "events", r.Events, "bytes", r.Bytes, "duration", took}
	switch {
	case r.Aborted && r.AbortErr != nil:
		c.o.Logger.Warn("headrace: stream failed, and the connection could not be aborted: the client takes it for a clean end", append(args, "err", r.AbortErr)...)
	case r.Aborted:
		c.o.Logger.Warn("headrace: stream aborted", args...)
	default:
		c.o.Logger.Debug("headrace: stream closed", args...)
	}
	if c.o.OnEnd != nil {
		c.o.OnEnd(End{Topic: c.topic, Cause: r.Cause, Events: r.Events, Bytes: r.Bytes, Duration: took})
	}
}

func (c *connection) log(message string) {
	c.o.Logger.Debug(message, "topic", c.topic, "proto", c.r.Proto)
}
