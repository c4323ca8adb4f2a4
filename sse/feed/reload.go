package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// reload is a snapshot that is loaded again after a gap. It has a goroutine of its own, because the
// stream's own must go on with heartbeats, and end when it should, however long Snapshot takes.
type reload struct {
	cancel context.CancelFunc
	done   chan struct{}

	// Written before done is closed.
	subs     subscriptions
	frame    []byte
	err      error
	panicked any
}

// reloads holds one for each Snapshot that runs after a gap: what happened to all clients of a
// process must not come as one blow to what the snapshots are loaded from.
var reloads = make(chan struct{}, 64)

// startReload begins a reload. It wakes the stream when it is done.
func startReload(s *source) *reload {
	ctx, cancel := context.WithCancel(s.ctx)
	l := &reload{cancel: cancel, done: make(chan struct{}), err: errGoexit}
	feed, terms, set, spread, within, waker := s.feed, s.terms, s.set, s.spread, s.within, s.waker
	go func() {
		defer func() {
			if p := recover(); p != nil {
				l.panicked = session.Recovered(p) // goes on in Poll, where somebody can recover it
			}
			close(l.done)
			waker.Wake()
		}()
		if err := l.subs.subscribe(ctx, feed, terms, hub.Latest()); err != nil {
			l.err = err
			return
		}
		select {
		case <-time.After(upTo(spread)): // a gap is often everybody's, and the position is fixed
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
		state, err := load(ctx, within, "snapshot", feed.Snapshot)
		if err == nil {
			l.frame, err = snapshotFrame(cursorOf(set, l.subs.at), state)
		}
		l.err = err
	}()
	return l
}

// reloadState says a gap and begins anew: at the newest message of each topic, with a snapshot from
// behind it. The gap has no id: a client that is cut off before the snapshot comes back with its
// old cursor, to the same gap.
func (s *source) reloadState(w *session.Work) {
	if !s.messagesOnly {
		w.Frames = append(w.Frames, session.Gap(""))
	}
	s.reload = startReload(s)
}

// take takes over what a reload has brought.
func (s *source) take(l *reload) {
	l.cancel()
	if l.panicked != nil {
		panic(l.panicked)
	}
	s.reload = nil
	if l.err != nil {
		l.subs.close()
		s.err = l.err
		return
	}
	for i := range s.readers {
		if s.readers[i].deleted {
			l.subs.readers[i].ended = true // whatever was published under the name since
			l.subs.readers[i].deleted = true
		}
	}
	s.subscriptions.close()
	clear(s.readers) // they may be in the source itself, and would hold the subscriptions
	s.subscriptions, s.turn, s.passed = l.subs, 0, false
	s.watch()
	s.first = append(s.first, l.frame)
}

func (l *reload) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// stop ends the reload, and waits for it.
func (l *reload) stop() {
	l.cancel()
	<-l.done
	l.subs.close()
}

// load calls a feed's Snapshot or Hello, what of them, with a context that ends when the call
// takes too long, and otherwise with ctx: there may be something that is to be cleaned up with
// the stream, or a state that is loaded while it is encoded.
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

// errGoexit is what a Snapshot comes to that ends its goroutine, as the functions of package
// testing do.
var errGoexit = errors.New("feed: Snapshot called runtime.Goexit")

// snapshotFrame returns the event of a state that belongs to a cursor.
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
