package hub

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// topicSet is the topics that a hub follows, and how many read them.
type topicSet struct {
	hub *Hub

	mu            sync.Mutex // inside of a followed topic's lock
	topics        map[string]*followed
	subscriptions int           // without the hub's own
	closed        bool          // Shutdown has begun
	idle          chan struct{} // closed when closed and the last subscription is gone
}

// follow returns the followed topic with one more reader, and begins to follow it if nobody did.
// Whoever calls waits on ready, then looks at err, and calls unfollow in the end.
//
// The topic is followed under the hub's own context: of two readers that come at the same time, the
// first one's end must not fail the second.
func (s *topicSet) follow(topic string) (*followed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	f := s.topics[topic]
	if f == nil {
		if !internal(topic) { // those are the hub's own here; see checkStart
			if err := CheckTopic(topic); err != nil {
				return nil, err
			}
		}
		h := s.hub
		f = &followed{hub: h, name: topic, ready: make(chan struct{}), retry: make(chan struct{}, 1), window: window{opts: &h.opts}}
		f.ctx, f.cancel = context.WithCancel(h.ctx)
		s.topics[topic] = f
		h.spawn(f.establish) // never refused: the set closes before
	}
	f.readers++
	if !internal(topic) {
		s.subscriptions++
	}
	if f.idle != nil {
		f.idle.Stop()
		f.idle = nil
	}
	return f, nil
}

// unfollow takes one reader away. The last one starts the idle delay.
func (s *topicSet) unfollow(f *followed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.readers--
	if !internal(f.name) {
		s.subscriptions--
		if s.closed && s.subscriptions == 0 {
			close(s.idle)
		}
	}
	if f.readers == 0 && s.topics[f.name] == f && !s.closed {
		f.idle = time.AfterFunc(s.hub.opts.IdleDelay, func() {
			if s.forgetIdle(f) {
				f.release()
			}
		})
	}
}

// forgetIdle takes a topic off the hub's list if it still has no reader. A reader may have come
// after the idle timer fired and before this got the lock.
func (s *topicSet) forgetIdle(f *followed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.readers > 0 || s.topics[f.name] != f {
		return false
	}
	delete(s.topics, f.name)
	return true
}

// forget takes a topic off the hub's list, whoever reads it.
func (s *topicSet) forget(f *followed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics[f.name] == f {
		delete(s.topics, f.name)
	}
	if f.idle != nil {
		f.idle.Stop()
	}
}

// all returns the topics that are followed now.
func (s *topicSet) all() []*followed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list()
}

// list is all. s.mu is held.
func (s *topicSet) list() []*followed {
	return slices.AppendSeq(make([]*followed, 0, len(s.topics)), maps.Values(s.topics))
}

// count returns how many topics are followed and how many subscriptions are open.
func (s *topicSet) count() (topics, subscriptions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.topics), s.subscriptions
}

// shut begins a shutdown, unless that was done before: from here on nobody is let in. It returns
// the topics that are followed.
func (s *topicSet) shut() []*followed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.hub.closing)
		if s.subscriptions == 0 {
			close(s.idle)
		}
	}
	return s.list()
}
