package feed

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
	"github.com/headrace/headrace/sse"
)

// refuse answers with a status and its standard text, and returns err.
func (c *connection) refuse(code int, err error) error {
	c.w.Header().Set("Cache-Control", "no-store") // of several statuses caches would keep the answer
	http.Error(c.w, http.StatusText(code), code)
	return err
}

// refuseFor answers with the status that an error carries.
func (c *connection) refuseFor(err error) error {
	var status interface{ StatusCode() int }
	switch {
	case errors.As(err, &status):
		code := status.StatusCode()
		if code < 400 || code > 599 {
			code = http.StatusInternalServerError
		}
		if code >= http.StatusInternalServerError {
			c.o.Logger.Error("headrace: stream refused", "path", c.r.URL.Path, "status", code, "err", err)
		}
		return c.refuse(code, err)
	case errors.Is(err, hub.ErrTopic):
		return c.refuse(http.StatusNotFound, err)
	}
	c.o.Logger.Error("headrace: stream refused", "path", c.r.URL.Path, "status", http.StatusInternalServerError, "err", err)
	return c.refuse(http.StatusInternalServerError, err)
}

// unavailable tells the client to come back, because the hub gave no subscription.
func (c *connection) unavailable(err error) error {
	switch {
	case errors.Is(err, hub.ErrTopic):
		return c.refuse(http.StatusNotFound, err)
	case errors.Is(err, hub.ErrPosition):
		return c.refuseFor(err) // Options.Start is at fault
	case c.r.Context().Err() != nil:
		err = delivery.Gone(c.r.Context()) // answered all the same: perhaps it is the server that goes
	case errors.Is(err, hub.ErrClosed):
		err = ErrShutdown
		c.log("headrace: stream refused: shutting down")
	default:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		c.o.Logger.Warn("headrace: stream refused", "topic", c.topic, "err", err)
	}
	c.later()
	return err
}

// later answers a request that cannot be served now. An EventSource reconnects after the end of a stream, and never after any other status.
func (c *connection) later() {
	retry := c.o.retry()
	if _, byName := accepts(c.r.Header); byName {
		if writer, err := sse.Respond(c.w, c.r); err == nil {
			_ = writer.Write(delivery.Prelude(retry)) // a client that is gone needs no answer
			return
		} else if !errors.Is(err, sse.ErrNotFlushable) {
			return
		}
	}
	seconds := (retry + time.Second - 1) / time.Second
	c.w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	http.Error(c.w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
}
