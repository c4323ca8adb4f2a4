package hub

import (
	"context"
	"weak"
)

// Poll returns what is there now, without blocking, appended to dst: up to limit entries and
// about bytes of contents, but at least one entry if there is one. Use it for code that serves
// many subscriptions, or writes in batches; All is simpler.
//
// After Hub.Shutdown has begun it still returns what is in the window, and then ErrClosed.
func (s *Subscription) Poll(dst []*Entry, limit, bytes int) Batch {
	if err := s.closedErr(); err != nil {
		return Batch{Status: Ended, Err: err}
	}
	limit, bytes = max(limit, 1), max(bytes, 1)
	for {
		if s.own != nil && s.fetching != nil {
			s.arrive()
		}
		p := s.held()
		switch {
		case p != nil || s.gap:
			b := s.fromPage(dst, p, limit, bytes)
			if len(b.Entries) == len(dst) && !b.Gap {
				continue // nothing of it was for readers
			}
			return b
		case s.ended:
			return s.end()
		case s.own != nil && s.quiet == s.f.log.Changes():
			return Batch{Status: Waiting, At: s.last}
		}
		b := s.fromLog(dst, limit, bytes)
		if b.Status != Behind || s.own == nil {
			return b
		}
		if s.fetching == nil {
			s.fetching = s.startFetch()
		}
		if !s.fetching.wait.done() {
			b.Status = Waiting
			return b
		}
	}
}

func (s *Subscription) end() Batch {
	s.ended = true
	b := Batch{Status: Ended, At: s.last}
	if s.err != nil {
		b.Err = s.wrap(s.err)
	}
	return b
}

// tellGap ends the subscription at a gap, or notes the gap for the next batch, as the subscriber
// chose. The entry behind the gap, if it is there already, may say that the topic was deleted.
func (s *Subscription) tellGap(behind *Entry) {
	s.hub.counters.readerGaps.Add(1)
	s.lost = false
	if s.opts.markGaps {
		s.gap = true
		return
	}
	s.ended, s.err, s.page = true, ErrGap, nil
	if behind != nil && behind.Deleted {
		s.tellDeleted()
	}
}

// tellDeleted ends the subscription because its topic was deleted, if the subscriber chose so. A
// gap that is noted is told before.
func (s *Subscription) tellDeleted() {
	if s.opts.endDeleted {
		s.ended, s.err = true, ErrDeleted
	}
}

// fromPage takes entries from a page. With a gap to be told there may be no page.
func (s *Subscription) fromPage(dst []*Entry, p *page, limit, bytes int) Batch {
	b := Batch{Entries: dst, Gap: s.gap}
	s.gap = false
	for p != nil && limit > 0 && bytes > 0 {
		e := p.entries[s.pageAt]
		s.last = e.ID
		s.pageAt++
		switch {
		case e.Deleted && b.Gap: // without a gap the reader began with what is retained
			s.tellDeleted()
		case e.hushed || s.f.erased.Load().has(e.ID):
		default:
			b.Entries = append(b.Entries, e)
			limit, bytes = limit-1, bytes-e.size()
			// Whatever the page has after it: the topic may have been published to after it was
			// finished.
			s.ended = e.Final
		}
		if s.ended || s.pageAt == len(p.entries) {
			p = nil
		}
	}
	s.keep(p)
	b.At = s.last
	return b
}

// held returns the page that is polled next, nil for none. One that may have what was erased since,
// or what was deleted, is read again.
func (s *Subscription) held() (p *page) {
	if p = s.page; p == nil {
		p = s.rest.Value()
	}
	if p == nil || !s.f.erased.Load().outgrown(s.erasures) {
		return p
	}
	s.restart = s.sought && s.pageAt == 0 // nothing was had of it
	s.gap = s.gap && !s.restart
	s.keep(nil)
	return nil
}

// keep keeps the rest of a page for the next poll, nil for none. A page has up to PageBytes and
// more, and a reader that stalls would hold it for as long as it stalls. So beyond keptBytes a
// page stays only as long as the garbage collector, or another reader, leaves it; then it is read
// again.
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
	if len(b.Entries) == first && !s.ended && f.gapNext && s.told < f.gapsFound() && (s.hub.traits.Replay || s.opts.earlyGaps) {
		// The message that comes next would tell, but it may be long in coming.
		s.told = f.gapsFound()
		s.tellGap(nil)
	}
	if s.ended && len(b.Entries) == first && !s.gap {
		return s.end()
	}
	b.Gap, b.At = s.gap, s.last
	switch {
	case len(b.Entries) > first || s.gap:
	case s.hub.isClosing():
		// Shutdown closes closing and then takes the log's lock to wake readers. So who does not
		// see it closed here, under the lock, waits for a change that finish will make.
		b.Status, b.Err = Ended, s.wrap(ErrClosed)
	default:
		s.wait(&b)
	}
	s.gap = false
	return b
}

// wait makes b one that waits for the log's next change. f.mu is held.
func (s *Subscription) wait(b *Batch) {
	b.Status = Waiting
	s.quiet = s.f.log.Changes()
	if s.own == nil {
		b.Changed = s.f.log.Changed()
	}
}

// enter sees to it that the reader is inside the window. It reports false when it is not, and
// what it does instead is in b. f.mu is held.
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
		if rejoin, lost := f.lost[s.last]; lost && s.told < f.lostGap {
			// What the reader had last is gone from the store, and from the window. It goes on
			// where the two agree.
			s.told, s.last = f.lostGap, rejoin
			s.quiet, s.fetching = never, nil
			if s.tellGap(nil); s.ended {
				*b = s.end()
				return false
			}
		}
		if seq, ok := f.log.After(string(s.last)); ok {
			s.attach(seq)
		}
		switch {
		case s.gap && (s.ended || !s.attached):
			*b = Batch{Gap: true, At: s.last}
			s.gap = false
			return false
		case s.ended:
			*b = s.end()
			return false
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
		gap := e.gap > s.told
		if gap && len(dst) > first {
			break // a batch has a gap only before its first entry
		}
		if gap {
			s.told = e.gap
			if !s.gap {
				s.tellGap(nil)
			}
			if s.ended {
				return dst
			}
		}
		s.seq++
		s.last = e.ID
		if e.hushed {
			continue
		}
		dst = append(dst, e)
		limit, bytes = limit-1, bytes-e.size()
		if e.Final {
			s.ended = true
			break
		}
	}
	return dst
}

// outside decides what a reader does whose position is not in the window. It reports true when the
// reader was moved into the window. f.mu is held.
func (s *Subscription) outside() (Batch, bool) {
	f := s.f
	if s.hub.isClosing() {
		return Batch{Status: Ended, At: s.last, Err: s.wrap(ErrClosed)}, false
	}
	if s.hub.traits.Replay {
		b := Batch{Status: Behind, At: s.last}
		if s.quiet == f.log.Changes() {
			s.wait(&b) // the page was ahead of the live path, which will come here
		}
		return b, false
	}
	if s.tellGap(nil); s.ended {
		return s.end(), false
	}
	seq := f.log.First()
	if s.fresh && s.opts.replay != (Seek{}) {
		seq, _ = f.find(s.opts.replay)
	}
	s.seq, s.attached, s.last, s.fresh = seq, true, ID(f.log.Base()), false
	if seq > f.log.First() {
		id, _ := f.log.At(seq - 1)
		s.last = ID(id)
	}
	return Batch{}, true
}

// Fetch reads what comes next from the backend, after Poll said Behind. It tries until it succeeds;
// the error is an *Error with the cause of ctx, or ErrClosed when the subscription or the hub is
// closed.
func (s *Subscription) Fetch(ctx context.Context) error {
	if s.ended || s.attached || s.page != nil {
		return nil
	}
	done := s.doneChan()
	var pause backoff
	for {
		if s.fetching == nil {
			s.fetching = s.startFetch()
		}
		p, err := s.fetching.wait.wait(ctx, done)
		if err == nil {
			if !s.turn(p) {
				continue
			}
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

// startFetch begins to read what comes after s.last.
func (s *Subscription) startFetch() *fetch {
	// Counted before the Read begins: what is appended after it shows up in the page, or as a
	// change.
	changes, gaps := s.f.log.Changes(), s.f.gapsNow()
	key := readKey{topic: s.f.name, after: s.last, limit: pageLimit}
	if s.restart {
		key.after, key.sought = "", s.opts.replay
	}
	erasures := s.f.erased.Load().made()
	return &fetch{s.hub.reads.begin(key, s.own), changes, gaps, erasures}
}

// arrive takes over the read under way if it is done. One that failed is begun again by Poll: reads
// are spaced while the backend fails.
func (s *Subscription) arrive() {
	if !s.fetching.wait.done() {
		return
	}
	if p, err := s.fetching.wait.outcome(); err != nil {
		s.fetching = nil
	} else {
		s.turn(p) // Poll begins another read if one is needed
	}
}

// turn takes the page that s.fetching has brought, which was read after s.last. It reports false
// when another one is needed instead.
//
// A reader that has had nothing yet and whose position nobody knows begins anew, with what its
// subscriber allows. One that has had something goes on with the page, which has what is newer.
func (s *Subscription) turn(p *page) bool {
	changes, gaps := s.fetching.changes, s.fetching.gaps
	s.erasures, s.sought, s.fetching = s.fetching.erasures, s.restart, nil
	gap := p.gap || s.restart || s.lost
	switch {
	case gap && s.fresh && !s.restart && s.opts.markGaps:
		s.restart = true
		return false
	case gap && !s.fresh:
		s.f.doubt()
	}
	s.fresh, s.restart = false, false
	if gap {
		s.told = max(s.told, gaps) // the page is from behind them
		var behind *Entry
		if len(p.entries) > 0 {
			behind = p.entries[0]
		}
		if s.tellGap(behind); s.ended {
			return true
		}
	} else if p.final {
		s.ended = true
		return true
	}
	if len(p.entries) > 0 {
		// Kept for the first poll at any rate, so that the reader comes forward.
		s.page, s.pageAt = p, 0
		return true
	}
	if p.deleted && !gap {
		s.tellDeleted()
	}
	s.last, s.quiet = p.next, changes
	return true
}
