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
	gap            bool // to be said before anything else, because of the cursor
}

// nowhere is the position of a reader of whom only that is known that it had one: no topic knows
// the ID.
var nowhere = hub.After("~")

// doubtful is the ID of nowhere. It is not valid, so that a cursor says of the topic that its
// position is doubtful, until the gap is said.
const doubtful hub.ID = "?"

// latest returns the opening of a client whose cursor does not count.
func latest(f Feed) opening {
	o := opening{at: make([]hub.Position, len(f.Topics))}
	for i := range o.at {
		o.at[i] = hub.Latest()
	}
	return o
}

// openingOf takes the cursor that a client came with apart. Topics that it does not know begin at
// start or, where there is a Snapshot, at the newest message. So do those of which it states what
// can be no position, behind a gap.
func openingOf(f Feed, set *cursor.Set, start hub.Position, text string, stated bool) opening {
	o := latest(f)
	if f.Snapshot == nil {
		for i := range o.at {
			o.at[i] = start
		}
	}
	if !stated || cursor.Empty(text) {
		return o
	}
	o.stated = true
	unknown := o.place(f, set, text)
	switch {
	case f.Snapshot == nil:
	case o.gap || unknown:
		o = latest(f)
		o.stated, o.gap = true, true // the state says what is, and the messages of before are in it
	case o.partly:
		return latest(f) // the client has no state of a topic that has come in since
	}
	return o
}

// place puts the opening where a cursor says. It reports whether the position in a topic is
// unknown.
func (o *opening) place(f Feed, set *cursor.Set, text string) (unknown bool) {
	if set == nil && strings.HasPrefix(text, cursor.Prefix) {
		set = cursor.New(f.Topics) // the route may have had several before
	}
	var positions []cursor.Position
	vector := false
	if set != nil {
		positions, vector = set.Parse(text)
	}
	switch id := hub.ID(text); {
	case vector:
	case len(o.at) == 1 && f.Hub.IsID(id):
		o.at[0] = hub.After(id)
		return false
	default:
		o.gap = true // of which topic it is the position, if of any, nobody can tell
		return false
	}
	missing := 0
	for i, p := range positions {
		switch {
		case p.State == cursor.Missing:
			missing++
		case p.State == cursor.Doubtful:
			o.at[i], unknown = nowhere, true
		case f.Hub.IsID(p.ID):
			o.at[i] = hub.After(p.ID)
		default:
			o.gap = true
		}
	}
	if o.partly = missing > 0; missing < len(o.at) {
		return unknown
	}
	o.partly = false // a cursor of other topics, and not one of fewer
	for i := range o.at {
		o.at[i] = nowhere
	}
	return true
}

// terms are what subscriptions are opened with, beside their positions.
type terms struct {
	messages   int // bounds of what follows a gap at the beginning
	bytes      int64
	endDeleted bool
}

// options returns the options of one subscription, of several that share the bounds.
func (t terms) options(at hub.Position, sharers int) []hub.SubscribeOption {
	replay := hub.Replay(max(t.messages/sharers, 1), max(t.bytes/int64(sharers), 1))
	options := []hub.SubscribeOption{at, hub.MarkGaps(), hub.UntilClosed(), replay}
	if t.endDeleted {
		options = append(options, hub.EndDeleted())
	}
	return options
}

// subscriptions are what a source reads, one for each topic.
type subscriptions struct {
	readers []reader
	at      []hub.ID // the position of each reader after what was polled; "" when it has no name
}

// subscribe opens a subscription for each topic, at once, at its position; one position is for
// all. ctx bounds the opening. Where nothing is open in the end there is an error.
func (s *subscriptions) subscribe(ctx context.Context, f Feed, t terms, at ...hub.Position) error {
	if n := len(f.Topics); n != len(s.readers) {
		s.readers, s.at = make([]reader, n), make([]hub.ID, n)
	}
	if len(f.Topics) == 1 {
		return s.subscribeTo(ctx, f, t, 0, at[0], 1)
	}
	// Mostly all topics are followed already. A goroutine for each would cost more than the
	// subscriptions do; so one has a goroutine only where it has to wait, which has begun then
	// for all of them.
	errs := make([]error, len(f.Topics))
	var opening sync.WaitGroup
	for i := range f.Topics {
		at := at[min(i, len(at)-1)]
		if errs[i] = s.subscribeTo(&atOnce{Context: ctx}, f, t, i, at, len(f.Topics)); errors.Is(errs[i], errWait) {
			opening.Go(func() { errs[i] = s.subscribeTo(ctx, f, t, i, at, len(f.Topics)) })
		}
	}
	opening.Wait()
	err := errors.Join(errs...)
	if err == nil && len(at) > 1 {
		err = s.share(ctx, f, t, at)
	}
	if err != nil {
		s.close()
		*s = subscriptions{}
		return err
	}
	return nil
}

// share has those of several subscriptions share the bounds that may need them: who is in the
// window of his topic has no gap. The others are opened anew, which costs little, because their
// topics are followed.
func (s *subscriptions) share(ctx context.Context, f Feed, t terms, at []hub.Position) error {
	var behind []int
	for i := range s.readers {
		if s.readers[i].peek().Status == hub.Behind {
			s.readers[i].first = nil
			behind = append(behind, i)
		}
	}
	if len(behind) == len(s.readers) {
		return nil // they do already
	}
	for _, i := range behind {
		s.readers[i].sub.Close()
		if err := s.subscribeTo(ctx, f, t, i, at[i], len(behind)); err != nil {
			return err
		}
	}
	return nil
}

// subscribeTo opens the i-th subscription, one of several that share the bounds.
func (s *subscriptions) subscribeTo(ctx context.Context, f Feed, t terms, i int, at hub.Position, sharers int) error {
	sub, err := f.Hub.Subscribe(ctx, f.Topics[i], t.options(at, sharers)...)
	if err != nil {
		return err
	}
	s.readers[i] = reader{topic: f.Topics[i], sub: sub}
	if s.at[i] = sub.Start(); at == nowhere {
		s.at[i] = doubtful
	}
	return nil
}

func (s *subscriptions) close() {
	for i := range s.readers {
		if sub := s.readers[i].sub; sub != nil {
			sub.Close()
		}
	}
}

// finished reports whether the client's cursor is at the end of all topics or, where topics are
// deleted, behind nothing but a gap; see lost. Only the backend may know that, and a status cannot
// wait for the stream: so the first page is fetched here, within a time. A failure shows in the
// stream.
func (s *subscriptions) finished(ctx context.Context, t terms, within time.Duration) bool {
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
		if t.endDeleted && b.Gap && len(b.Entries) == 0 {
			past := r.past(b)
			r.first = &past
		}
		if !over(b) && !r.deleted {
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
		if !over(s.readers[i].peek()) {
			return false
		}
	}
	return true
}

// over reports whether a topic has come to its end: it is finished, or deleted.
func over(b hub.Batch) bool {
	return b.Status == hub.Ended && (b.Err == nil || errors.Is(b.Err, hub.ErrDeleted))
}
