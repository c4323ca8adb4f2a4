package delivery

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
)

// Writer is a connection as the drivers here see it; *sse.Writer is one.
type Writer interface {
	// Write writes the frames and flushes. It blocks, at most for the connection's write timeout, and keeps no reference.
	Write(frames ...[]byte) error
	// Abort ends the connection so that the client cannot take it for a clean end.
	Abort() error
}

// Result is how a connection's life went.
type Result struct {
	// Cause is why it ended; never nil.
	Cause error
	// Events and Bytes count what was written.
	Events int
	Bytes  int64
	// Aborted says that the connection was aborted by us; AbortErr why that was not possible.
	Aborted  bool
	AbortErr error
	// Panicked is what the source panicked with, where nobody can recover it; see Engine.Go.
	Panicked any
}

// fetchSlice bounds a Fetch while there is a closing channel, because a Fetch is ended by a context only.
const fetchSlice = time.Second

// Run runs a machine on the calling goroutine until it ends. It ends, with what a shutdown or a revocation sends last, when the machine's Closing is closed or ctx
// ends by ErrShutdown or ErrRevoked, and at once when ctx ends otherwise. It starts no goroutine and holds one timer. A panic of the source aborts the connection and goes
// on; done is called before, as it is called before Run returns.
func Run(ctx context.Context, m *Machine, w Writer, done func(Result)) {
	p := pump{machine: m, writer: w}
	returned := false
	defer func() {
		if !returned {
			p.result.Cause = ErrPanicked
			p.abort()
		}
		done(p.result)
	}()
	p.run(ctx)
	returned = true
}

func (p *pump) run(ctx context.Context) {
	m := p.machine
	closing := m.config.Closing
	var timer alarm
	defer timer.stop()
	for {
		if ctx.Err() != nil {
			cause := Gone(ctx)
			if !decided(cause) {
				p.result.Cause = cause
				return
			}
			m.Stop(cause)
		}
		select {
		case <-closing:
			closing = nil
			m.Drain(m.config.drainAt())
		default:
		}
		step := p.next()
		if p.result.Cause != nil {
			if errors.Is(p.result.Cause, ErrClientGone) && ctx.Err() != nil {
				// The source saw the end of the context first, and does not know its cause.
				p.result.Cause = Gone(ctx)
			}
			return
		}
		switch step.Then {
		case Fetch:
			fetch(ctx, m, step.Deadline, closing != nil)
		case Wait:
			if wait(ctx, step, timer.at(step.Deadline), closing) {
				timer.rang()
			}
		}
	}
}

// wait waits for what a Step says, and for its end from outside. It reports whether the alarm was received from.
func wait(ctx context.Context, step Step, alarm <-chan time.Time, closing <-chan struct{}) (rang bool) {
	if len(step.Also) == 0 {
		select {
		case <-step.Changed:
		case <-alarm:
			rang = true
		case <-ctx.Done():
		case <-closing:
		}
		return rang
	}
	cases := []reflect.SelectCase{receive(alarm), receive(ctx.Done()), receive(closing), receive(step.Changed)}
	for _, c := range step.Also {
		cases = append(cases, receive(c))
	}
	chosen, _, _ := reflect.Select(cases)
	return chosen == 0
}

// WaitAny waits until first or one of others is closed.
func WaitAny(first <-chan struct{}, others ...<-chan struct{}) {
	cases := []reflect.SelectCase{receive(first)}
	for _, c := range others {
		cases = append(cases, receive(c))
	}
	reflect.Select(cases)
}

// IsClosed reports whether a channel that nobody sends on is closed.
func IsClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func receive[T any](c <-chan T) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

// fetch runs a Fetch until it is done or something else is due. What it read so far is not lost with its context: reads belong to the hub.
func fetch(ctx context.Context, m *Machine, until time.Time, sliced bool) {
	defer m.Fetched()
	if sliced {
		if t := time.Now().Add(fetchSlice); until.IsZero() || t.Before(until) {
			until = t
		}
	}
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	_ = m.Fetch(ctx) // the next Poll says what came of it
}

// pump writes a machine's steps and keeps the count.
type pump struct {
	machine *Machine
	writer  Writer
	result  Result
}

// frameLists are lent for the time of one step: a connection that waits should hold nothing.
var frameLists = sync.Pool{New: func() any { return new([][]byte) }}

// maxFrames is the longest list that goes back into the pool.
const maxFrames = 4096

// next does one step, up to what it says to do Then. At the end of the machine, or of the connection, it sets the result's Cause.
func (p *pump) next() Step {
	list := frameLists.Get().(*[][]byte)
	step := p.machine.Next(time.Now(), (*list)[:0])
	var err error
	if len(step.Frames) > 0 {
		err = p.write(step)
	}
	clear(step.Frames) // the pool must not keep messages alive
	if cap(step.Frames) <= maxFrames {
		*list = step.Frames[:0]
		frameLists.Put(list)
	}
	step.Frames = nil
	switch {
	case err != nil:
		p.result.Cause = fmt.Errorf("%w: %w", ErrWriteFailed, err)
	case step.Then == End:
		p.result.Cause = step.Cause
		if step.Abort {
			p.abort()
		}
	}
	return step
}

func (p *pump) write(step Step) error {
	if err := p.writer.Write(step.Frames...); err != nil {
		return err
	}
	p.result.Events += step.Events
	for _, frame := range step.Frames {
		p.result.Bytes += int64(len(frame))
	}
	return nil
}

func (p *pump) abort() {
	p.result.Aborted = true
	p.result.AbortErr = p.writer.Abort()
}

// alarm is one reusable timer. A deadline that only moved away does not touch it: it rings too early once, and Next finds nothing due.
type alarm struct {
	timer *time.Timer
	set   time.Time // zero when not set
}

// at returns a channel that receives at t or before, nil for the zero time.
func (a *alarm) at(t time.Time) <-chan time.Time {
	switch {
	case t.IsZero():
		return nil
	case a.timer == nil:
		a.timer = time.NewTimer(time.Until(t))
		a.set = t
	case a.set.IsZero() || t.Before(a.set):
		a.timer.Reset(time.Until(t))
		a.set = t
	}
	return a.timer.C
}

// rang says that the channel was received from.
func (a *alarm) rang() { a.set = time.Time{} }

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
