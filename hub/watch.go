package hub

// Watcher is woken when something changes in the topics it watches; see Subscription.Watch. It must be comparable, as pointers are. One value may watch any number of subscriptions.
type Watcher interface {
	// Wake is called with locks of the hub held, by whoever makes the change, several calls at once for different topics: it must not block and not call the hub. It should take note
	// and have another goroutine poll.
	Wake()
}

// Watch has w woken, from now on until the subscription is closed, whenever Poll may find something else than before: instead of Batch.Changed, for code that serves many subscriptions from one
// goroutine. A watcher is woken once for a change, however many of the topic's subscriptions it watches. Poll once after Watch returned: what came before wakes nobody. A subscription has one watcher,
// set once.
func (s *Subscription) Watch(w Watcher) {
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
	f.watchers[w]++
	s.watcher = w
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
