package hub

import "time"

// mend makes the live path whole after something may have been lost on it. f.mu is held.
//
// With Replay a goroutine reads from the log's last ID; until it has met the live path, live
// messages are held back. Without Replay nothing can be read: the next message follows a gap, and
// the window keeps its past.
func (f *followed) mend() {
	switch {
	case !f.hub.traits.Replay:
		f.gapNext = true
		f.gapFound()
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
		f.gapNext = true
		f.gapFound()
	case f.hub.traits.Chained:
		f.again = true // each held message tells what it follows
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

func (f *followed) gapFound() {
	f.hub.counters.gaps.Add(1)
	if hook := f.hub.opts.Observer.Gap; hook != nil {
		hook(f.name)
	}
}

// hold keeps a live message until the live path is whole, within the bounds of a window; beyond
// them the oldest is dropped. f.mu is held.
func (f *followed) hold(m Message) {
	m.Gap, f.gapNext = f.gapNext, false
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
		f.gapNext = true
	}
	if !said {
		f.gapFound()
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
		before := f.dropped + uint64(len(f.held)) // held messages that came before this Read
		f.again = false
		f.mu.Unlock()

		p, err := f.hub.reads.read(f.ctx, f.name, last, pageLimit)
		if err != nil {
			if !wait.sleep(f.ctx, nil, nil) {
				return
			}
			f.mu.Lock()
			f.again = true
			f.mu.Unlock()
			continue
		}
		wait = backoff{}

		f.mu.Lock()
		whole := f.state == healing && f.merge(p, before)
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

// merge takes a page that was read after the log's last ID, and then the held messages that follow
// it. It reports whether the live path is whole. before counts the held messages, of all that were
// ever held, that came before the Read began. f.mu is held.
func (f *followed) merge(p *page, before uint64) bool {
	if p.gap {
		f.gapFound()
		var base ID
		if len(p.entries) == 0 {
			base = p.next
		}
		f.restart(base)
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
		m := f.held[0]
		next, known := f.log.After(string(m.ID))
		switch {
		case known:
			met = met || next > f.healFrom
			f.synced = max(f.synced, next)
		case f.hub.traits.Chained && string(m.Prev) == f.log.Last(), !f.hub.traits.Chained && !f.again && (met || tip && !f.outrun()):
			f.append(m)
			f.synced = f.log.Next()
			met = true
		default:
			return false // the next page comes nearer, or was read late enough
		}
		f.dropHeld(1)
	}
	return (met || tip) && !f.again
}
