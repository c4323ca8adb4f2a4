package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
	"github.com/headrace/headrace/sse"
)

// reload is a snapshot that is loaded again after a gap. It has a goroutine of its own, because the stream's own must go on with heartbeats, and end when it
// should, however long Snapshot takes.
type reload struct {
	cancel context.CancelFunc
	done   chan struct{}

	// Written before done is closed.
	subs     subscriptions
	frame    []byte
	err      error
	panicked any
}

// reloads holds one for each Snapshot that runs after a gap: what happened to all clients of a process must not come as one blow to what the snapshots are loaded from.
var reloads = make(chan struct{}, 64)

// heal says the gap and begins anew: at the newest place of each topic, with a snapshot from behind it. The gap has no id: a client that is cut off before the snapshot
// comes back with its old cursor, to the same gap.
func (s *source) heal(dst [][]byte) delivery.Batch {
	ctx, cancel := context.WithCancel(s.ctx)
	l := &reload{cancel: cancel, done: make(chan struct{}), err: errGoexit}
	s.reload = l
	go func() {
		defer close(l.done)
		defer func() {
			if p := recover(); p != nil {
				l.panicked = delivery.Recovered(p) // goes on in Poll, where somebody can recover it
			}
		}()
		subs, err := s.feed.subscribe(ctx, hub.Latest())
		if l.subs = subs; err != nil {
			l.err = err
			return
		}
		select {
		case <-time.After(upTo(s.spread)): // a gap is often everybody's, and the place is fixed
		case <-ctx.Done():
			l.err = context.Cause(ctx)
			return
		}
		select {
		case reloads <- struct{}{}:
			defer func() { <-reloads }()
		case <-ctx.Done():
			l.err = context.Cause(ctx)
			return
		}
		state, err := load(ctx, s.within, "snapshot", s.feed.Snapshot)
		if err == nil {
			l.frame, err = snapshotFrame(cursorOf(s.set, subs.readers), state)
		}
		l.err = err
	}()
	return delivery.Batch{Frames: dst, Gap: true}
}

// reloaded reports whether the reload is done, and takes over what it brought.
func (s *source) reloaded() bool {
	l := s.reload
	if !delivery.IsClosed(l.done) {
		return false
	}
	l.cancel()
	if l.panicked != nil {
		panic(l.panicked)
	}
	s.reload = nil
	if l.err != nil {
		l.subs.close()
		s.err = l.err
		return true
	}
	s.subscriptions.close()
	s.subscriptions, s.turn, s.passed = l.subs, 0, false
	if s.watcher != nil {
		s.Watch(s.watcher)
	}
	s.first = append(s.first, l.frame)
	return true
}

// load calls a feed's Snapshot or Hello, what of them, with a context that ends when the call takes too long, and otherwise with ctx: there may be something that is to be cleaned
// up with the stream, or a state that is loaded while it is encoded.
func load[T any](ctx context.Context, within time.Duration, what string, of func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(within, func() { cancel(errSnapshotTimeout) })
	defer timer.Stop()
	loaded, err := of(ctx)
	switch {
	case err == nil:
		return loaded, nil
	case errors.Is(context.Cause(ctx), errSnapshotTimeout) && !errors.Is(err, errSnapshotTimeout):
		err = fmt.Errorf("%w: %w", errSnapshotTimeout, err)
	}
	return loaded, fmt.Errorf("%s: %w", what, err)
}

// errSnapshotTimeout is context.DeadlineExceeded, too.
var errSnapshotTimeout = fmt.Errorf("it took longer than Options.SnapshotTimeout: %w", context.DeadlineExceeded)

// snapshotFrame returns the event of a state that belongs to a place.
func snapshotFrame(cursor string, state any) ([]byte, error) {
	if state == nil {
		state = json.RawMessage("null") // as in a document
	}
	frame, err := sse.AppendEvent(nil, sse.Event{ID: cursor, Type: "snapshot", Data: state})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return frame, nil
}

// state answers a request for the snapshot alone.
func (c *connection) state() error {
	f := c.feed
	h := c.w.Header()
	h.Set("Content-Type", documentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	s, err := c.open(true)
	if err != nil {
		return c.unavailable(err)
	}
	state, err := func() (any, error) {
		defer s.close() // before the answer is written, which may take as long as the client wants
		return load(c.r.Context(), c.o.SnapshotTimeout, "snapshot", f.Snapshot)
	}()
	if err == nil && c.r.Context().Err() != nil {
		err = c.r.Context().Err() // perhaps the right to the state was revoked
	}
	if err != nil {
		return c.unready(err)
	}
	body, err := encodeState(state)
	if err != nil {
		return c.unready(fmt.Errorf("snapshot: %w", err))
	}
	h.Set("Last-Event-ID", s.cursor())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return c.writeDocument(body)
}

func (c *connection) writeDocument(body []byte) error {
	rc := http.NewResponseController(c.w)
	for len(body) > 0 {
		piece := body[:min(len(body), delivery.PieceBytes)]
		_ = rc.SetWriteDeadline(time.Now().Add(c.o.WriteTimeout)) // writers without deadlines are for tests
		if _, err := c.w.Write(piece); err != nil {
			return fmt.Errorf("%w: %w", ErrWriteFailed, err)
		}
		body = body[len(piece):]
	}
	// The deadline of what the server still holds stays.
	return nil
}

// encodeState returns a snapshot as a JSON document. Text that goes into a stream as it is goes into the document as it is too when it is JSON, and as a string otherwise.
func encodeState(state any) ([]byte, error) {
	switch text := state.(type) {
	case []byte:
		state = string(text)
	case string:
	default:
		return json.Marshal(state)
	}
	if text := state.(string); json.Valid([]byte(text)) {
		return []byte(text), nil
	}
	return json.Marshal(state)
}

// errGoexit is what a Snapshot comes to that ends its goroutine, as the functions of package testing do.
var errGoexit = errors.New("feed: Snapshot called runtime.Goexit")
