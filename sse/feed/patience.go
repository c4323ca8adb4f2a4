package feed

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errConnect = errors.New("feed: connecting to the backend took too long")

// patience is a context that ends with the one it is made from or, with errConnect, when somebody
// has waited for a time: its clock runs from the first Done on. Mostly nobody waits, because the
// topic is followed already, and a timer for each connection costs as much as the rest of a
// subscription.
type patience struct {
	context.Context // what it is made from
	timeout         time.Duration

	mu      sync.Mutex
	running context.Context // nil before the first Done
	cancel  context.CancelFunc
}

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		p.running, p.cancel = context.WithTimeoutCause(p.Context, p.timeout, errConnect)
	}
	return p.running.Done()
}

// Err implements context.Context.
func (p *patience) Err() error { return p.current().Err() }

// Value implements context.Context. Package context finds the cause of an end in it.
func (p *patience) Value(key any) any { return p.current().Value(key) }

func (p *patience) current() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return p.Context
	}
	return p.running
}

// end lets go of the timer.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		p.cancel()
	}
}

// atOnce is a context for a call that is to fail with errWait where it would have to wait: when
// somebody asks for its Done, it has ended.
type atOnce struct {
	context.Context // what it is made from
	asked           bool
}

var errWait = errors.New("feed: it would have to wait")

// ended is the Done of every atOnce.
var ended = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done implements context.Context.
func (a *atOnce) Done() <-chan struct{} {
	a.asked = true
	return ended
}

// Err implements context.Context.
func (a *atOnce) Err() error {
	if a.asked {
		return errWait
	}
	return a.Context.Err()
}
