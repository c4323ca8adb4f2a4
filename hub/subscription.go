package hub

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"weak"
)

// Subscription is one reader of a topic: a position in the topic's shared log. It has no queue of
// its own, so it may be slow.
//
// All, Watch, Poll and Fetch are for one goroutine at a time. Close may be called from any, and
// so may Topic and Start.
type Subscription struct {
	hub   *Hub
	f     *followed
	opts  subscribeOptions
	start ID

	// The position: the last ID the reader has, and, while the reader is inside the window, the
	// sequence number of the next entry.
	last     ID
	seq      uint64
	attached bool
	lost     bool // the position cannot even be asked for: what comes is behind a gap
	// fresh: nothing is known of the position yet, and nothing was had. restart: nobody knows it,
	// and what is retained is read instead.
	fresh, restart bool
	told           uint64 // up to which of the topic's gaps the reader knows; see followed.gaps
	// quiet is the log's count of changes at which there was nothing for this reader; see
	// Log.Changes. While it stands, the reader need not look again, nor ask the backend. Never is
	// no count.
	quiet uint64
	own   Watcher // woken when a read for this reader is done; nil if it is not watched

	fetching *fetch // the read under way, or the Fetch that was broken off
	page     *page  // read from the backend and not polled to its end
	// Instead of page, where too much is kept alive by readers already: it can be read again.
	rest   weak.Pointer[page]
	pageAt int  // the entry of page, or rest, that is polled next
	sought bool // page is what is retained, because nobody knew the position
	// erasures is how many there had been when page was asked for; see erasures.made.
	erasures uint64
	kept     atomic.Int64 // what page counts for in hub.keptBytes
	gap      bool         // to be said with the next batch
	ended    bool
	err      error

	mu      sync.Mutex
	closed  atomic.Bool // written under mu, after cause
	cause   error
	done    chan struct{} // made when somebody has to wait for Close
	stopCtx func() bool
	watcher Watcher // nil if there is none
}

// never is a count of changes that no log has.
const never = ^uint64(0)

// Status says what Poll found.
type Status uint8

const (
	// Ready: the batch holds entries, or a gap. Deliver it and poll again.
	Ready Status = iota
	// Waiting: nothing now. Poll again when Batch.Changed is closed.
	Waiting
	// Behind: what comes next is not in the window. Call Fetch and poll again. A subscription that
	// is watched never says it.
	Behind
	// Ended: nothing will come any more. Batch.Err says why.
	Ended
)

// Batch is what Poll found.
type Batch struct {
	// Status says what to do next.
	Status Status
	// Entries follow each other without a gap. They are shared with other readers and must not be
	// modified. The entry that ends the topic has Final set and is the last one.
	Entries []*Entry
	// Gap says that messages before Entries or, when there are none, before At are gone.
	Gap bool
	// At is the position of the subscription after the batch: the ID of the last entry, or of one
	// behind it that is not for readers, or the ID behind a gap; "" when that position has no ID.
	At ID
	// Changed is set with Waiting, unless the subscription is watched.
	Changed <-chan struct{}
	// Err is set with Ended: an *Error, or nil when the topic is finished.
	Err error
}

// Subscribe opens a subscription to topic: at a Position, which is one of the options, and without
// one at Latest. The position is fixed when Subscribe returns: everything appended from there on is
// delivered, however much later the reader begins.
//
// The first subscription to a topic makes the hub follow it at the backend. Subscribe blocks
// until that is done, at most until ctx ends. Earliest also waits for a read of the first page, and
// Last and Since for the backend to find the position where the window does not reach back so far.
// The end of ctx also ends the subscription, except with UntilClosed. Close it, or
// range over All, to let go of it.
//
// Errors are *Error: ErrTopic, ErrPosition, ErrClosed, the context's, or the backend's. A
// position whose messages are gone is not an error here; see MarkGaps.
func (h *Hub) Subscribe(ctx context.Context, topic string, opts ...SubscribeOption) (*Subscription, error) {
	var o subscribeOptions
	for _, opt := range opts {
		opt.apply(&o)
	}
	var s *Subscription
	err := checkStart(topic, o.at)
	if err == nil {
		s, err = h.subscribeAt(ctx, topic, o)
	}
	if err != nil {
		return nil, &Error{Op: "subscribe", Topic: topic, Err: err}
	}
	return s, nil
}

// checkStart refuses what users may not subscribe to. Any other name is checked when the hub begins
// to follow the topic: one that is followed has been.
func checkStart(topic string, at Position) error {
	switch {
	case internal(topic):
		return CheckTopic(topic)
	case at.kind == after && at.id == "":
		return ErrPosition
	}
	return nil
}

// subscribeAt subscribes to any topic, one of the hub's own too.
func (h *Hub) subscribeAt(ctx context.Context, topic string, o subscribeOptions) (*Subscription, error) {
	switch { // in this order: the hub's own context ends after it began to close
	case h.isClosing():
		return nil, ErrClosed
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	f, err := h.follow(topic)
	if err != nil {
		return nil, err
	}
	if err = f.wait(ctx); err != nil {
		h.unfollow(f)
		return nil, err
	}
	s := &Subscription{hub: h, f: f, opts: o, quiet: never}
	if err := s.place(ctx, o.at); err != nil {
		s.Close()
		return nil, err
	}
	if !o.untilClosed && ctx.Done() != nil {
		s.mu.Lock()
		s.stopCtx = context.AfterFunc(ctx, func() { s.close(context.Cause(ctx)) })
		s.mu.Unlock()
	}
	return s, nil
}

// place puts the reader at its position.
func (s *Subscription) place(ctx context.Context, at Position) error {
	if at.kind == after && s.hub.IsID(at.id) {
		s.last, s.start = at.id, at.id
	}
	if !s.enterWindow(at) && at.kind == seeking {
		id, err := s.hub.reads.seek(ctx, s.f.name, at.seek)
		if err != nil {
			return err
		}
		s.last, s.start = id, id
		s.enterWindow(After(id))
	}
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

// enterWindow places the reader in the window if its position is there. Without Traits.Replay there
// is nothing else.
func (s *Subscription) enterWindow(at Position) bool {
	f, replay := s.f, s.hub.traits.Replay
	f.mu.RLock()
	defer f.mu.RUnlock()
	if replay {
		// What was lost before is nothing to a new reader: it begins at a position that the
		// backend knows, or asks. Without a backend to ask, what is lost may be from behind the
		// position.
		s.told = f.gapsFound()
	}
	switch at.kind {
	case latest:
		s.begin(f.log.Next())
		s.start = s.last
	case after:
		s.lost = s.last == "" && at.id != ""
		s.restart = s.lost && s.opts.markGaps
		seq, ok := f.log.After(string(s.last))
		if s.fresh = !ok; s.fresh {
			return false
		}
		s.attach(seq)
		if f.deletedBefore(seq) && seq == f.log.Next() {
			s.tellDeleted()
		}
	case earliest:
		if replay {
			return false
		}
		s.begin(f.log.First())
		s.start = s.last
	case seeking:
		seq, ok := f.find(at.seek)
		if !ok && replay {
			return false
		}
		s.begin(seq)
		s.start = s.last
	}
	return true
}

// begin places the reader inside the window, whatever its position was. f.mu is held.
func (s *Subscription) begin(seq uint64) {
	log := s.f.log
	s.attach(seq)
	if s.last = ID(log.Base()); seq > log.First() {
		id, _ := log.At(seq - 1)
		s.last = ID(id)
	}
}

// attach places the reader inside the window. f.mu is held.
func (s *Subscription) attach(seq uint64) {
	s.seq, s.attached, s.fresh = seq, true, false
	s.quiet, s.fetching = never, nil // of a position that the reader leaves now
	if s.f.endedBefore(seq) {
		s.ended = true
	}
}

// Topic returns the name of the topic.
func (s *Subscription) Topic() string { return s.f.name }

// Start returns the ID of the position where the subscription started. A new subscription After
// it gets the same messages. It is "" for Earliest when there were messages, since the position
// before the oldest retained message has no lasting ID, and for an invalid ID.
func (s *Subscription) Start() ID { return s.start }

// Erased reports whether a message was erased lately: for code that keeps entries between polls. It
// may be called from any goroutine.
func (s *Subscription) Erased(id ID) bool { return s.f.erased.Load().has(id) }

// All returns the messages of the subscription, from its position on, as they come. It blocks
// while there are none. Leaving the loop closes the subscription; the sequence can be used once.
// It is not for a subscription that is watched.
//
// An error comes at most once, last, and without a message. It is an *Error: ErrGap, ErrClosed,
// or the cause of Subscribe's context. The sequence ends without an error after the message that
// finished the topic.
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

// Watcher is woken when a subscription may have something new; see Subscription.Watch. It must be
// comparable, as pointers are. One value may watch any number of subscriptions.
type Watcher interface {
	// Wake is called by whoever makes the change, with locks of the hub held, and by several
	// goroutines at once. It must not block and not call the hub: take note, and have another
	// goroutine poll. A call may still come when the subscription is closed.
	Wake()
}

// Watch makes the subscription one that never has to be waited for. From now on, until it is
// closed, Poll does not say Behind and sets no Batch.Changed: it begins the read that it needs
// and says Waiting. Whenever Poll may find something else than before, a watcher is woken: topic
// for a change of the topic, once for a change however many of the topic's subscriptions it
// watches; and own when a read for this subscription is done. The two may be the same.
//
// Poll once after Watch has returned: nobody is woken for what came before. Watch is called by
// the goroutine that polls, at most once. Do not call Fetch any more. While the backend fails,
// Poll begins the read anew, at the hub's pace; there is no error to see.
func (s *Subscription) Watch(topic, own Watcher) {
	s.own, s.fetching = own, nil
	s.mu.Lock() // before the topic's, as in close
	defer s.mu.Unlock()
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.closed.Load() {
		return
	}
	if f.watchers == nil {
		f.watchers = make(map[Watcher]int)
	}
	f.watchers[topic]++
	s.watcher = topic
	f.hub.counters.watched.Add(1)
}

// Close ends the subscription and lets go of the topic; both are done when it returns. It never
// blocks on the backend, and may be called more than once and by any goroutine. A loop over All
// ends.
func (s *Subscription) Close() { s.close(ErrClosed) }

// close holds s.mu to its end: who closes while the context does, returns when both are done.
func (s *Subscription) close(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return
	}
	s.cause = cause
	s.closed.Store(true)
	if s.done != nil {
		close(s.done)
	}
	if s.stopCtx != nil {
		s.stopCtx()
	}
	if s.watcher != nil {
		s.f.unwatch(s.watcher)
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
