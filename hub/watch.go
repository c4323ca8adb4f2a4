package hub

// Watcher is woken when a subscription may have something new; see Subscription.Watch. It must be
// comparable, as pointers are. One value may watch any number of subscriptions.
type Watcher interface {
	// Wake is called with locks of the hub held, by whoever makes the change, and by several
	// goroutines at once. It must not block and not call the hub. It should take note and have
	// another goroutine poll. A call may still come when the subscription is closed.
	Wake()
}

// Watch makes the subscription one that never has to be waited for: from now on, until it is closed,
// Poll does not say Behind and sets no Batch.Changed. It begins the read that it needs and says
// Waiting. Whenever Poll may find something else than before, a watcher is woken: topic for a change
// of the topic, once for a change however many of the topic's subscriptions it watches; and own when
// a read for this subscription is done. The two may be the same.
//
// Poll once after Watch has returned: nobody is woken for what came before. Watch is called by the
// goroutine that polls, at most once. Fetch must not be called any more.
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

// unwatch takes back what Watch did.
func (f *followed) unwatch(w Watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hub.counters.watched.Add(-1)
	if f.watchers[w]--; f.watchers[w] <= 0 {
		delete(f.watchers, w)
	}
}

// notify wakes the watchers. f.mu is held.
func (f *followed) notify() {
	for w := range f.watchers {
		w.Wake()
	}
}
