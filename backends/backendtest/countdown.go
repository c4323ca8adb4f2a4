package backendtest

import (
	"context"
	"sync"
)

// countdown is a context that ends when it was looked at a number of times.
type countdown struct {
	context.Context
	mu    sync.Mutex
	looks int
	over  bool
	done  chan struct{}
}

func newCountdown(parent context.Context, looks int) *countdown {
	return &countdown{Context: parent, looks: looks, done: make(chan struct{})}
}

func (c *countdown) Done() <-chan struct{} {
	c.look()
	return c.done
}

func (c *countdown) Err() error {
	if c.look() {
		return context.Canceled
	}
	return nil
}

func (c *countdown) look() (over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks--; c.looks < 0 {
		c.finish()
	}
	return c.over
}

// end ends the context, so that those who wait for it go.
func (c *countdown) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish()
}

func (c *countdown) finish() {
	if !c.over {
		c.over = true
		close(c.done)
	}
}
