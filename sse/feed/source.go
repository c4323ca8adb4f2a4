package feed

import (
	"context"
	"errors"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
)

// subscription is what a source needs of a *hub.Subscription.
type subscription interface {
	Poll(dst []*hub.Entry, limit int) hub.Batch
	Fetch(ctx context.Context) error
}

// source is a subscription as a delivery.Source.
type source struct {
	ctx     context.Context // of the request, which ends the subscription too
	sub     subscription
	closing <-chan struct{} // the hub's

	first  *hub.Batch   // polled before the stream began, and not yet delivered
	left   []*hub.Entry // polled beyond the budget, and not yet delivered
	limit  int          // entries to poll next, learnt from how many fit
	at     hub.ID       // the place after what was polled
	closed bool         // the event close was delivered
}

const (
	firstLimit = 8
	mostLimit  = 64
)

func newSource(ctx context.Context, sub subscription, start hub.ID, closing <-chan struct{}) *source {
	return &source{ctx: ctx, sub: sub, closing: closing, limit: firstLimit, at: start}
}

// peek returns what the next Poll will begin with.
func (s *source) peek() hub.Batch {
	if s.first == nil {
		b := s.sub.Poll(nil, firstLimit)
		s.first = &b
	}
	return *s.first
}

// forget lets the next Poll ask the subscription again.
func (s *source) forget() { s.first = nil }

// Poll implements delivery.Source.
func (s *source) Poll(dst [][]byte, budget int) delivery.Batch {
	if len(s.left) > 0 {
		dst = s.deliver(dst, s.left, budget)
		return delivery.Batch{Status: delivery.Ready, Frames: dst}
	}
	var entries [mostLimit]*hub.Entry
	var b hub.Batch
	if s.first != nil {
		b, s.first = *s.first, nil
	} else {
		b = s.sub.Poll(entries[:0], s.limit)
	}
	switch b.Status {
	case hub.Waiting:
		return delivery.Batch{Status: delivery.Waiting, Frames: dst, Changed: b.Changed}
	case hub.Behind:
		return delivery.Batch{Status: delivery.Behind, Frames: dst}
	case hub.Ended:
		return s.end(dst, b.Err)
	}
	s.at = b.At
	return delivery.Batch{
		Status: delivery.Ready,
		Frames: s.deliver(dst, b.Entries, budget),
		Gap:    b.Gap,
		At:     string(b.At),
	}
}

// deliver appends the entries' frames up to the budget and keeps the rest. Few are ever kept, and not for long: the next poll asks for as many as fitted.
func (s *source) deliver(dst [][]byte, entries []*hub.Entry, budget int) [][]byte {
	n := 0
	for n < len(entries) && (n == 0 || budget > 0) {
		e := entries[n]
		frame := e.Encoded(wire{})
		dst = append(dst, frame)
		budget -= len(frame)
		s.closed = s.closed || e.Final
		n++
	}
	if n == len(entries) {
		s.left = nil
		s.limit = min(2*s.limit, mostLimit)
		return dst
	}
	s.limit = max(n, 1)
	s.left = append([]*hub.Entry(nil), entries[n:]...)
	return dst
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
