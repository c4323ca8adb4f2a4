package feed

import (
	"context"
	"errors"
	"sync"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
)

// subscription is what a source needs of a *hub.Subscription.
type subscription interface {
	Poll(dst []*hub.Entry, limit, bytes int) hub.Batch
	Fetch(ctx context.Context) error
}

// source is a subscription as a delivery.Source.
type source struct {
	ctx     context.Context // of the request, which ends the subscription too
	sub     subscription
	closing <-chan struct{} // the hub's

	first  *hub.Batch // polled before the stream began, and not yet delivered
	at     hub.ID     // the place after what was polled
	closed bool       // the event close was delivered
}

// pollLimit is how many entries one poll takes at most.
const pollLimit = 64

// entryLists are lent for the time of one poll: a connection that waits should hold nothing.
var entryLists = sync.Pool{New: func() any { return new([pollLimit]*hub.Entry) }}

func newSource(ctx context.Context, sub subscription, start hub.ID, closing <-chan struct{}) *source {
	return &source{ctx: ctx, sub: sub, closing: closing, at: start}
}

// peek returns what the next Poll will begin with.
func (s *source) peek() hub.Batch {
	if s.first == nil {
		b := s.sub.Poll(nil, 1, 1)
		s.first = &b
	}
	return *s.first
}

// forget lets the next Poll ask the subscription again.
func (s *source) forget() { s.first = nil }

// Poll implements delivery.Source.
func (s *source) Poll(dst [][]byte, budget int) delivery.Batch {
	if s.first != nil {
		b := *s.first
		s.first = nil
		return s.deliver(dst, b)
	}
	entries := entryLists.Get().(*[pollLimit]*hub.Entry)
	defer func() {
		clear(entries[:]) // the pool must not keep messages alive
		entryLists.Put(entries)
	}()
	return s.deliver(dst, s.sub.Poll(entries[:0], pollLimit, budget))
}

// deliver translates a batch.
func (s *source) deliver(dst [][]byte, b hub.Batch) delivery.Batch {
	switch b.Status {
	case hub.Waiting:
		return delivery.Batch{Status: delivery.Waiting, Frames: dst, Changed: b.Changed}
	case hub.Behind:
		return delivery.Batch{Status: delivery.Behind, Frames: dst}
	case hub.Ended:
		return s.end(dst, b.Err)
	}
	s.at = b.At
	for _, e := range b.Entries {
		dst = append(dst, e.Encoded(wire{}))
		s.closed = s.closed || e.Final
	}
	return delivery.Batch{Status: delivery.Ready, Frames: dst, Gap: b.Gap, At: string(b.At)}
}

// end translates the end of the subscription.
func (s *source) end(dst [][]byte, err error) delivery.Batch {
	switch {
	case err == nil && !s.closed:
		// The topic was finished before the place where this reader stands, so the message that says so is not among its messages.
		s.closed = true
		s.first = &hub.Batch{Status: hub.Ended, At: s.at}
		return delivery.Batch{Status: delivery.Ready, Frames: append(dst, closeFrame(s.at))}
	case errors.Is(err, hub.ErrClosed) && isClosed(s.closing):
		err = delivery.ErrShutdown
	case s.ctx.Err() != nil && !errors.Is(err, delivery.ErrShutdown):
		// The subscription ended with the request, a moment before the driver saw that.
		err = delivery.ErrClientGone
	}
	return delivery.Batch{Status: delivery.Ended, Frames: dst, Err: err}
}

// Fetch implements delivery.Source.
func (s *source) Fetch(ctx context.Context) error { return s.sub.Fetch(ctx) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
