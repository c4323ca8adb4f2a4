package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

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
	readers  []reader
	state    any
	err      error
	panicked any
}

// heal says the gap and begins anew: at the newest place of each topic, with a snapshot from behind it. The gap has no id: a client that is cut off before the snapshot
// comes back with its old cursor, to the same gap.
func (s *source) heal(dst [][]byte) delivery.Batch {
	ctx, cancel := context.WithCancel(s.ctx)
	l := &reload{cancel: cancel, done: make(chan struct{})}
	s.reload = l
	go func() {
		defer close(l.done)
		defer func() { l.panicked = recover() }() // goes on in Poll, where somebody can recover it
		if l.readers, l.err = s.feed.subscribe(ctx, s.ctx, hub.Latest()); l.err == nil {
			l.state, l.err = s.feed.Snapshot(ctx)
		}
	}()
	return delivery.Batch{Frames: dst, Gap: true}
}

// reloaded reports whether the reload is done, and takes over what it brought.
func (s *source) reloaded() bool {
	l := s.reload
	if !isClosed(l.done) {
		return false
	}
	l.cancel()
	if l.panicked != nil {
		panic(l.panicked)
	}
	s.reload = nil
	if l.err != nil {
		closeAll(l.readers)
		s.err = l.err
		return true
	}
	closeAll(s.readers)
	s.readers, s.turn, s.passed = l.readers, 0, false
	s.show(l.state)
	return true
}

// show makes a snapshot the next frame.
func (s *source) show(state any) {
	if state == nil {
		state = json.RawMessage("null") // as in a document
	}
	frame, err := sse.AppendEvent(nil, sse.Event{ID: s.cursor(), Type: "snapshot", Data: state})
	if err != nil {
		s.err = fmt.Errorf("snapshot: %w", err)
		return
	}
	s.first = append(s.first, frame)
}

// state answers a request for the snapshot alone.
func (c *connection) state(f Feed) error {
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	s, err := c.open(f, true)
	if err != nil {
		return c.unavailable(err)
	}
	defer s.close()
	state, err := f.Snapshot(c.r.Context())
	if err != nil {
		return c.unready(fmt.Errorf("snapshot: %w", err))
	}
	body, err := encodeState(state)
	if err != nil {
		return c.refuseFor(fmt.Errorf("feed: snapshot: %w", err))
	}
	h.Set("Last-Event-ID", s.cursor())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, err = c.w.Write(body)
	return err
}

// encodeState returns a snapshot as a JSON document. What goes into a stream as it is goes into the document as it is too when it is JSON, and as a string otherwise.
func encodeState(state any) ([]byte, error) {
	switch text := state.(type) {
	case []byte:
		if json.Valid(text) {
			return text, nil
		}
		return json.Marshal(string(text))
	case json.RawMessage:
		return text, nil
	}
	return json.Marshal(state)
}
