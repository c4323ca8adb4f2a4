package hub

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"weak"
)

// Subscription is one reader of a topic: a place in the topic's shared log. It has no queue of its own, so it may be slow.
//
// All, Poll and Fetch are for one goroutine at a time; Close may be called from any.
type Subscription struct {
	hub   *Hub
	f     *followed
	opts  subscribeOptions
	start ID

	// The place: the last ID the reader has, and, while the reader is inside the window, the sequence number of the next entry.
	last     ID
	seq      uint64
	attached bool
	lost     bool // the position cannot even be asked for: what comes is behind a gap

	fetching *fetch             // the Fetch that was broken off
	page     *page              // read from the backend and not polled to its end
	rest     weak.Pointer[page] // instead of page, where too much is kept alive by readers already: it can be read again
	pageAt   int                // the entry of page, or rest, that is polled next
	kept     atomic.Int64       // what page counts for in hub.keptBytes
	gap      bool               // to be said with the next batch
	settled  <-chan struct{}    // the backend has nothing after last: no need to ask again before the log changed
	ended    bool
	err      error

	mu      sync.Mutex
	closed  atomic.Bool // written under mu, after cause
	cause   error
	done    chan struct{} // made when somebody has to wait for Close
	stopCtx func() bool
	watcher Watcher // nil if there is none
}

// Status says what Poll found.
type Status uint8

const (
	// Ready: the batch holds entries, or a gap. Deliver it and poll again.
	Ready Status = iota
	// Waiting: nothing now. Poll again when Batch.Changed is closed.
	Waiting
	// Behind: what comes next is not in the window. Call Fetch and poll again.
	Behind
	// Ended: nothing will come any more. Batch.Err says why.
	Ended
)

// Batch is what Poll found.
type Batch struct {
	// Status says what to do next.
	Status Status
	// Entries follow each other without a gap. They are shared with other readers and must not be modified.
	// The entry that ends the topic has Final set and is the last one.
	Entries []*Entry
	// Gap says that messages before Entries or, when there are none, before At are gone.
	Gap bool
	// At is the place of the subscription after the batch: the ID of the last entry, or the place behind a gap; "" when that place has no name.
	At ID
	// Changed is set with Waiting.
	Changed <-chan struct{}
	// Err is set with Ended: an *Error, or nil when the topic is finished.
	Err error
}

// Subscribe opens a subscription to topic at a position. The position is fixed when Subscribe returns: everything appended from there on is
// delivered, however much later the reader begins.
//
// The first subscription to a topic makes the hub follow it at the backend, and Subscribe blocks until that is done, at most until ctx ends.
// The end of ctx also ends the subscription, except with UntilClosed. Close it, or range over All, to let go of it.
//
// Errors are *Error: ErrTopic, ErrPosition, ErrClosed, the context's, or the backend's. A position whose messages are gone is not an error here; see MarkGaps.
func (h *Hub) Subscribe(ctx context.Context, topic string, at Position, opts ...SubscribeOption) (*Subscription, error) {
	s, err := h.subscribe(ctx, topic, at, opts)
	if err != nil {
		return nil, &Error{Op: "subscribe", Topic: topic, Err: err}
	}
	return s, nil
}

func (h *Hub) subscribe(ctx context.Context, topic string, at Position, opts []SubscribeOption) (*Subscription, error) {
	if err := CheckTopic(topic); err != nil {
		return nil, err
	}
	if at.kind == after && at.id == "" {
		return nil, ErrPosition
	}
	var o subscribeOptions
	for _, opt := range opts {
		opt(&o)
	}
	return h.subscribeAt(ctx, topic, at, o)
}

// subscribeAt subscribes to any topic, one of the hub's own too.
func (h *Hub) subscribeAt(ctx context.Context, topic string, at Position, o subscribeOptions) (*Subscription, error) {
	f, err := h.follow(topic)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.ready:
		err = f.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-h.closing:
		err = ErrClosed
	}
	if err != nil {
		h.unfollow(f)
		return nil, err
	}
	s := &Subscription{hub: h, f: f, opts: o}
	if err := s.place(ctx, at); err != nil {
		s.Close()
		return nil, err
	}
	if ctx.Done() != nil && !o.untilClosed {
		s.mu.Lock()
		s.stopCtx = context.AfterFunc(ctx, func() { s.close(context.Cause(ctx)) })
		s.mu.Unlock()
	}
	return s, nil
}

// place puts the reader at its position.
func (s *Subscription) place(ctx context.Context, at Position) error {
	f := s.f
	f.mu.RLock()
	switch at.kind {
	case latest:
		s.attach(f.log.Next())
		s.last = ID(f.log.Last())
		s.start = s.last
	case after:
		s.lost = !at.id.Valid()
		if !s.lost {
			s.last, s.start = at.id, at.id
			if seq, ok := f.log.After(string(at.id)); ok {
				s.attach(seq)
			}
		}
	case earliest:
		if !s.hub.traits.Replay {
			s.attach(f.log.First())
			s.last = ID(f.log.Base())
			s.start = s.last
		}
	}
	f.mu.RUnlock()
	if s.last == "" && !s.lost && !s.attached {
		// Earliest: only reading the first page fixes what is the oldest.
		if err := s.Fetch(ctx); err != nil {
			return errors.Unwrap(err)
		}
		if s.page == nil {
			s.start = s.last
		}
	}
	return nil
}

// attach places the reader inside the window. f.mu is held.
func (s *Subscription) attach(seq uint64) {
	s.seq, s.attached = seq, true
	s.settled, s.fetching = nil, nil // of a place that the reader leaves now
	if s.f.endedBefore(seq) {
		s.ended = true
	}
}

// Topic returns the name of the topic.
func (s *Subscription) Topic() string { return s.f.name }

// Start returns the ID of the position where the subscription started. A new subscription After it gets the same messages. It is "" for
// Earliest when there were messages, since the place before the oldest retained message has no lasting name, and for an invalid ID.
func (s *Subscription) Start() ID { return s.start }

// Poll returns what is there now, without blocking, appended to dst: up to limit entries and about bytes of contents, but at least one entry
// if there is one. It is the way for code that serves many subscriptions, or writes in batches; All is simpler.
//
// After Hub.Shutdown has begun it still returns what is in the window, and then ErrClosed.
func (s *Subscription) Poll(dst []*Entry, limit, bytes int) Batch {
	if err := s.closedErr(); err != nil {
		return Batch{Status: Ended, Err: err}
	}
	limit, bytes = max(limit, 1), max(bytes, 1)
	p := s.page
	if p == nil {
		p = s.rest.Value()
	}
	if p != nil || s.gap {
		return s.fromPage(dst, p, limit, bytes)
	}
	if s.ended {
		return s.end()
	}
	return s.fromLog(dst, limit, bytes)
}

func (s *Subscription) end() Batch {
	s.ended = true
	b := Batch{Status: Ended, At: s.last}
	if s.err != nil {
		b.Err = s.wrap(s.err)
	}
	return b
}

// tellGap ends the subscription at a gap, or notes the gap for the next batch, as the subscriber chose.
func (s *Subscription) tellGap() {
	s.hub.counters.readerGaps.Add(1)
	s.lost = false
	if s.opts.markGaps {
		s.gap = true
		return
	}
	s.ended, s.err, s.page = true, ErrGap, nil
}

// fromPage takes entries from a page. With a gap to be told there may be no page.
func (s *Subscription) fromPage(dst []*Entry, p *page, limit, bytes int) Batch {
	b := Batch{Entries: dst, Gap: s.gap}
	s.gap = false
	for p != nil && limit > 0 && bytes > 0 {
		e := p.entries[s.pageAt]
		b.Entries = append(b.Entries, e)
		s.last = e.ID
		s.pageAt++
		limit, bytes = limit-1, bytes-e.size()
		if e.Final {
			s.ended = true // whatever the page has after it: the topic may have been published to after it was finished
		}
		if e.Final || s.pageAt == len(p.entries) {
			p = nil
		}
	}
	s.keep(p)
	b.At = s.last
	return b
}

// keptBytes is how much of pages readers may keep alive, together, between two polls.
const keptBytes = 16 << 20

// keep keeps the rest of a page for the next poll, nil for none. A page is up to PageBytes and more, and a reader that stalls would hold it for as long as it
// stalls; so beyond keptBytes a page stays only as long as the garbage collector, or another reader, leaves it, and is read again then.
func (s *Subscription) keep(p *page) {
	if p != nil && p == s.page && s.kept.Load() > 0 {
		return
	}
	s.hub.keptBytes.Add(-s.kept.Swap(0))
	s.page, s.rest = nil, weak.Pointer[page]{}
	if p == nil {
		return
	}
	if s.hub.keptBytes.Add(p.bytes) > keptBytes {
		s.hub.keptBytes.Add(-p.bytes)
		s.rest = weak.Make(p)
		return
	}
	s.page = p
	s.kept.Store(p.bytes)
	if s.closedErr() != nil {
		// Close came before the Store and found nothing to give back.
		s.hub.keptBytes.Add(-s.kept.Swap(0))
	}
}

// fromLog takes entries from the window.
func (s *Subscription) fromLog(dst []*Entry, limit, bytes int) (b Batch) {
	f := s.f
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !s.enter(&b) {
		return b
	}
	first := len(dst)
	b.Entries = s.take(dst, limit, bytes)
	if s.ended && len(b.Entries) == first {
		return s.end()
	}
	b.Gap, b.At = s.gap, s.last
	switch {
	case len(b.Entries) > first || s.gap:
	case s.hub.isClosing():
		// Shutdown closes closing and then takes the log's lock to wake readers. So who does not see it closed here, under the lock, gets a channel that finish will close.
		b.Status, b.Err = Ended, s.wrap(ErrClosed)
	case s.opts.earlyGaps && f.gapNext:
		s.tellGap()
		return s.end()
	default:
		b.Status, b.Changed = Waiting, f.log.Changed()
	}
	s.gap = false
	return b
}

// enter sees to it that the reader is inside the window. It reports false when it is not, and what it does instead is in b. f.mu is held.
func (s *Subscription) enter(b *Batch) (inside bool) {
	f := s.f
	if f.state == released {
		*b = Batch{Status: Ended, Err: s.wrap(ErrClosed)}
		return false
	}
	if s.attached && s.seq < f.log.First() {
		s.attached = false
	}
	if !s.attached && !s.lost {
		if seq, ok := f.log.After(string(s.last)); ok {
			s.attach(seq)
			if s.ended {
				*b = s.end()
				return false
			}
		}
	}
	if s.attached {
		return true
	}
	*b, inside = s.outside()
	return inside
}

// take appends what comes next in the window. f.mu is held.
func (s *Subscription) take(dst []*Entry, limit, bytes int) []*Entry {
	f := s.f
	first, next := len(dst), f.log.Next()
	if f.finishing {
		next = min(next, f.until)
	}
	for s.seq < next && limit > 0 && bytes > 0 {
		_, e := f.log.At(s.seq)
		if e.Gap && len(dst) > first {
			break // a batch has a gap only before its first entry
		}
		if e.Gap && !s.gap {
			if s.tellGap(); s.ended {
				return dst
			}
		}
		dst = append(dst, e)
		s.seq++
		s.last = e.ID
		limit, bytes = limit-1, bytes-e.size()
		if e.Final {
			s.ended = true
			break
		}
	}
	return dst
}

// outside decides what a reader does whose place is not in the window. It reports true when the reader was moved into the window. f.mu is held.
func (s *Subscription) outside() (Batch, bool) {
	f := s.f
	if s.hub.isClosing() {
		return Batch{Status: Ended, At: s.last, Err: s.wrap(ErrClosed)}, false
	}
	if s.hub.traits.Replay {
		if s.settled != nil {
			select {
			case <-s.settled:
			default:
				// The page was ahead of the live path, which will come here.
				return Batch{Status: Waiting, At: s.last, Changed: s.settled}, false
			}
		}
		return Batch{Status: Behind, At: s.last}, false
	}
	if s.tellGap(); s.ended {
		return s.end(), false
	}
	s.seq, s.attached, s.last = f.log.First(), true, ID(f.log.Base())
	return Batch{}, true
}

// Fetch reads what comes next from the backend, after Poll said Behind. It tries until it succeeds; the error is an *Error with the cause of
// ctx, or ErrClosed when the subscription or the hub is closed.
func (s *Subscription) Fetch(ctx context.Context) error {
	if s.ended || s.attached || s.page != nil {
		return nil
	}
	done := s.doneChan()
	var pause backoff
	for {
		if s.fetching == nil {
			s.f.mu.RLock()
			// Taken before the Read begins: what is appended after it shows up in the page, or closes this channel.
			changed := s.f.log.Changed()
			s.f.mu.RUnlock()
			s.fetching = &fetch{s.hub.reads.begin(s.f.name, s.last, pageLimit), changed}
		}
		p, err := s.fetching.wait.wait(ctx, done)
		if err == nil {
			changed := s.fetching.changed
			s.fetching = nil
			s.turn(p, changed)
			return nil
		}
		if ctx.Err() == nil {
			s.fetching = nil
		}
		if ctx.Err() != nil || !pause.sleep(ctx, done, s.hub.closing) {
			if err := s.closedErr(); err != nil {
				return err
			}
			if s.hub.isClosing() {
				return s.wrap(ErrClosed)
			}
			return s.wrap(context.Cause(ctx))
		}
	}
}

// fetch is a Fetch under way. A caller whose context ends often, because it has heartbeats to send, comes back to the same call: else a Read that takes longer than
// that would never be waited for to its end.
type fetch struct {
	wait    *wait
	changed <-chan struct{} // of the log, from before the call began
}

// turn takes a page that was read after s.last.
func (s *Subscription) turn(p *page, changed <-chan struct{}) {
	if p.gap || s.lost {
		if s.tellGap(); s.ended {
			return
		}
	} else if p.final {
		s.ended = true
		return
	}
	if len(p.entries) > 0 {
		s.page, s.pageAt = p, 0 // kept for the first poll at any rate, so that the reader comes forward
		return
	}
	s.last, s.settled = p.next, changed
}

// All returns the messages of the subscription, from its position on, as they come. It blocks while there are none. Leaving the loop closes
// the subscription; the sequence can be used once.
//
// An error comes at most once, last, and without a message; it is an *Error: ErrGap, ErrClosed, or the cause of Subscribe's context. The sequence
// ends without an error after the message that finished the topic.
func (s *Subscription) All() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		defer s.Close()
		done := s.doneChan()
		var buf [64]*Entry
		const bytes = 64 << 10
		gap := false // of a batch without entries: it belongs to the next message
		for {
			b := s.Poll(buf[:0], len(buf), bytes)
			switch b.Status {
			case Ready:
				gap = gap || b.Gap
				for _, e := range b.Entries {
					m := e.Message
					m.Gap = gap
					gap = false
					if !yield(m, nil) {
						return
					}
				}
			case Waiting:
				select {
				case <-b.Changed:
				case <-done:
				}
			case Behind:
				if err := s.Fetch(context.Background()); err != nil {
					yield(Message{}, err)
					return
				}
			case Ended:
				if b.Err != nil {
					yield(Message{}, b.Err)
				}
				return
			}
		}
	}
}

// Close ends the subscription and lets go of the topic. It never blocks on the backend, may be called more than once, and by any goroutine; a loop over All ends.
func (s *Subscription) Close() { s.close(ErrClosed) }

func (s *Subscription) close(cause error) {
	s.mu.Lock()
	if s.closed.Load() {
		s.mu.Unlock()
		return
	}
	s.cause = cause
	s.closed.Store(true)
	if s.done != nil {
		close(s.done)
	}
	stop, watcher := s.stopCtx, s.watcher
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
	if watcher != nil {
		s.f.unwatch(watcher)
	}
	s.hub.keptBytes.Add(-s.kept.Swap(0))
	s.hub.unfollow(s.f)
}

func (s *Subscription) doneChan() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.closed.Load() {
			close(s.done)
		}
	}
	return s.done
}

// closedErr returns why the subscription is closed, nil while it is open.
func (s *Subscription) closedErr() error {
	if s.closed.Load() {
		return s.wrap(s.cause)
	}
	return nil
}

func (s *Subscription) wrap(err error) error {
	return &Error{Op: "subscribe", Topic: s.f.name, Err: err}
}
