package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// subscription is what a source needs of a *hub.Subscription.
type subscription interface {
	Start() hub.ID
	Poll(dst []*hub.Entry, limit, bytes int) hub.Batch
	Fetch(ctx context.Context) error
	Watch(topic, own hub.Watcher)
	Erased(id hub.ID) bool
	Close()
}

// source is a feed's subscriptions as a session.Source.
type source struct {
	ctx  context.Context // of the stream
	feed Feed
	set  *cursor.Set // nil for one topic
	terms
	subscriptions
	messagesOnly bool // the feed's own events are left out

	turn int // whose poll is next
	most int // entries of the next batch, 0 for as many as there is room for

	first  [][]byte      // frames to be delivered before anything else: a snapshot
	gap    bool          // a gap is to be said before anything else
	spread time.Duration // within which a snapshot is loaded after a gap
	within time.Duration // how long that may take
	passed bool          // messages were passed over since the client got a cursor
	err    error         // of Map: what ends the stream next
	closed bool          // the event close was delivered
	reload *reload       // under way after a gap; nil if none is

	waker session.Waker // of the driver

	// one is room for a feed of one topic.
	one struct {
		readers [1]reader
		at      [1]hub.ID
	}
}

// reader is a feed's position in one topic.
type reader struct {
	topic string
	sub   subscription
	first *hub.Batch // polled before the stream began, and not yet delivered
	ended bool       // the topic is finished, or deleted, and read to its end
	// deleted says that behind the gap that is to be delivered is nothing but the end.
	deleted bool
}

// peek returns what the next poll will begin with.
func (r *reader) peek() hub.Batch {
	if r.first == nil {
		b := r.sub.Poll(nil, 1, 1)
		r.first = &b
	}
	return *r.first
}

// past returns a gap that no entry follows, with what comes behind it if that is there: the end of
// a topic that was deleted, perhaps.
func (r *reader) past(gap hub.Batch) hub.Batch {
	switch next := r.sub.Poll(nil, 1, 1); {
	case over(next):
		r.deleted = true
	case next.Status == hub.Ready:
		next.Gap = true
		return next
	}
	return gap
}

// Poll implements session.Source.
func (s *source) Poll(w *session.Work, budget int) (hub.Status, error) {
	if s.reload != nil && !s.reload.isDone() {
		if s.closing() {
			return s.end(ErrShutdown)
		}
		return hub.Waiting, nil
	}
	if s.reload != nil {
		s.take(s.reload)
	}
	switch {
	case s.gap:
		s.gap = false
		switch {
		case s.messagesOnly:
		case len(s.first) > 0:
			w.Frames = append(w.Frames, session.Gap(""))
		default:
			w.Frames = append(w.Frames, session.Gap(s.position()))
		}
		return hub.Ready, nil
	case len(s.first) > 0:
		w.Frames = append(w.Frames, s.first...)
		s.first = nil
		return hub.Ready, nil
	case s.err != nil:
		return s.end(s.err)
	}
	return s.pollReaders(w, budget)
}

// pollReaders delivers the batch of the next reader in turn that has one. Where it is not watched,
// it says hub.Behind for one who has to fetch, whose turn it is then.
func (s *source) pollReaders(w *session.Work, budget int) (hub.Status, error) {
	waiting, room := false, len(w.Entries)
	if s.most > 0 {
		room = min(room, s.most)
	}
	var err error
	for range s.readers {
		i := s.turn
		r := &s.readers[i]
		if s.turn++; s.turn == len(s.readers) {
			s.turn = 0
		}
		if r.ended {
			continue
		}
		var b hub.Batch
		if r.first != nil {
			b, r.first = *r.first, nil
			// It may have been kept for as long as a client stalls.
			b.Entries = slices.DeleteFunc(b.Entries, func(e *hub.Entry) bool { return r.sub.Erased(e.ID) })
		} else {
			b = r.sub.Poll(w.Entries[:0], room, budget)
		}
		switch b.Status {
		case hub.Ready:
			s.deliver(w, i, b, budget)
			clear(b.Entries) // w must not keep messages alive
			return hub.Ready, nil
		case hub.Ended:
			if over(b) {
				r.ended = true
			} else {
				err = b.Err // the others may have something yet
			}
		case hub.Behind:
			s.turn = i
			return hub.Behind, nil
		default:
			waiting = true
		}
	}
	// Streams that are at the same positions are to take the same turns from here on, so that they
	// share what is made for one of them.
	s.turn = 0
	switch {
	case err != nil:
		return s.end(err)
	case waiting:
		return hub.Waiting, nil
	case !s.closed:
		// Each topic has said its last, in this stream or before it.
		s.closed, s.passed = true, false
		w.Frames = append(w.Frames, s.closeFrame())
		return hub.Ready, nil
	}
	return hub.Ended, nil
}

// closeRetry is the least time that a client is asked to wait before it comes back to a feed that
// is finished. Many come back from 204 too, for ever.
const closeRetry = time.Minute

// closeFrame returns the event that ends a feed.
func (s *source) closeFrame() []byte {
	retry := sse.AppendRetry(nil, (closeRetry + upTo(closeRetry/2)).Round(time.Millisecond))
	if s.messagesOnly {
		return retry
	}
	return append(retry, session.Frame(s.cursor(), "close", nil)...)
}

// deliver puts a batch of the i-th reader on the wire. What Map makes of it counts against the
// budget: what is left of the batch then is for the next poll.
func (s *source) deliver(w *session.Work, i int, b hub.Batch, budget int) {
	if b.Gap && len(b.Entries) == 0 && s.endDeleted && !s.readers[i].deleted {
		b = s.readers[i].past(b)
	}
	if b.Gap && s.feed.Snapshot != nil && !s.ending() {
		s.reloadState(w)
		return
	}
	gap, said := len(w.Frames), b.Gap && !s.messagesOnly
	if said {
		w.Frames = append(w.Frames, session.Gap(""))
	}
	before, made := len(w.Frames), w.Private()
	for k, e := range b.Entries {
		at, n := s.at[i], len(w.Frames)
		s.at[i] = e.ID // the cursor of its events
		if s.entry(w, i, e); s.err != nil {
			s.at[i] = at // the client comes back with the cursor before it
			break
		}
		s.passed = len(w.Frames) == n
		if rest := b.Entries[k+1:]; w.Private()-made >= budget && len(rest) > 0 {
			s.readers[i].first = &hub.Batch{Entries: slices.Clone(rest), At: b.At}
			break
		}
	}
	if len(b.Entries) == 0 {
		s.at[i] = b.At
	}
	if said && len(w.Frames) == before && s.err == nil {
		// Nothing follows that would bring the client's cursor past the gap.
		w.Frames[gap], s.passed = session.Gap(s.cursor()), false
	}
}

// entry appends the frames of one message of the i-th reader, none when the client does not get it.
func (s *source) entry(w *session.Work, i int, e *hub.Entry) {
	topic := s.readers[i].topic
	w.UserCode = w.UserCode || s.Custom()
	switch {
	case e.Final:
		// close is said when all topics are finished
	case s.feed.Filter != nil && !s.feed.Filter(topic, &e.Message):
	case s.feed.Map != nil:
		s.mapped(w, topic, e)
	case s.set == nil:
		w.Frames = append(w.Frames, e.Encoded(wire{}))
		w.Events++
	default:
		// Everything but the last two lines is what all connections share.
		w.Frames = append(w.Frames, withoutID(e), w.Lines.Of(s.set, s.at))
		w.Events++
	}
}

// withoutID returns the shared form of a message without the id line, which ends it, and the
// blank line.
func withoutID(e *hub.Entry) []byte {
	const before, behind = "id: ", "\n\n"
	shared := e.Encoded(wire{})
	n := len(shared) - len(before) - len(e.ID) - len(behind)
	if n < 0 || !bytes.HasPrefix(shared[n:], []byte(before)) {
		return shared
	}
	return shared[:n]
}

// mapped appends the events that Map makes of a message.
func (s *source) mapped(w *session.Work, topic string, e *hub.Entry) {
	n := len(w.Frames)
	events := s.feed.Map(topic, &e.Message)
	for i, event := range events {
		event.ID = ""
		if i == len(events)-1 {
			event.ID = s.cursor()
		}
		var err error
		if event.Type != e.Type { // the hub has let that through
			err = checkMapped(event.Type)
		}
		if err == nil {
			err = w.Append(func(dst []byte) ([]byte, error) { return sse.AppendEvent(dst, event) })
		}
		if err != nil {
			s.err = fmt.Errorf("map: %w", err)
			break
		}
	}
	w.Events += len(w.Frames) - n
}

// checkMapped refuses the types of control events, which a client would take for the feed's own.
func checkMapped(typ string) error {
	if typ == "" {
		return nil
	}
	return hub.CheckType(typ)
}

// end translates the end of a subscription.
func (s *source) end(err error) (hub.Status, error) {
	switch {
	case errors.Is(err, hub.ErrClosed) && s.closing():
		err = ErrShutdown
	case s.ctx.Err() != nil && !errors.Is(err, ErrShutdown):
		// What failed may have failed because of that, a moment before the driver saw it.
		if err = session.Ended(s.ctx); !errors.Is(err, ErrRevoked) && !errors.Is(err, ErrRotated) {
			err = ErrClientGone
		}
	}
	return hub.Ended, err
}

// closing reports whether the hub shuts down.
func (s *source) closing() bool {
	select {
	case <-s.feed.Hub.Closing():
		return true
	default:
		return false
	}
}

// cursor returns the client's cursor for what it has got, or passed.
func (s *source) cursor() string { return cursorOf(s.set, s.at) }

// position is the cursor, also where that has no ID: then it is one that states nothing, or that
// the position is doubtful.
func (s *source) position() string {
	if s.set == nil && !s.at[0].Valid() {
		return cursorOf(cursor.New(s.feed.Topics), s.at)
	}
	return s.cursor()
}

// ending reports whether all topics are at their end, some of them behind a gap that is being
// delivered.
func (s *source) ending() bool {
	for i := range s.readers {
		if r := &s.readers[i]; !r.ended && !r.deleted {
			return false
		}
	}
	return true
}

func cursorOf(set *cursor.Set, at []hub.ID) string {
	if set == nil {
		return string(at[0])
	}
	var buf [256]byte
	return string(set.Append(buf[:0], at))
}

// Checkpoint implements session.Source.
func (s *source) Checkpoint() string {
	if !s.passed {
		return ""
	}
	s.passed = false
	return s.cursor()
}

// Topics implements direct.Source.
func (s *source) Topics() int { return len(s.readers) }

// Topic implements direct.Source.
func (s *source) Topic(i int) any { return topicKey{s.feed.Hub, s.readers[i].topic} }

type topicKey struct {
	hub   *hub.Hub
	topic string
}

// Custom implements direct.Source.
func (s *source) Custom() bool { return s.feed.Filter != nil || s.feed.Map != nil }

// Watch implements session.Source.
func (s *source) Watch(w session.Waker) {
	s.waker = w
	s.watch()
}

// watch has the driver woken for the subscriptions that there are now.
func (s *source) watch() {
	for i := range s.readers {
		r := &s.readers[i]
		r.sub.Watch(s.waker.Topic(i), s.waker)
		if r.first != nil && r.first.Status != hub.Ready && r.first.Status != hub.Ended {
			r.first = nil // it held for that moment, and nobody is woken for what has come since
		}
	}
}

// close lets go of the subscriptions, and waits for what runs beside the stream.
func (s *source) close() {
	if s.reload != nil {
		s.reload.stop()
	}
	s.subscriptions.close()
}
