package main

import (
	"context"
	"fmt"
	"sync"
)

// waiting counts the commands that were accepted and are not done, so that there are never too
// many, and none is left behind at the end.
type waiting struct {
	most int

	mu     sync.Mutex
	n      int
	closed bool
	none   chan struct{} // closed when closed and n is 0
}

// newWaiting returns a count that goes up to most.
func newWaiting(most int) *waiting { return &waiting{most: most, none: make(chan struct{})} }

// add reports false when there are too many, or wait was called.
func (w *waiting) add() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.n >= w.most {
		return false
	}
	w.n++
	return true
}

func (w *waiting) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n--
	if w.closed && w.n == 0 {
		close(w.none)
	}
}

// wait lets no more in, and waits until all are done. It is called once.
func (w *waiting) wait(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	if w.n == 0 {
		close(w.none)
	}
	w.mu.Unlock()
	select {
	case <-w.none:
		return nil
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		return fmt.Errorf("cqrs: %d commands were not done: %w", w.n, ctx.Err())
	}
}
