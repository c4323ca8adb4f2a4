package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Drain ends the streams of a server that shuts down, each at a moment of its own within a
// window, so that the clients do not all come to the other instances at once. Until its moment a
// stream goes on, and its client is back on another instance soon after. All routes of a server
// share one value, by pointer, in Options.Drain; its zero value is ready. All methods are safe
// for concurrent use.
//
//	drain := &feed.Drain{}                  // in the Options of the routes
//	server.RegisterOnShutdown(drain.Begin)
//	…
//	err := server.Shutdown(ctx)             // takes no more connections, and begins the drain
//	err = errors.Join(err, drain.Wait(ctx)) // until the last stream has ended
//	err = errors.Join(err, h.Shutdown(ctx)) // and the hub has no readers left
//
// Wait is needed: http.Server.Shutdown does not wait for connections that were taken over from
// it, as most streams' are.
//
// If you shut the hub down first, the streams end in a harder way: all at once, and the clients
// are told to come back within the window.
type Drain struct {
	// Window is how long the ends of streams are spread over. It should leave the context of the
	// Shutdown time to spare. Default 5 s; negative: all end at once.
	Window time.Duration

	mu    sync.Mutex
	begun time.Time // zero before
	open  int
	calls map[*func()]struct{} // what Begin calls
	idle  chan struct{}        // closed when begun and nothing is open any more
}

// ErrDraining means that streams were still open when the context of Wait ended.
var ErrDraining = errors.New("feed: streams are still open")

// Begin begins to end the streams, and returns at once. From now on, a client that connects is
// told to come back. More calls do nothing.
func (d *Drain) Begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.init()
	if !d.begun.IsZero() {
		return
	}
	d.begun = time.Now()
	for call := range d.calls {
		(*call)()
	}
	d.calls = nil
	d.settle()
}

// Wait blocks until Begin was called and every stream has ended, including the handlers and
// middleware of connections that were taken over, unless their client left before. If ctx ends
// first, Wait returns ErrDraining wrapping ctx's cause. The server's Shutdown waits for the
// handlers of the other streams.
func (d *Drain) Wait(ctx context.Context) error {
	d.mu.Lock()
	d.init()
	idle := d.idle
	d.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-idle: // both at once
		return nil
	default:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Errorf("%w: %d: %w", ErrDraining, d.open, context.Cause(ctx))
}

// enter takes note of a stream. It reports false when there are to be no more. A nil Drain takes
// every stream.
func (d *Drain) enter() (leave func(), ok bool) {
	if d == nil {
		return func() {}, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.begun.IsZero() {
		return nil, false
	}
	d.open++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open--
		d.settle()
	}, true
}

// hasBegun reports whether Begin was called.
func (d *Drain) hasBegun() bool { return d != nil && !d.beginning().IsZero() }

// onBegin has f called when the drain begins, or at once if it has begun, unless stop was called
// before. f must not block.
func (d *Drain) onBegin(f func()) (stop func()) {
	if d == nil {
		return func() {}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.begun.IsZero() {
		f()
		return func() {}
	}
	if d.calls == nil {
		d.calls = make(map[*func()]struct{})
	}
	call := &f
	d.calls[call] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.calls, call)
	}
}

// beginning returns when Begin was called.
func (d *Drain) beginning() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun
}

func (d *Drain) window() time.Duration {
	if d == nil || d.Window == 0 {
		return 5 * time.Second
	}
	return max(d.Window, 0)
}

// init makes the zero value ready. The lock is held.
func (d *Drain) init() {
	if d.idle == nil {
		d.idle = make(chan struct{})
	}
}

// settle tells who waits when the last stream has ended. The lock is held.
func (d *Drain) settle() {
	if !d.begun.IsZero() && d.open == 0 {
		close(d.idle)
	}
}
