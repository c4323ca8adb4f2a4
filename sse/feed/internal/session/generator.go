package session

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// Generate runs a generator on the calling goroutine and sends what it yields. Heartbeats,
// rotation and expiry go on while it blocks, by one timer and a lock.
//
// The generator's context ends, with the cause of the end, as soon as nothing more can be sent;
// yield then returns false. When the generator has returned, everything that Generate started has
// ended. An error that is yielded, or an event that cannot be encoded, fails the stream. A panic,
// or runtime.Goexit, tells the client, aborts the connection and goes on; done is called before, as
// it is called before Generate returns.
func Generate(ctx context.Context, c Config, w Writer, seq func(context.Context) iter.Seq2[sse.Event, error], done func(Result)) {
	g := &generator{writer: w, request: ctx}
	g.stream.machine = Machine{source: &g.outbox, config: c}
	// Not a child of ctx: that would end with a cause of its own before the right one is known.
	g.ctx, g.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	g.stream.ctx = g.ctx
	returned := false
	defer func() {
		if !returned {
			open := g.ctx.Err() == nil
			g.cancel(ErrPanicked)
			// Without waiting for the lock: a write that blocks is to fail.
			if open && g.mu.TryLock() {
				g.stream.lament(w)
				g.mu.Unlock()
			}
			g.aborted = true
			g.abortErr = w.Abort()
		} else {
			g.cancel(ErrFinished)
		}
		g.stop()
		done(g.outcome())
		if returned && g.panicked != nil {
			panic(g.panicked) // of the timer's goroutine, where nobody could recover it
		}
	}()
	g.start(ctx, c)
	if g.ctx.Err() == nil {
		for event, err := range seq(g.ctx) {
			if !g.send(event, err) {
				break
			}
		}
	}
	returned = true
}

// generator is what the generator's goroutine, the timer and those who end the stream share.
type generator struct {
	ctx     context.Context // of the user's code
	cancel  context.CancelCauseFunc
	request context.Context

	running  sync.WaitGroup // callbacks that are due or run
	unfollow func()         // stops following the context of the request, and the drain

	aborted  bool // by a panic; the goroutine's own
	abortErr error
	// What a write on another goroutine than the generator's panicked with; written before
	// running is done.
	panicked any

	mu      sync.Mutex // held while writing
	writer  Writer
	stream  Stream
	outbox  outbox
	timer   *time.Timer
	set     time.Time // when the timer is due, zero when it is not set
	stopped bool
}

// start sends the prelude and begins to watch ctx, the drain and the clock.
func (g *generator) start(ctx context.Context, c Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	// Perhaps the right to the stream was revoked already: then nothing may be sent.
	switch cause := Ended(ctx); {
	case decided(cause):
		g.stream.machine.Stop(cause)
	case cause != nil:
		g.cancel(cause)
	}
	g.step()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		g.end(Ended(ctx))
	})
	forget := func() {}
	if c.OnClosing != nil {
		forget = c.OnClosing(func() {
			g.running.Go(func() {
				g.beside(func() { g.stream.machine.Drain(c.DrainAt()) })
			})
		})
	}
	g.unfollow = func() {
		forget()
		if !stop() {
			<-ended
		}
	}
}

// stop ends everything that start and step began, and waits for it.
func (g *generator) stop() {
	if g.unfollow != nil {
		g.unfollow()
	}
	g.mu.Lock()
	g.stopped = true
	g.disarm()
	g.mu.Unlock()
	g.running.Wait()
}

// end ends the stream from outside of the generator's goroutine.
func (g *generator) end(cause error) {
	if !decided(cause) {
		// Without the lock: the generator should learn it even while a write blocks.
		g.cancel(cause)
		return
	}
	g.beside(func() { g.stream.machine.Stop(cause) })
}

// beside does one step, after change, on another goroutine than the generator's.
func (g *generator) beside(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() {
		// A response writer of middleware may panic. On this goroutine that would end the process.
		if p := recover(); p != nil {
			g.panicked = p
			g.stopped = true
			g.cancel(ErrPanicked)
			g.stream.Panic(nil)
			g.stream.AbortErr = g.writer.Abort()
		}
	}()
	if g.stopped {
		return
	}
	change()
	g.step()
}

// send takes what the generator yielded and reports whether the generator may go on.
func (g *generator) send(event sse.Event, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return false
	}
	if err == nil {
		err = g.outbox.put(event)
	}
	switch {
	case decided(err):
		g.stream.machine.Stop(err)
	case errors.Is(err, context.DeadlineExceeded) && decided(Ended(g.request)):
		g.stream.machine.Stop(Ended(g.request)) // the generator has seen its deadline first
	case err != nil:
		g.stream.machine.Fail(err)
	}
	g.step()
	return g.ctx.Err() == nil
}

// step writes what the machine has, and sets the timer to what is due next. The lock is held.
func (g *generator) step() {
	if g.ctx.Err() != nil {
		return
	}
	for {
		step := g.stream.turn(g.writer)
		if step.Status == hub.Ended {
			g.stream.End(step)
			if g.stream.Aborted {
				g.stream.AbortErr = g.writer.Abort()
			}
		}
		switch {
		case g.stream.Cause != nil:
			g.disarm()
			g.cancel(g.stream.Cause)
			return
		case step.Status == hub.Waiting:
			g.arm(step.Deadline)
			return
		}
	}
}

// arm sets the timer to ring at t or before. The lock is held.
func (g *generator) arm(t time.Time) {
	if g.stopped || t.IsZero() || !g.set.IsZero() && !t.Before(g.set) {
		return
	}
	g.disarm()
	g.set = t
	g.running.Add(1)
	if g.timer == nil {
		g.timer = time.AfterFunc(time.Until(t), g.ring)
		return
	}
	g.timer.Reset(time.Until(t))
}

// disarm stops the timer. The lock is held.
func (g *generator) disarm() {
	if g.timer != nil && g.timer.Stop() {
		g.running.Done()
	}
	g.set = time.Time{}
}

func (g *generator) ring() {
	defer g.running.Done()
	g.beside(func() { g.set = time.Time{} })
}

// outcome returns the result. Nothing else is running any more.
func (g *generator) outcome() Result {
	r := g.stream.Result
	if !r.Aborted {
		// Else an abort's own consequence, the end of the request, may have come before its cause.
		r.Cause = context.Cause(g.ctx)
	}
	if g.aborted {
		r.Aborted, r.AbortErr = true, g.abortErr
	}
	return r
}

// outbox is the source of a generator: the one event that was yielded last.
type outbox struct {
	buf  []byte
	full bool
}

// keepBytes is the largest buffer kept between events.
const keepBytes = 64 << 10

func (o *outbox) put(e sse.Event) error {
	buf, err := sse.AppendEvent(o.buf[:0], e)
	if err != nil {
		return err
	}
	o.buf, o.full = buf, true
	return nil
}

// Watch implements Source: the generator's goroutine knows by itself.
func (o *outbox) Watch(Waker) {}

// Poll hands the event over. It is called again within the same step only, so the bytes are not
// overwritten before they are written.
func (o *outbox) Poll(w *Work, _ int) (hub.Status, error) {
	if !o.full {
		return hub.Waiting, nil
	}
	o.full = false
	w.Frames = append(w.Frames, o.buf)
	w.Events++
	if cap(o.buf) > keepBytes {
		o.buf = nil
	}
	return hub.Ready, nil
}

// Checkpoint implements Source.
func (o *outbox) Checkpoint() string { return "" }
