package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/writers"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// Refuse answers a request that gets no stream with a status and, in a JSON object, a text, which
// the client sees. Nothing may have been written to w before.
//
// 429 and 503 are temporary: the client may come back after a random time of at least
// Options.Retry. An EventSource never comes back from any status but 200, so it gets a stream
// that ends at once and says when to come back. Other clients get the status with Retry-After.
func Refuse(w http.ResponseWriter, r *http.Request, code int, text string, o Options) {
	newRequest(w, r, nil, o).answer(code, text, 0)
}

// refuse answers with a status and its standard text, and returns err.
func (q *request) refuse(code int, err error) error {
	q.answer(code, strings.ToLower(http.StatusText(code)), 0)
	return err
}

// later tells the client to come back, after a time if one is given.
func (q *request) later(code int, retry time.Duration) {
	q.answer(code, strings.ToLower(http.StatusText(code)), retry)
}

// answer answers with a status and a text, or with a stream that ends where the status is
// temporary.
func (q *request) answer(code int, text string, retry time.Duration) {
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		if retry == 0 {
			retry = q.o.retry()
		}
		if q.comeBack(retry) {
			return
		}
	}
	h := q.w.Header()
	h.Del("Content-Length") // of the document that it is not
	h.Del("Last-Event-ID")
	h.Del("Heartbeat-Interval")
	h.Set("Cache-Control", "no-store") // of several statuses caches would keep the answer
	h.Set("Content-Type", documentType)
	h.Set("X-Content-Type-Options", "nosniff")
	q.w.WriteHeader(code)
	body, _ := json.Marshal(map[string]string{"error": text}) // strings have a JSON
	// A client that is gone needs no answer.
	_, _ = q.w.Write(body)
}

// bodyless answers with a status and no body. The write has Gin send what it would let others
// change.
func (q *request) bodyless(code int) {
	q.w.WriteHeader(code)
	_, _ = q.w.Write(nil)
}

// comeBack tells a client when to come back: an EventSource by a stream, and then it reports
// true, and others by a header.
func (q *request) comeBack(retry time.Duration) (answered bool) {
	switch _, byName := acceptOf(q.r.Header).takesStream(); {
	case !byName:
	case q.r.Method == http.MethodHead:
		sse.SetHeaders(q.w.Header(), q.r.ProtoMajor)
		q.bodyless(http.StatusOK)
		return true
	default:
		writer, err := sse.Respond(q.w, q.r)
		if err == nil {
			_ = writer.Write(session.Prelude(retry)) // a client that is gone needs no answer
		}
		if !errors.Is(err, sse.ErrNotFlushable) || writers.Committed(q.w) {
			return true
		}
	}
	seconds := (retry + time.Second - 1) / time.Second
	q.w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	return false
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
func (q *request) refuseFor(err error) error {
	code := statusOf(err)
	if code >= http.StatusInternalServerError {
		q.o.Logger.Error("headrace: stream refused", "path", q.r.URL.Path, "status", code, "err", err)
	}
	var challenging interface{ Challenge() string }
	if code == http.StatusUnauthorized && errors.As(err, &challenging) {
		q.w.Header().Add("WWW-Authenticate", challenging.Challenge())
	}
	return q.refuse(code, err)
}

// unavailable tells the client to come back, because the hub gave no subscription.
func (q *request) unavailable(err error) error {
	switch {
	case errors.Is(err, hub.ErrPosition):
		return q.refuseFor(err) // Options.Start is at fault
	case q.over() != nil:
		err = q.over() // answered all the same: perhaps it is the server that goes
	case errors.Is(err, hub.ErrClosed):
		err = ErrShutdown
		q.log("headrace: stream refused: shutting down")
	default:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		q.o.Logger.Warn("headrace: stream refused", "topics", q.topics, "err", err)
	}
	q.later(http.StatusServiceUnavailable, 0)
	return err
}

// unready tells the client why there is no Snapshot or Hello: by the status below 500 that the
// error carries, or to come back. What fails at the server may pass, and an EventSource stops at
// any status.
func (q *request) unready(err error) error {
	var status interface{ StatusCode() int }
	if errors.As(err, &status) && 400 <= status.StatusCode() && status.StatusCode() < 500 {
		return q.refuseFor(err)
	}
	if over := q.over(); over != nil {
		err = over
	} else {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		q.o.Logger.Error("headrace: stream refused", "topics", q.topics, "path", q.r.URL.Path, "err", err)
	}
	q.later(http.StatusServiceUnavailable, 0)
	return err
}

// draining tells the client to come back, to another instance.
func (q *request) draining() error {
	q.log("headrace: stream refused: shutting down")
	q.later(http.StatusServiceUnavailable, 0)
	return ErrShutdown
}

// tooMany tells the client to come back when there may be room.
func (q *request) tooMany(err error) error {
	// Debug, because whoever comes too often would fill the log.
	q.o.Logger.Debug("headrace: stream refused", "topics", q.topics, "path", q.r.URL.Path, "err", err)
	if many, ok := errors.AsType[*tooManyError](err); ok && many.process {
		process.warn(q.o.Logger)
	}
	if q.r.ProtoMajor == 1 {
		// Connections that wait for their next request hold descriptors too, and nothing bounds
		// those of the refused.
		q.w.Header().Set("Connection", "close")
	}
	q.later(statusOf(err), q.o.Limits.retry())
	return err
}
