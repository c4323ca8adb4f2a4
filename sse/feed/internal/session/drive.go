package session

import (
	"context"
	"time"

	"github.com/headrace/headrace/hub"
)

// Writer is a connection that is written to by blocking; *sse.Writer is one.
type Writer interface {
	// Write writes the frames and flushes. It blocks, at most for the connection's write timeout,
	// and keeps no reference.
	Write(frames ...[]byte) error
	// Abort ends the connection so that the client cannot take it for a clean end.
	Abort() error
}

// Drive writes what the stream has, on the calling goroutine, until the stream has ended. When it
// has nothing to write it calls park with the time at which something is due, zero for never.
// Drive goes on when park returns true, and returns when it returns false.
func (s *Stream) Drive(w Writer, park func(deadline time.Time) bool) {
	for s.Cause == nil {
		step := s.turn(w)
		switch {
		case s.Cause != nil:
		case step.Status == hub.Ended:
			s.End(step)
		case step.Status == hub.Waiting && !park(step.Deadline):
			return
		}
	}
}

// turn writes one step.
func (s *Stream) turn(w Writer) Step {
	work := works.Get().(*Work)
	defer func() {
		work.Forget()
		works.Put(work)
	}()
	begun := time.Now()
	step := s.Next(begun, work)
	if work.UserCode {
		s.Slowest = max(s.Slowest, time.Since(begun), 1)
	}
	if len(work.Frames) > 0 {
		s.writing = true
		err := w.Write(work.Frames...)
		s.writing = false
		if err != nil {
			s.Fail(err)
			return step
		}
		s.Wrote(work.Events, work.Size())
	}
	return step
}

// lament tells the client of a panic, because proxies make a clean end of an abort. It writes
// nothing behind a write that has panicked itself.
func (s *Stream) lament(w Writer) {
	if s.writing || s.machine.config.Quiet {
		return
	}
	defer func() { _ = recover() }() // another panic is under way
	_ = w.Write(failureFrame)        // the connection is aborted anyway
}

// Run runs a stream on the calling goroutine until it ends. It starts no goroutine and holds one
// timer. A panic of the source aborts the connection and goes on; done is called before, as it is
// called before Run returns.
func Run(ctx context.Context, c Config, source Source, w Writer, done func(Result)) {
	s := &Stream{}
	b := NewBell()
	s.Init(ctx, c, source, b)
	s.Watch()
	stop := s.Follow()
	var timer Alarm
	defer func() {
		timer.Stop()
		stop()
		if s.Cause == nil {
			s.lament(w)
			s.Panic(nil) // it goes on by itself
		}
		if s.Aborted {
			s.AbortErr = w.Abort()
		}
		done(s.Result)
	}()
	s.Drive(w, func(deadline time.Time) bool {
		select {
		case <-b.Rung:
		case <-timer.At(deadline):
			timer.Rang()
		}
		return true
	})
}

// Bell is a Waker that one goroutine waits for.
type Bell struct{ Rung chan struct{} }

// NewBell returns a bell.
func NewBell() Bell { return Bell{make(chan struct{}, 1)} }

// Wake implements hub.Watcher.
func (b Bell) Wake() {
	select {
	case b.Rung <- struct{}{}:
	default:
	}
}

// Topic implements Waker.
func (b Bell) Topic(int) hub.Watcher { return b }
