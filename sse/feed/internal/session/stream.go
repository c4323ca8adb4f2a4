package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

// Stream is a machine, what others want of it, and how its life goes. What is said in the words of
// others, by its context, by Leave or by a drain, is carried out by whoever calls Next.
//
// Leave may be called from any goroutine, the other methods by one at a time, the stream's driver.
type Stream struct {
	Result
	// Slowest is the longest time that Drive has waited for a Next with user code, zero where there
	// was none.
	Slowest time.Duration

	machine Machine
	ctx     context.Context
	waker   Waker
	writing bool // by Drive: what has panicked then is the writer

	told   atomic.Bool // orders are new
	mu     sync.Mutex
	orders orders
}

// Result is how a stream's life went.
type Result struct {
	// Cause is why it ended, nil before.
	Cause error
	// Events and Bytes count what was written.
	Events int
	Bytes  int64
	// Aborted says that the connection was, or is to be, ended so that the client cannot take it
	// for a clean end; AbortErr why that was not possible.
	Aborted  bool
	AbortErr error
	// Broken says that the connection failed, or that the client has left.
	Broken bool
	// Panicked is what the source panicked with, where nobody could recover it yet.
	Panicked any
}

// orders are what others want of a stream.
type orders struct {
	gone  bool // the client is
	drain bool
}

// Init makes s the stream of a source, with w woken whenever Next may have something to do. It
// ends with ctx: with what a shutdown, a revocation or a rotation sends last where the cause of ctx
// is one, else at once.
func (s *Stream) Init(ctx context.Context, c Config, source Source, w Waker) {
	s.ctx, s.machine, s.waker = ctx, Machine{source: source, config: c}, w
	if ctx.Err() != nil {
		// Perhaps the right to the stream was revoked: nothing may be sent before that is noticed.
		s.told.Store(true)
	}
}

// Watch begins to watch the source. It is called once, before Next.
func (s *Stream) Watch() { s.machine.source.Watch(s.waker) }

// Follow makes the end of the context, and a drain, orders of the stream, until stop is called.
func (s *Stream) Follow() (stop func()) {
	unfollow, forget := func() bool { return true }, func() {}
	if s.ctx.Done() != nil {
		unfollow = context.AfterFunc(s.ctx, func() { s.tell(func(*orders) {}) })
	}
	if s.machine.config.OnClosing != nil {
		forget = s.machine.config.OnClosing(func() { s.tell(func(o *orders) { o.drain = true }) })
	}
	return func() {
		unfollow()
		forget()
	}
}

// Leave says that the client is gone.
func (s *Stream) Leave() { s.tell(func(o *orders) { o.gone = true }) }

// tell leaves an order and wakes the driver.
func (s *Stream) tell(change func(*orders)) {
	s.mu.Lock()
	change(&s.orders)
	s.mu.Unlock()
	s.told.Store(true)
	s.waker.Wake()
}

// Next carries out what others want, and then is Machine.Next. The stream is over when it returns
// hub.Ended, once the frames in w are written.
func (s *Stream) Next(now time.Time, w *Work) Step {
	if s.obey(); s.Cause != nil {
		w.begin()
		return Step{Status: hub.Ended, Cause: s.Cause}
	}
	step := s.machine.Next(now, w)
	if errors.Is(step.Cause, ErrClientGone) && s.ctx.Err() != nil {
		// The source saw the end of the context first, and does not know its cause.
		step.Cause = Ended(s.ctx)
	}
	return step
}

// Deadline is Machine.Deadline.
func (s *Stream) Deadline() time.Time { return s.machine.Deadline() }

// obey carries out what others have ordered.
func (s *Stream) obey() {
	if s.Cause != nil || !s.told.Swap(false) {
		return
	}
	s.mu.Lock()
	o := s.orders
	s.mu.Unlock()
	if o.drain {
		s.machine.Drain(s.machine.config.DrainAt())
	}
	switch cause := Ended(s.ctx); {
	case decided(cause):
		s.machine.Stop(cause)
	case cause != nil:
		s.Cause = cause
	case o.gone:
		s.Cause = ErrClientGone
	}
	s.Broken = s.Broken || o.gone
}

// Wrote counts what was written.
func (s *Stream) Wrote(events, size int) {
	s.Events += events
	s.Bytes += int64(size)
}

// End takes over the end of the machine. Its last frames are written.
func (s *Stream) End(step Step) {
	if s.Cause == nil {
		s.Cause, s.Aborted = step.Cause, step.Abort
	}
}

// Fail takes over the end of the connection.
func (s *Stream) Fail(err error) {
	s.Broken = true
	switch cause := Ended(s.ctx); {
	case errors.Is(err, ErrInterrupted):
		s.Cause = ErrClientGone
	case cause != nil && !decided(cause) && !errors.Is(cause, ErrClientGone):
		// somebody's, who perhaps made the write fail; else the server ends ctx because it has
		// failed.
		s.Cause = cause
	default:
		s.Cause = fmt.Errorf("%w: %w", ErrWriteFailed, err)
	}
}

// Panic takes over what the source panicked with.
func (s *Stream) Panic(value any) {
	s.Cause, s.Aborted, s.Panicked = ErrPanicked, true, value
}

// ErrInterrupted is matched by the error of a write that was made to fail because the client has
// left.
var ErrInterrupted = errors.New("interrupted")
