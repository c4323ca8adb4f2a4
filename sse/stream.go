package sse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A Stream is one client's way through a stream, over any number of
// connections. Make one with [Client.Stream].
type Stream struct {
	ctx    context.Context
	client Client
	lastID atomic.Pointer[string]
	// stated is what a request states: the newest of the last event IDs that a header can carry.
	stated  string
	handled string // what it was behind the last event that the caller has handled
	loaded  bool   // the store was asked
	keeper  keeper
	backoff backoff

	mu  sync.Mutex
	cut func() // ends the connection or the wait of now; nil while nobody ranges
}

// LastEventID returns the last event ID: the client's own before the first
// event. It can be ahead of the last event yielded, because a server can move it
// without an event. It is safe for concurrent use.
func (s *Stream) LastEventID() string { return *s.lastID.Load() }

// All connects and returns the events as they arrive; ranging blocks between
// them. When a connection ends, cleanly or not, it waits and connects again with
// the last event ID.
//
// The wait is what the server stated (retry:) after a connection that brought an
// event and ended cleanly; else at least [Client.MinBackoff]. It doubles with
// each connection in a row that was of no use, up to [Client.MaxBackoff], also
// where the server greets and then ends the stream cleanly. Of use is a
// connection that moved the last event ID, or that was open for MaxBackoff, and
// one that brought an event, asked to come back after a second or more, and
// ended cleanly.
//
// The sequence ends without an error when the server answers 204, and behind an
// event of type close without data, with which a feed says that it is finished.
// It ends with an error, yielded once with an
// empty event, when ctx ends (its cause), when the server answers a status that
// is final ([*StatusError], see [Client.FinalStatus]) or no event stream
// ([ErrContentType]), on an event that is too long ([ErrTooLong]), when no
// request can be made, and when [Client.Cursor] fails. Other statuses are
// failures like those of the network, and their Retry-After is kept.
//
// A last event ID that no header can carry, because of its control characters or
// its length, is not stated. The requests state the last one before it that can
// be, and the server sends again what came behind that one.
//
// Leaving the loop closes the connection. Ranging again, also behind the end,
// connects again with the last event ID. Only one goroutine may range at a time.
func (s *Stream) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := s.load(); err != nil {
			yield(Event{}, err)
			return
		}
		defer s.cuttable(nil)
		for s.round(yield) {
		}
	}
}

// load takes over what the store holds, at the first time, where the client was not told where to
// begin.
func (s *Stream) load() error {
	if s.loaded || s.keeper.store == nil || s.stated != "" {
		return nil
	}
	id, err := s.keeper.load(s.ctx)
	if err != nil {
		return err
	}
	s.move(id)
	s.handled, s.loaded = s.stated, true
	return nil
}

// keep saves the position. Everything that was yielded has been handled.
func (s *Stream) keep() error {
	s.handled = s.stated
	return s.keeper.save(s.ctx, s.handled)
}

// errRestart ends a round before its time.
var errRestart = errors.New("sse: restart")

// round is one connection and the wait behind it. It reports whether another round follows.
func (s *Stream) round(yield func(Event, error) bool) bool {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	s.cuttable(func() { cancel(errRestart) })
	end := s.connect(ctx, yield)
	switch {
	case end.over:
		return false
	case s.ctx.Err() != nil:
		yield(Event{}, context.Cause(s.ctx))
		return false
	case end.final:
		yield(Event{}, end.err)
		return false
	}
	wait := time.Duration(0)
	if errors.Is(context.Cause(ctx), errRestart) {
		end.err = nil
	} else {
		wait = s.backoff.after(end)
	}
	if s.client.OnReconnect != nil {
		s.client.OnReconnect(end.err, wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	if s.ctx.Err() != nil {
		yield(Event{}, context.Cause(s.ctx))
		return false
	}
	return true
}

// Restart ends the connection, or the wait for the next one, and connects again
// at once, with the last event ID: for a program that knows more of the network
// than the connection does. Events that were received already are yielded first.
// It does not wait, does nothing while nobody ranges over the stream, and is safe
// for concurrent use. Whoever calls it has to space the calls.
func (s *Stream) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		s.cut()
	}
}

// cuttable says what a restart does from now on.
func (s *Stream) cuttable(cut func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}

// connect makes one connection, within its round.
func (s *Stream) connect(round context.Context, yield func(Event, error) bool) (end ending) {
	ctx, cancel := context.WithCancelCause(round)
	defer cancel(nil)
	req, err := s.client.request(ctx, s.stated)
	if err != nil {
		return ending{err: err, final: ctx.Err() == nil} // a restart ends NewRequest too
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
	if resp.StatusCode != http.StatusOK {
		return s.client.refused(resp)
	}
	if !isStream(resp) {
		return ending{err: ErrContentType, final: true}
	}
	if s.client.OnOpen != nil {
		s.client.OnOpen(resp.Header)
	}
	body.r, body.limit = resp.Body, s.client.idle(resp.Header)
	opened, from := time.Now(), s.stated
	end = s.read(body, yield)
	end.lasted, end.moved = time.Since(opened), s.stated != from
	return end
}

// read yields the events of one connection.
func (s *Stream) read(body *idleReader, yield func(Event, error) bool) (end ending) {
	decoder := NewDecoder(body)
	decoder.MaxEventSize = s.client.MaxEventSize
	// Browsers keep the id over connections: an event without one has the id of
	// the event before it, wherever that was received.
	decoder.id, decoder.lastID = s.LastEventID(), s.LastEventID()
	decoder.moved = s.move
	decoder.asked = func(retry time.Duration) {
		end.asked = retry
		s.backoff.heard(retry)
		if s.client.OnRetry != nil {
			s.client.OnRetry(retry)
		}
	}
	decoder.comment = s.client.OnComment
	var unsaved error
	body.before = func() error {
		unsaved = s.keep()
		return unsaved
	}
	for {
		event, err := decoder.Decode()
		if err != nil {
			if unsaved == nil {
				unsaved = s.keep() // what came with the end
			}
			switch {
			case unsaved != nil:
				end.err, end.final = unsaved, true
			case err != io.EOF:
				end.err, end.final = body.reason(err), errors.Is(err, ErrTooLong)
			}
			return end
		}
		end.received = true
		if !yield(event, nil) {
			// Perhaps because it could not be handled.
			_ = s.keeper.save(s.ctx, s.handled)
			end.over = true
			return end
		}
		s.handled = s.stated
		if event.Type == "close" && event.Data == "" {
			// Coming back would only be answered with 204.
			end.err = s.keep()
			end.over, end.final = end.err == nil, true
			return end
		}
	}
}

// move takes over a last event ID.
func (s *Stream) move(id string) {
	s.lastID.Store(&id)
	if portable(id) {
		s.stated = id
	}
}

// An idleReader cancels the connection when a read takes longer than limit. The
// time the caller spends between reads does not count.
type idleReader struct {
	r      io.Reader
	before func() error  // called before a read, if set; its error is that of the read
	limit  time.Duration // 0 = none
	cancel context.CancelCauseFunc
	timer  *time.Timer
	fired  atomic.Bool
}

func (r *idleReader) Read(p []byte) (int, error) {
	if r.before != nil {
		if err := r.before(); err != nil {
			return 0, err
		}
	}
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
