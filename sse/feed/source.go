package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
	"github.com/headrace/headrace/sse"
)

// subscription is what a source needs of a *hub.Subscription.
type subscription interface {
	Start() hub.ID
	Poll(dst []*hub.Entry, limit, bytes int) hub.Batch
	Fetch(ctx context.Context) error
	Watch(w hub.Watcher)
	Close()
}

// source is a feed's subscriptions as a delivery.Source.
type source struct {
	ctx  context.Context // of the stream
	feed Feed
	set  *topicSet
	subscriptions
	turn int // whose poll is next

	first  [][]byte      // frames to be delivered before anything else: a snapshot
	gap    bool          // a gap is to be said before anything else
	spread time.Duration // within which a snapshot is loaded after a gap
	within time.Duration // how long that may take
	passed bool          // messages were passed over since the client got a cursor
	err    error         // of Map: what ends the stream next
	closed bool          // the event close was delivered
	reload *reload       // under way after a gap; nil if none is

	watcher hub.Watcher // of the engine that serves the source; nil if none does

	also []<-chan struct{} // used again by each poll
}

// reader is a feed's place in one topic.
type reader struct {
	topic string
	sub   subscription
	first *hub.Batch // polled before the stream began, and not yet delivered
	at    hub.ID     // the place after what was polled; "" when it has no name
	// behind says that a Fetch is wanted, ended that the topic is finished and read to its end.
	behind, ended bool
}

// pollLimit is how many entries one poll takes at most.
const pollLimit = 64

// entryLists are lent for the time of one poll: a connection that waits should hold nothing.
var entryLists = sync.Pool{New: func() any { return new([pollLimit]*hub.Entry) }}

// peek returns what the next poll will begin with.
func (r *reader) peek() hub.Batch {
	if r.first == nil {
		b := r.sub.Poll(nil, 1, 1)
		r.first = &b
	}
	return *r.first
}

// poll returns what the subscription has, in entries.
func (r *reader) poll(entries []*hub.Entry, budget int) hub.Batch {
	if b := r.first; b != nil {
		r.first = nil
		return *b
	}
	return r.sub.Poll(entries, pollLimit, budget)
}

// Poll implements delivery.Source.
func (s *source) Poll(dst [][]byte, budget int) delivery.Batch {
	if s.reload != nil && !s.reloaded() {
		if delivery.IsClosed(s.feed.Hub.Closing()) {
			return s.end(dst, delivery.ErrShutdown)
		}
		return delivery.Batch{Status: delivery.Behind, Frames: dst}
	}
	switch {
	case len(s.first) > 0:
		dst = append(dst, s.first...)
		b := delivery.Batch{Frames: dst, Gap: s.gap}
		s.first, s.gap = nil, false
		return b
	case s.gap:
		s.gap = false
		return delivery.Batch{Frames: dst, Gap: true, At: s.cursor()}
	case s.err != nil:
		return s.end(dst, s.err)
	}
	return s.pollReaders(dst, budget)
}

// pollReaders delivers the batch of the next reader in turn that has one.
func (s *source) pollReaders(dst [][]byte, budget int) delivery.Batch {
	entries := entryLists.Get().(*[pollLimit]*hub.Entry)
	defer func() {
		clear(entries[:]) // the pool must not keep messages alive
		entryLists.Put(entries)
	}()
	s.also = s.also[:0]
	behind := false
	var err error
	for range s.readers {
		r := &s.readers[s.turn]
		s.turn = (s.turn + 1) % len(s.readers)
		if r.ended {
			continue
		}
		b := r.poll(entries[:0], budget)
		switch r.behind = b.Status == hub.Behind; b.Status {
		case hub.Ready:
			return s.deliver(dst, r, b)
		case hub.Waiting:
			s.also = append(s.also, b.Changed)
		case hub.Behind:
			behind = true
		case hub.Ended:
			if b.Err == nil {
				r.ended = true
			} else {
				err = b.Err // the others may have something yet
			}
		}
	}
	switch {
	case err != nil:
		return s.end(dst, err)
	case behind:
		return delivery.Batch{Status: delivery.Behind, Frames: dst}
	case len(s.also) > 0:
		return delivery.Batch{Status: delivery.Waiting, Frames: dst, Changed: s.also[0], Also: s.also[1:]}
	case !s.closed:
		// Each topic has said its last, in this stream or before it.
		s.closed, s.passed = true, false
		return delivery.Batch{Frames: append(dst, delivery.Frame(s.cursor(), "close", nil))}
	}
	return s.end(dst, nil)
}

// deliver translates a batch of a reader.
func (s *source) deliver(dst [][]byte, r *reader, b hub.Batch) delivery.Batch {
	if b.Gap && s.feed.Snapshot != nil {
		return s.heal(dst)
	}
	out := delivery.Batch{Gap: b.Gap}
	before := len(dst)
	for _, e := range b.Entries {
		at, n := r.at, len(dst)
		r.at = e.ID // the cursor of its events
		if dst = s.entry(dst, r, e); s.err != nil {
			r.at = at // the client comes back with the place before it
			break
		}
		if len(dst) == n {
			s.passed = true
			continue
		}
		s.passed = false
		out.Events += len(dst) - n
		if len(s.readers) > 1 && s.feed.Map == nil {
			out.Events-- // its id is a frame of its own
		}
	}
	if len(b.Entries) == 0 {
		r.at = b.At
	}
	out.Frames = dst
	if b.Gap && len(dst) == before && s.err == nil {
		out.At, s.passed = s.cursor(), false
	}
	return out
}

// entry appends the frames of one message, none when the client does not get it.
func (s *source) entry(dst [][]byte, r *reader, e *hub.Entry) [][]byte {
	switch {
	case e.Final:
		return dst // close is said when all topics are finished
	case s.feed.Filter != nil && !s.feed.Filter(r.topic, &e.Message):
		return dst
	case s.feed.Map != nil:
		return s.mapped(dst, r, e)
	case len(s.readers) == 1:
		return append(dst, e.Encoded(wire{}))
	}
	// Everything but the last two lines is what all connections share.
	shared, _ := bytes.CutSuffix(e.Encoded(wire{}), idLines(string(e.ID)))
	var buf [256]byte
	return append(dst, shared, bytes.Clone(append(appendCursor(append(buf[:0], "id: "...), s.set, s.readers), "\n\n"...)))
}

func idLines(id string) []byte { return []byte("id: " + id + "\n\n") }

// mapped appends the events that Map makes of a message.
func (s *source) mapped(dst [][]byte, r *reader, e *hub.Entry) [][]byte {
	events := s.feed.Map(r.topic, &e.Message)
	for i, event := range events {
		event.ID = ""
		if i == len(events)-1 {
			event.ID = s.cursor()
		}
		err := checkMapped(event.Type)
		var frame []byte
		if err == nil {
			frame, err = sse.AppendEvent(nil, event)
		}
		if err != nil {
			s.err = fmt.Errorf("map: %w", err)
			return dst
		}
		dst = append(dst, frame)
	}
	return dst
}

// checkMapped refuses the types of control events, which a client would take for the feed's own.
func checkMapped(typ string) error {
	if typ == "" {
		return nil
	}
	return hub.CheckType(typ)
}

// end translates the end of a subscription.
func (s *source) end(dst [][]byte, err error) delivery.Batch {
	switch {
	case errors.Is(err, hub.ErrClosed) && delivery.IsClosed(s.feed.Hub.Closing()):
		err = delivery.ErrShutdown
	case s.ctx.Err() != nil && !errors.Is(err, delivery.ErrShutdown):
		// What failed may have failed because of that, a moment before the driver saw it.
		if err = delivery.Gone(s.ctx); !errors.Is(err, delivery.ErrRevoked) {
			err = delivery.ErrClientGone
		}
	}
	return delivery.Batch{Status: delivery.Ended, Frames: dst, Err: err}
}

// cursor returns the client's cursor for what it has got, or passed.
func (s *source) cursor() string { return cursorOf(s.set, s.readers) }

func cursorOf(set *topicSet, readers []reader) string {
	if len(readers) == 1 {
		return string(readers[0].at)
	}
	var buf [256]byte
	return string(appendCursor(buf[:0], set, readers))
}

// appendCursor appends the cursor of a feed of several topics.
func appendCursor(dst []byte, set *topicSet, readers []reader) []byte {
	var places [16]hub.ID
	at := places[:0]
	for i := range readers {
		at = append(at, readers[i].at)
	}
	return set.append(dst, at)
}

// Checkpoint implements delivery.Source.
func (s *source) Checkpoint() string {
	if !s.passed {
		return ""
	}
	s.passed = false
	return s.cursor()
}

// Fetch implements delivery.Source. It is done when one of the topics has something.
func (s *source) Fetch(ctx context.Context) error {
	if s.reload != nil {
		select {
		case <-s.reload.done:
		case <-s.feed.Hub.Closing():
		case <-ctx.Done():
		}
		return nil
	}
	if len(s.readers) == 1 {
		return s.readers[0].sub.Fetch(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var fetches sync.WaitGroup
	for i := range s.readers {
		if r := &s.readers[i]; r.behind {
			fetches.Go(func() {
				defer cancel() // a read that is under way is not lost: the next Fetch joins it
				_ = r.sub.Fetch(ctx)
			})
		}
	}
	delivery.WaitAny(ctx.Done(), s.also...)
	cancel()
	fetches.Wait()
	return nil
}

// Topic implements delivery.Feed. Engines serve sources of one topic.
func (s *source) Topic() any { return topicKey{s.feed.Hub, s.readers[0].topic} }

type topicKey struct {
	hub   *hub.Hub
	topic string
}

// Watch implements delivery.Feed.
func (s *source) Watch(w hub.Watcher) {
	s.watcher = w
	for i := range s.readers {
		s.readers[i].sub.Watch(w)
	}
}

// close lets go of the subscriptions, and waits for what runs beside the stream.
func (s *source) close() {
	if s.reload != nil {
		s.reload.cancel()
		<-s.reload.done
		s.reload.subs.close()
	}
	s.subscriptions.close()
}

// subscriptions are what a source reads, one for each topic.
type subscriptions struct{ readers []reader }

func (s *subscriptions) close() {
	for i := range s.readers {
		if sub := s.readers[i].sub; sub != nil {
			sub.Close()
		}
	}
}
