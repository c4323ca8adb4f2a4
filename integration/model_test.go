package integration

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

// counters is the state of a model: some counters, and how often one of them was set.
type counters struct {
	Version int      `json:"version"`
	Values  [8]int32 `json:"values"`
}

// change is the message about one change. It says what is, not what is to be added.
type change struct {
	Version int   `json:"version"`
	Counter int   `json:"counter"`
	Value   int32 `json:"value"`
}

func (c *counters) apply(by change) { c.Version, c.Values[by.Counter] = by.Version, by.Value }

// model is changed at full speed: first the state, under a lock, and then the change is published.
type model struct {
	hub   *hub.Hub
	clock sync.Cond

	// Guarded by clock.L.
	history   []counters // by version
	published int        // the version whose message was published last
	waits     []wait
	urgent    int         // waits of those who hold somebody up
	hold      func() bool // whether the next change has to wait for readers
	done      bool
}

// wait is for a version to be published.
type wait struct {
	version int
	reached chan struct{}
}

const modelTopic = "counters"

func newModel(h *hub.Hub) *model {
	return &model{hub: h, clock: sync.Cond{L: new(sync.Mutex)}, history: make([]counters, 1)}
}

// run changes the model until it is done.
func (m *model) run(t *testing.T) {
	for {
		m.clock.L.Lock()
		for !m.done && m.urgent == 0 && m.hold() {
			m.clock.Wait()
		}
		if m.done {
			m.clock.L.Unlock()
			return
		}
		next := m.history[len(m.history)-1]
		by := change{Version: next.Version + 1, Counter: rand.IntN(len(next.Values)), Value: rand.Int32()}
		next.apply(by)
		m.history = append(m.history, next)
		m.clock.L.Unlock()

		data, _ := json.Marshal(by)
		_, err := m.hub.Publish(context.Background(), modelTopic, hub.Message{Data: data})

		m.clock.L.Lock()
		m.published = by.Version
		if err != nil {
			t.Errorf("Publish: %v", err)
			m.done = true
		}
		left := m.waits[:0]
		for _, w := range m.waits {
			if w.version <= m.published || m.done {
				close(w.reached)
			} else {
				left = append(left, w)
			}
		}
		m.waits = left
		m.clock.L.Unlock()
	}
}

// wait waits until so many more versions, or version from on, are published. No change is held back
// while it is urgent.
func (m *model) wait(from, more int, urgent bool) {
	m.clock.L.Lock()
	if from < 0 {
		from = m.published
	}
	if m.done || m.published >= from+more {
		m.clock.L.Unlock()
		return
	}
	w := wait{from + more, make(chan struct{})}
	m.waits = append(m.waits, w)
	if urgent {
		m.urgent++
		m.clock.Broadcast()
	}
	m.clock.L.Unlock()
	<-w.reached
	if urgent {
		m.clock.L.Lock()
		m.urgent--
		m.clock.L.Unlock()
	}
}

// change does something under the lock and looks again at what is held back.
func (m *model) change(f func()) {
	m.clock.L.Lock()
	defer m.clock.L.Unlock()
	f()
	m.clock.Broadcast()
}

func (m *model) at(version int) (counters, bool) {
	m.clock.L.Lock()
	defer m.clock.L.Unlock()
	if version >= len(m.history) {
		return counters{}, false
	}
	return m.history[version], true
}

// snapshot returns the state. Changes are published before it is read, one of them for certain
// after the stream has got its place, and after it: so each snapshot is overtaken and each has news
// that come again, however fast anything is.
func (m *model) snapshot(*ginsse.Context[struct{}]) (any, error) {
	m.wait(-1, 2, true)
	m.clock.L.Lock()
	state := m.history[len(m.history)-1]
	m.clock.L.Unlock()
	m.wait(state.Version, 1, true)
	return state, nil
}
