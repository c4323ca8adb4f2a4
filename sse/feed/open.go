package feed

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
)

// opening says where the streams of a request begin.
type opening struct {
	at []hub.Position // one for each topic
	// stated says that the client came with a cursor that counts, partly that this knows not all
	// topics.
	stated, partly bool
	gap            bool // of the cursor nobody can tell where it is
}

// latest returns the opening of a client whose cursor does not count.
func latest(f Feed) opening {
	o := opening{at: make([]hub.Position, len(f.Topics))}
	for i := range o.at {
		o.at[i] = hub.Latest()
	}
	return o
}

// openingOf takes the cursor that a client came with apart. Topics that it does not know begin at
// start or, where there is a Snapshot, at the newest message.
func openingOf(f Feed, set *cursor.Set, start hub.Position, text string, stated bool) opening {
	o := latest(f)
	if f.Snapshot == nil {
		for i := range o.at {
			o.at[i] = start
		}
	}
	if o.stated = stated; !stated {
		return o
	}
	if len(o.at) == 1 && !strings.HasPrefix(text, cursor.Prefix) {
		o.at[0] = hub.After(hub.ID(text))
		return o
	}
	if set == nil {
		set = cursor.New(f.Topics) // the route may have had several before
	}
	positions, ok := set.Parse(text)
	switch {
	case ok:
	case len(o.at) == 1:
		o.at[0] = hub.After(hub.ID(text))
		return o
	default:
		o.gap = true // of which topic it is the position, if of any, nobody can tell
		return o
	}
	for i, p := range positions {
		switch p.State {
		case cursor.Known:
			o.at[i] = hub.After(p.ID)
		case cursor.Doubtful:
			o.gap = true
		case cursor.Missing:
			o.partly = true
		}
	}
	if f.Snapshot != nil && o.partly {
		return latest(f) // the client has no state of a topic that has come in since
	}
	return o
}

// subscriptions are what a source reads, one for each topic.
type subscriptions struct {
	readers []reader
	at      []hub.ID // the position of each reader after what was polled; "" when it has no name
}

// subscribe opens a subscription for each topic, at once, at its position; one position is for
// all. ctx bounds the opening. Where nothing is open in the end there is an error.
func (s *subscriptions) subscribe(ctx context.Context, f Feed, at ...hub.Position) error {
	if n := len(f.Topics); n != len(s.readers) {
		s.readers, s.at = make([]reader, n), make([]hub.ID, n)
	}
	if len(f.Topics) == 1 {
		return s.subscribeTo(ctx, f, 0, at[0])
	}
	// Mostly all topics are followed already. A goroutine for each would cost more than the
	// subscriptions do; so one has a goroutine only where it has to wait, which has begun then
	// for all of them.
	errs := make([]error, len(f.Topics))
	var opening sync.WaitGroup
	for i := range f.Topics {
		at := at[min(i, len(at)-1)]
		if errs[i] = s.subscribeTo(&atOnce{Context: ctx}, f, i, at); errors.Is(errs[i], errWait) {
			opening.Go(func() { errs[i] = s.subscribeTo(ctx, f, i, at) })
		}
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		s.close()
		*s = subscriptions{}
		return err
	}
	return nil
}

// subscribeTo opens the i-th subscription.
func (s *subscriptions) subscribeTo(ctx context.Context, f Feed, i int, at hub.Position) error {
	sub, err := f.Hub.Subscribe(ctx, f.Topics[i], at, hub.MarkGaps(), hub.UntilClosed())
	if err != nil {
		return err
	}
	s.readers[i] = reader{topic: f.Topics[i], sub: sub}
	s.at[i] = sub.Start()
	return nil
}

func (s *subscriptions) close() {
	for i := range s.readers {
		if sub := s.readers[i].sub; sub != nil {
			sub.Close()
		}
	}
}

// finished reports whether the client's cursor is at the end of all topics. Only the backend may
// know that, and a status cannot wait for the stream: so the first page is fetched here, within a
// time. A failure shows in the stream.
func (s *subscriptions) finished(ctx context.Context, within time.Duration) bool {
	bounded := &patience{Context: ctx, timeout: within}
	defer bounded.end()
	for i := range s.readers {
		r := &s.readers[i]
		b := r.peek()
		if b.Status == hub.Behind {
			r.first = nil
			_ = r.sub.Fetch(bounded)
			b = r.peek()
		}
		if b.Status != hub.Ended || b.Err != nil {
			return false
		}
	}
	return true
}

// lost reports whether the client's position is known to be behind a gap.
func (s *subscriptions) lost() bool {
	for i := range s.readers {
		if b := s.readers[i].first; b != nil && b.Gap {
			return true
		}
	}
	return false
}

// over reports whether nothing but the close event is to come.
func (s *subscriptions) over() bool {
	for i := range s.readers {
		if b := s.readers[i].peek(); b.Status != hub.Ended || b.Err != nil {
			return false
		}
	}
	return true
}
