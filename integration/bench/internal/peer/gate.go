package peer

import (
	"sync"
	"time"
)

// gate is how many messages have reached every client.
type gate struct {
	mu      sync.Mutex
	count   int
	changed chan struct{} // closed and replaced when count changes
	closed  bool
}

func newGate() *gate { return &gate{changed: make(chan struct{})} }

func (g *gate) open(count float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count = max(g.count, int(count))
	g.tell()
}

func (g *gate) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count = 0
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.tell()
}

func (g *gate) tell() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait waits until count messages have arrived. It reports false when the end came first.
func (g *gate) wait(count int, end <-chan time.Time) bool {
	for {
		g.mu.Lock()
		reached, changed, closed := g.count >= count, g.changed, g.closed
		g.mu.Unlock()
		if reached || closed {
			return reached
		}
		select {
		case <-changed:
		case <-end:
			return false
		}
	}
}
