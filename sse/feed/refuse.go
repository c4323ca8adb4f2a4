package feed

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
	"github.com/headrace/headrace/sse"
)

// refuse answers with a status and its standard text, and returns err.
func (c *connection) refuse(code int, err error) error {
	c.answer(code)
	return err
}

func (c *connection) answer(code int) {
	h := c.w.Header()
	h.Del("Content-Length") // of the document that it is not
	h.Del("Last-Event-ID")
	h.Set("Cache-Control", "no-store") // of several statuses caches would keep the answer
	h.Set("Content-Type", documentType)
	h.Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(code)
	fmt.Fprintf(c.w, "{\"error\":%q}", strings.ToLower(http.StatusText(code)))
}

// statusOf returns the status that an error carries, 404 for hub.ErrTopic, and 500 for any other.
func statusOf(err error) int {
	var status interface{ StatusCode() int }
	switch {
	case errors.As(err, &status):
		if code := status.StatusCode(); 400 <= code && code <= 599 {
			return code
		}
	case errors.Is(err, hub.ErrTopic):
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// refuseFor answers with the status that an error carries.
func (c *connection) refuseFor(err error) error {
	code := statusOf(err)
	if code >= http.StatusInternalServerError {
		c.o.Logger.Error("headrace: stream refused", "path", c.r.URL.Path, "status", code, "err", err)
	}
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		c.later(code, c.o.retry())
		return err
	}
	return c.refuse(code, err)
}

// unavailable tells the client to come back, because the hub gave no subscription.
func (c *connection) unavailable(err error) error {
	switch {
	case errors.Is(err, hub.ErrPosition):
		return c.refuseFor(err) // Options.Start is at fault
	case c.over() != nil:
		err = c.over() // answered all the same: perhaps it is the server that goes
	case errors.Is(err, hub.ErrClosed):
		err = ErrShutdown
		c.log("headrace: stream refused: shutting down")
	default:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		c.o.Logger.Warn("headrace: stream refused", "topics", c.topics, "err", err)
	}
	c.later(http.StatusServiceUnavailable, c.o.retry())
	return err
}

// unready tells the client why there is no Snapshot or Hello: by the status below 500 that the error carries, or to come back: what fails at the server may pass, and an EventSource stops at any status.
func (c *connection) unready(err error) error {
	var status interface{ StatusCode() int }
	if errors.As(err, &status) && 400 <= status.StatusCode() && status.StatusCode() < 500 {
		return c.refuseFor(err)
	}
	if over := c.over(); over != nil {
		err = over
	} else {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		c.o.Logger.Error("headrace: stream refused", "topics", c.topics, "path", c.r.URL.Path, "err", err)
	}
	c.later(http.StatusServiceUnavailable, c.o.retry())
	return err
}

// over returns why the request's context has ended, nil if it has not.
func (c *connection) over() error {
	if cause := delivery.Gone(c.r.Context()); cause != nil || c.life == nil {
		return cause
	}
	return delivery.Gone(c.life.request) // a life ends a moment later
}

// draining tells the client to come back, to another instance.
func (c *connection) draining() error {
	c.log("headrace: stream refused: shutting down")
	c.later(http.StatusServiceUnavailable, c.o.retry())
	return ErrShutdown
}

// tooMany tells the client to come back when there may be room.
func (c *connection) tooMany(err error) error {
	// Debug, because whoever comes too often would fill the log.
	c.o.Logger.Debug("headrace: stream refused", "topics", c.topics, "path", c.r.URL.Path, "err", err)
	c.later(statusOf(err), c.o.Limits.retry())
	return err
}

// later answers a request that cannot be served now, with a status unless the client is an EventSource.
func (c *connection) later(code int, retry time.Duration) {
	if !c.comeBack(retry) {
		c.answer(code)
	}
}

// Later tells a client that it may come back, for a handler that refuses it for now. An EventSource never comes back from any status but 200: it is answered with a stream that ends at once and says
// when to come back, and Later returns true. For other clients it sets Retry-After and returns false; they are to be answered with 429 or 503. Nothing may have been written to w
// before. The time is Options.Retry's.
func Later(w http.ResponseWriter, r *http.Request, o Options) (answered bool) {
	c := newConnection(w, r, nil, o)
	return c.comeBack(c.o.retry())
}

func (c *connection) comeBack(retry time.Duration) (answered bool) {
	if _, byName := accepts(c.r.Header); byName {
		writer, err := sse.Respond(c.w, c.r)
		if err == nil {
			_ = writer.Write(delivery.Prelude(retry)) // a client that is gone needs no answer
		}
		if !errors.Is(err, sse.ErrNotFlushable) {
			return true
		}
	}
	seconds := (retry + time.Second - 1) / time.Second
	c.w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	return false
}
