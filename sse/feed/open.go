package feed

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// open subscribes to a feed's topics at the places that the client's cursor names, or where it should begin. With fresh the cursor does not count. It blocks, at most for Options.ConnectTimeout.
func (c *connection) open(fresh bool) (*source, error) {
	f := c.feed
	s := &source{ctx: c.r.Context(), feed: f, spread: c.o.Retry, within: c.o.SnapshotTimeout}
	if len(f.Topics) > 1 {
		s.set = newTopicSet(f.Topics)
	}
	ctx := s.ctx
	if c.life != nil {
		ctx = c.life.request // what derives from a context makes it larger, and this one goes with the handler
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.ConnectTimeout, errConnect)
	defer cancel()
	at := make([]hub.Position, len(f.Topics))
	for i := range at {
		at[i] = c.o.Start
		if f.Snapshot != nil {
			at[i] = hub.Latest()
		}
	}
	if !fresh {
		s.place(c, at)
	}
	var err error
	if s.subscriptions, err = f.subscribe(ctx, at...); err != nil {
		return nil, err
	}
	if s.ctx.Err() != nil {
		s.close()
		return nil, context.Cause(s.ctx) // there is still a status to be had
	}
	c.source = s
	return s, nil
}

// place takes the client's cursor apart.
func (s *source) place(c *connection, at []hub.Position) {
	cursor, stated := sse.LastEventID(c.r)
	if c.stated = stated; !stated {
		return
	}
	if len(at) == 1 && !strings.HasPrefix(cursor, vectorPrefix) {
		at[0] = hub.After(hub.ID(cursor))
		return
	}
	set := s.set
	if set == nil {
		set = newTopicSet(s.feed.Topics) // the route may have had several before
	}
	places, ok := set.parse(cursor)
	switch {
	case ok:
	case len(at) == 1:
		at[0] = hub.After(hub.ID(cursor))
		return
	default:
		s.gap = true // of which topic it is the place, if of any, nobody can tell
		return
	}
	for i, p := range places {
		switch p.state {
		case placeKnown:
			at[i] = hub.After(p.id)
		case placeDoubtful:
			s.gap = true
		case placeMissing:
			c.partly = true
		}
	}
	if s.feed.Snapshot != nil && c.partly {
		// The client has no state of a topic that has come in since.
		c.stated, s.gap = false, false
		for i := range at {
			at[i] = hub.Latest()
		}
	}
}

// subscribe opens a subscription for each topic, at once, at its position; one position is for all. ctx bounds the opening.
func (f Feed) subscribe(ctx context.Context, at ...hub.Position) (subscriptions, error) {
	subs := subscriptions{make([]reader, len(f.Topics))}
	errs := make([]error, len(f.Topics))
	open := func(i int) {
		sub, err := f.Hub.Subscribe(ctx, f.Topics[i], at[min(i, len(at)-1)], hub.MarkGaps(), hub.UntilClosed())
		if err != nil {
			errs[i] = err
			return
		}
		subs.readers[i] = reader{topic: f.Topics[i], sub: sub, at: sub.Start()}
	}
	var opening sync.WaitGroup
	for i := 1; i < len(f.Topics); i++ {
		opening.Go(func() { open(i) })
	}
	open(0)
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		subs.close()
		return subscriptions{}, err
	}
	return subs, nil
}

// finished reports whether the client's cursor is at the end of all topics. Only the backend may know that, and a status cannot wait for the stream: so the first page is
// fetched here, within a time. A failure shows in the stream.
func (s *source) finished(within time.Duration) bool {
	ctx, cancel := context.WithTimeout(s.ctx, within)
	defer cancel()
	for i := range s.readers {
		r := &s.readers[i]
		b := r.peek()
		if b.Status == hub.Behind {
			r.first = nil
			_ = r.sub.Fetch(ctx)
			b = r.peek()
		}
		if b.Status == hub.Behind {
			r.first = nil // the stream asks again
		}
		if b.Status != hub.Ended || b.Err != nil {
			return false
		}
	}
	return true
}

// lost reports whether the client's place is known to be behind a gap.
func (s *source) lost() bool {
	if s.gap {
		return true
	}
	for i := range s.readers {
		if b := s.readers[i].first; b != nil && b.Gap {
			return true
		}
	}
	return false
}
