package hub

import (
	"slices"
	"time"
)

// mend makes the live path whole after something may have been lost on it. f.mu is held.
//
// With Replay a goroutine reads from the log's last ID; until it has met the live path, live
// messages are held back. Without Replay nothing can be read: the next message follows a gap, and
// the window keeps its past.
func (f *followed) mend() {
	switch {
	case !f.hub.traits.Replay:
		f.gapAhead()
		f.state = live
		for _, m := range f.takeHeld() {
			if !f.known(m.ID) {
				f.append(m)
			}
		}
		f.log.Wake() // those who are not to wait for the next message to hear of the gap
	case f.state == healing:
		f.again = true
	default:
		f.state = healing
		f.healFrom = f.log.Next()
		f.hub.spawn(f.heal)
	}
}

// interrupted notes that messages may be missing between those that are held and the next one. f.mu
// is held.
func (f *followed) interrupted() {
	switch {
	case !f.hub.traits.Replay:
		f.gapAhead()
	case f.hub.traits.Chained:
		// Each held message tells what it follows; but not that something came after it.
		f.again = true
		f.stale = f.dropped + uint64(len(f.held))
	default:
		// Held messages are appended one after the other from where a page met them, so there must
		// be no hole among them. Reads see what is dropped here (rule R7).
		f.again = true
		f.takeHeld()
		if f.log != nil {
			f.healFrom = f.log.Next()
		}
	}
}

// gapAhead notes a gap before the next message. One that is noted already is another one: some
// readers were told of it, or came behind it, and have lost something since. f.mu is held.
func (f *followed) gapAhead() {
	f.settleGap()
	f.gapNext = true
	f.gapFound()
}

func (f *followed) gapFound() {
	f.hub.counters.gaps.Add(1)
	if hook := f.hub.opts.Observer.Gap; hook != nil {
		hook(f.name)
	}
}

// hold keeps a live message until the live path is whole, within the bounds of a window; beyond
// them the oldest is dropped. f.mu is held.
func (f *followed) hold(m Message) {
	if !f.hub.traits.Replay {
		// With Replay a page may bring the same message, and would not know of the gap.
		m.Gap = f.gapNext
		f.settleGap()
	}
	f.held = append(f.held, m)
	f.heldBytes += int64(windowSize(&m))
	for len(f.held) > f.hub.opts.Window || f.heldBytes > f.hub.opts.WindowBytes && len(f.held) > 1 {
		f.dropOldestHeld()
	}
}

// dropOldestHeld makes room: what is dropped is read from the backend or, without Replay, said as a
// gap by what follows it.
func (f *followed) dropOldestHeld() {
	said := f.held[0].Gap
	f.dropHeld(1)
	switch {
	case f.hub.traits.Replay:
		f.again = true
		return
	case len(f.held) > 0:
		f.held[0].Gap = true
	default:
		f.settleGap()
		f.gapNext = true
	}
	if !said {
		f.gapFound()
	}
}

// doubt is for when the store does not know an ID that it gave to a reader: it was trimmed, or the
// store has lost it, and more perhaps. Pages from before, and messages that are held, may have some
// of those; what is not lost of them is read.
func (f *followed) doubt() {
	f.hub.reads.forget(f.name)
	f.mu.Lock()
	defer f.unlock()
	if f.state == healing {
		f.again = true
		f.takeHeld()
		f.healFrom = f.log.Next()
	}
}

func (f *followed) dropHeld(n int) {
	for i := range n {
		f.heldBytes -= int64(windowSize(&f.held[i]))
	}
	clear(f.held[:n]) // lets go of the messages, at no cost for those behind them
	f.held = f.held[n:]
	f.dropped += uint64(n)
}

func (f *followed) takeHeld() []Message {
	held := f.held
	f.dropped += uint64(len(held))
	f.held, f.heldBytes = nil, 0
	return held
}

// heal reads pages from the log's last ID on until they meet the live path.
func (f *followed) heal() {
	start := time.Now()
	var wait backoff
	for {
		f.mu.Lock()
		if f.state != healing {
			f.mu.Unlock()
			return
		}
		last := ID(f.log.Last())
		from := f.from(last)
		before := f.dropped + uint64(len(f.held)) // held messages that came before this Read
		f.again = false
		f.mu.Unlock()

		p, common, err := f.next(from)
		if err != nil {
			if !wait.sleep(f.ctx, f.retry, nil) {
				if f.ctx.Err() != nil {
					return
				}
				wait = backoff{}
			}
			f.mu.Lock()
			f.again = true
			f.mu.Unlock()
			continue
		}
		wait = backoff{}

		f.mu.Lock()
		if common == "" && ID(f.log.Last()) == last {
			f.renew(last, p)
		}
		whole := f.state == healing && f.merge(p, common, before)
		if whole {
			f.state = live
		}
		f.unlock()
		f.hub.sweeper.sweep()
		if whole {
			f.hub.counters.heals.Add(1)
			if hook := f.hub.opts.Observer.Healed; hook != nil {
				hook(f.name, time.Since(start))
			}
			return
		}
	}
}

// next reads what comes after the log's last ID. Where the backend has lost that, it reads what
// comes after the newest ID in the window that the backend still knows, which is common then; ""
// otherwise.
//
// The backend knows the IDs from its oldest retained message up to where its history parted from
// ours. So the search goes back from the newest ID in steps that double, until one is known, and
// then halves the distance. Where less is retained than the step it may find none.
func (f *followed) next(last ID) (p *page, common ID, err error) {
	p, err = f.hub.reads.read(f.ctx, f.name, last, pageLimit)
	if err != nil || !p.gap {
		return p, "", err
	}
	f.hub.reads.forget(f.name)
	f.mu.RLock()
	ids := f.ids()
	f.mu.RUnlock()
	known := func(i int) bool {
		var at *page
		if err == nil {
			at, err = f.hub.reads.read(f.ctx, f.name, ids[i], 1)
		}
		return err == nil && !at.gap
	}
	found, unknown := -1, len(ids)-1
	for step := 1; unknown > 0 && found < 0; step *= 2 {
		if i := max(unknown-step, 0); known(i) {
			found = i
		} else {
			unknown = i
		}
	}
	if found < 0 || err != nil {
		return p, "", err
	}
	for unknown-found > 1 {
		if middle := found + (unknown-found)/2; known(middle) {
			found = middle
		} else {
			unknown = middle
		}
	}
	if err != nil {
		return nil, "", err
	}
	return f.nextAfter(ids[found], ids[found+1:], p)
}

// nextAfter reads what comes after a common ID. Where the window has lost messages more than once,
// there may be newer ones behind it: they come first in the page. The common ID is the newest of
// them then, and what comes after that one is returned. If the ID has been lost, too, it returns
// otherwise.
func (f *followed) nextAfter(common ID, newer []ID, otherwise *page) (*page, ID, error) {
	for {
		// Not a page that somebody asked for before the loss that was found last.
		f.hub.reads.forget(f.name)
		p, err := f.hub.reads.read(f.ctx, f.name, common, pageLimit)
		if err != nil || p.gap {
			return otherwise, "", err
		}
		rest := p.entries
		for i, e := range p.entries {
			if slices.Contains(newer, e.ID) {
				common, rest = e.ID, p.entries[i+1:]
			}
		}
		if len(rest) > 0 || len(p.entries) == 0 {
			return &page{entries: rest, next: p.next}, common, nil
		}
	}
}

// renew notes what the backend calls the position of the log's last ID, and reports whether the
// page that was read from there says that it is the newest. f.mu is held.
func (f *followed) renew(last ID, p *page) bool {
	if p.whole() {
		f.renewed = renewal{last, p.next}
	}
	return p.whole()
}

// from returns the ID to read from for what is behind the log's last one. A backend that can prove
// for some time only that an empty topic has missed nothing calls the position otherwise from time
// to time. Readers keep the ID they have. f.mu is held, or read.
func (f *followed) from(last ID) ID {
	if f.renewed.last == last && last != "" {
		return f.renewed.now
	}
	return last
}

// merge takes a page that was read after the log's last ID, or after the common one, and then the
// held messages that follow it. It reports whether the live path is whole. before counts the held
// messages, of all that were ever held, that came before the Read began. f.mu is held.
func (f *followed) merge(p *page, common ID, before uint64) bool {
	switch {
	case common != "" && !f.returned(p):
		if !f.rewindTo(common) {
			return false
		}
	case common != "" || p.gap:
		f.gapFound()
		var base ID
		if len(p.entries) == 0 {
			base = p.next
		}
		f.restart(base)
		f.settleGap() // each reader asks for itself
	}
	for _, e := range p.entries {
		if f.known(e.ID) {
			continue
		}
		m := e.Message
		m.Prev = ""
		f.append(m)
	}
	tip := len(p.entries) == 0
	if tip && before > f.dropped {
		// A Read sees what was delivered before it began (rule R7). These were, and nothing is
		// after the log's last ID: they are repeats from before it.
		n := min(int(before-f.dropped), len(f.held))
		f.hub.counters.duplicates.Add(uint64(n))
		f.dropHeld(n)
	}
	// A page has brought what the live path brought too, since it was interrupted: it goes on
	// from there.
	met := false
	for len(f.held) > 0 {
		m, since := f.held[0], f.dropped >= f.stale
		next, known := f.log.After(string(m.ID))
		_, lost := f.lost[m.ID]
		switch {
		case lost: // see place
		case known:
			met = met || since && next > f.healFrom
			f.synced = max(f.synced, next)
		case f.hub.traits.Chained && string(m.Prev) == f.log.Last(), !f.hub.traits.Chained && !f.again && (met || tip) && !f.outrun():
			f.append(m)
			f.synced = f.log.Next()
			met = met || since
		default:
			return false // the next page comes nearer, or was read late enough
		}
		f.dropHeld(1)
	}
	return (met || tip) && !f.again
}

// returned reports whether a page has messages that the store had lost: it is back in a history
// that it had left. Who had them, the window cannot tell. f.mu is held.
func (f *followed) returned(p *page) bool {
	return slices.ContainsFunc(p.entries, func(e *Entry) bool {
		_, lost := f.lost[e.ID]
		return lost
	})
}

// rewindTo takes away what the backend has lost behind an ID. It reports false when the ID has left
// the window meanwhile. f.mu is held.
func (f *followed) rewindTo(common ID) bool {
	first := f.log.First()
	if !f.rewind(common) {
		return false
	}
	f.hub.reads.forget(f.name)
	f.gapAhead()
	f.lostGap = f.gapsFound()
	f.synced = min(f.log.First()+(max(f.synced, first)-first), f.log.Next())
	f.healFrom = f.log.Next()
	if f.finishing {
		f.until = f.log.Next()
	}
	return true
}
