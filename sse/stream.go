package sse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// maxAsked bounds a wait that a server asks for: a typing error there must not
// silence a client for ever.
const maxAsked = time.Hour

// A Stream is one client's way through a stream, over any number of
// connections. Make one with [Client.Stream].
type Stream struct {
	ctx    context.Context
	client Client
	lastID atomic.Pointer[string]

	// asked is the reconnection time that the server stated, on this connection or
	// an earlier one.
	asked    time.Duration
	hasAsked bool
	failures int // in a row, without an event
}

// LastEventID returns the last event ID: the client's own before the first
// event. It can be ahead of the last event yielded, because a server can move it
// without an event. It is safe for concurrent use.
func (s *Stream) LastEventID() string { return *s.lastID.Load() }

// All connects and returns the events as they arrive; ranging blocks between
// them. When a connection ends, cleanly or not, it waits and connects again with
// the last event ID. The wait is what the server stated (retry:) after a
// connection that brought an event and ended cleanly; else at least
// [Client.MinBackoff], doubling with each failure in a row up to
// [Client.MaxBackoff]. An event ends the row. The statuses 429, 502, 503 and 504
// are failures too, and their Retry-After is kept.
//
// The sequence ends without an error when the server answers 204. It ends with
// an error, yielded once with an empty event, when ctx ends (its cause), when
// the server answers any other status ([*StatusError]) or no event stream
// ([ErrContentType]), on an event that is too long ([ErrTooLong]), and when no
// request can be made.
//
// Leaving the loop closes the connection. Ranging again connects again with the
// last event ID. Only one goroutine may range at a time.
func (s *Stream) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			end := s.connect(yield)
			if end.over {
				return
			}
			if s.ctx.Err() != nil {
				yield(Event{}, context.Cause(s.ctx))
				return
			}
			if end.final {
				yield(Event{}, end.err)
				return
			}
			wait := s.wait(end)
			if s.client.OnReconnect != nil {
				s.client.OnReconnect(end.err, wait)
			}
			if !sleep(s.ctx, wait) {
				yield(Event{}, context.Cause(s.ctx))
				return
			}
		}
	}
}

// ending says how one connection ended.
type ending struct {
	err      error // nil: the server ended the stream cleanly
	final    bool  // err ends the sequence
	over     bool  // the caller left the loop, or the server said that this is all
	received bool  // at least one event arrived
}

// connect does one connection.
func (s *Stream) connect(yield func(Event, error) bool) (end ending) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	req, err := s.client.request(ctx, s.LastEventID())
	if err != nil {
		return ending{err: err, final: true}
	}
	body := &idleReader{limit: s.client.IdleTimeout, cancel: cancel}
	body.arm()
	resp, err := s.client.HTTPClient.Do(req)
	body.disarm()
	if err != nil {
		// What net/http wraps it in repeats the URL, which may hold a token.
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			err = urlErr.Err
		}
		return ending{err: fmt.Errorf("sse: connect: %w", body.reason(err))}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return ending{over: true}
	}
	if err := check(resp); err != nil {
		var status *StatusError
		return ending{err: err, final: !errors.As(err, &status) || !status.temporary()}
	}

	body.r = resp.Body
	decoder := NewDecoder(body)
	decoder.MaxEventSize = s.client.MaxEventSize
	// Browsers keep the id over connections: an event without one has the id of
	// the event before it, wherever that was received.
	decoder.id, decoder.lastID = s.LastEventID(), s.LastEventID()
	decoder.moved = func(id string) { s.lastID.Store(&id) }
	for {
		event, err := decoder.Decode()
		if retry, ok := decoder.Retry(); ok {
			s.asked, s.hasAsked = min(retry, maxAsked), true
		}
		if err != nil {
			if err != io.EOF {
				end.err = body.reason(err)
				end.final = errors.Is(err, ErrTooLong)
			}
			return end
		}
		end.received = true
		s.failures = 0
		if !yield(event, nil) {
			end.over = true
			return end
		}
	}
}

// wait returns how long to wait after a connection ended as end says.
func (s *Stream) wait(end ending) time.Duration {
	wait := s.client.MinBackoff
	if s.hasAsked {
		wait = s.asked
		if end.err != nil || !end.received {
			wait = max(wait, s.client.MinBackoff)
		}
	}
	if end.err != nil {
		// A wait beyond the most is what the server asked for, and stays.
		for range s.failures {
			if wait >= s.client.MaxBackoff {
				break
			}
			wait = min(2*wait, s.client.MaxBackoff)
		}
		s.failures++
	}
	if status, ok := errors.AsType[*StatusError](end.err); ok {
		wait = max(wait, min(status.RetryAfter, maxAsked))
	}
	if half := int64(wait / 2); half > 0 && !s.client.NoJitter {
		wait += time.Duration(rand.Int64N(half))
	}
	return wait
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// An idleReader cancels the connection when a read takes longer than limit. The
// time the caller spends between reads does not count.
type idleReader struct {
	r      io.Reader
	limit  time.Duration // 0 = none
	cancel context.CancelCauseFunc
	timer  *time.Timer
	fired  atomic.Bool
}

func (r *idleReader) Read(p []byte) (int, error) {
	r.arm()
	defer r.disarm()
	return r.r.Read(p)
}

func (r *idleReader) arm() {
	switch {
	case r.limit <= 0:
	case r.timer == nil:
		r.timer = time.AfterFunc(r.limit, func() {
			r.fired.Store(true)
			r.cancel(ErrIdle)
		})
	default:
		r.timer.Reset(r.limit)
	}
}

func (r *idleReader) disarm() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

// reason returns why a read failed with err.
func (r *idleReader) reason(err error) error {
	if r.fired.Load() {
		return ErrIdle
	}
	return err
}
