package delivery

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/headrace/headrace/sse"
)

// BatchBytes is about how much one Step holds: a batch ends with the frame that reaches it.
const BatchBytes = 64 << 10

// Config is what a machine knows about its connection from the start.
type Config struct {
	// Retry is the reconnection time stated in the prelude. Zero states none.
	Retry time.Duration
	// DrainRetry is the reconnection time stated last when the stream ends by a shutdown, EndRetry when it ends at a time of its own: by expiry, revocation
	// or a drain. Zero states none.
	DrainRetry, EndRetry time.Duration
	// Closing, when it is closed, drains the stream at the time that DrainAt returns then, at once if that is nil. Nil is never closed.
	Closing <-chan struct{}
	DrainAt func() time.Time
	// OnClosing calls f, once and soon, when Closing is closed, until stop is called: for drivers that do not wait for each connection. Nil is for a nil Closing.
	OnClosing func(f func()) (stop func())
	// Checkpoint is the place the stream begins after, told to a client that came without a cursor before anything else. "" tells none.
	Checkpoint string
	// Hello is a frame sent before those of the source. Nil sends none.
	Hello []byte
	// Heartbeat is the silence after which a heartbeat is due. Zero sends none.
	Heartbeat time.Duration
	// Lifetime is how long after the first Next the connection is rotated: ended cleanly, for the client to come back. Zero means never.
	Lifetime time.Duration
	// ExpireAt is when the stream ends because the right to it does. Zero means never.
	ExpireAt time.Time
}

func (c Config) drainAt() time.Time {
	if c.DrainAt == nil {
		return time.Now()
	}
	return c.DrainAt()
}

// Machine is the state of one connection. Its methods are called one at a time, except for Fetch.
type Machine struct {
	source Source
	config Config

	rotateAt time.Time
	wrote    time.Time // when something was last to be written
	drainAt  time.Time // zero: not draining
	drained  bool      // the stream ended at that time, and by nothing else
	begun    bool
	fetching bool
	stopped  error // why the next Step is the last one; nil if it is not
	failure  error
	cause    error // not nil when ended
}

// NewMachine returns the machine of a connection that has its headers behind it.
func NewMachine(c Config, s Source) *Machine { return &Machine{source: s, config: c} }

// Step is what a machine wants next: Frames written, in order, and then what Then says.
type Step struct {
	// Frames are shared and read-only.
	Frames [][]byte
	// Events is how many of the frames are messages of the source.
	Events int
	Then   Then
	// Deadline, with Wait and Fetch, is when Next is to be called at the latest; zero if there is no such time.
	Deadline time.Time
	// Changed, with Wait, is closed when the source has something; so is any of Also.
	Changed <-chan struct{}
	Also    []<-chan struct{}
	// Cause, with End, is why.
	Cause error
	// Abort, with End, asks for an end of the connection that a client cannot take for a clean one.
	Abort bool
}

// Then is what to do after the frames of a Step are written.
type Then uint8

const (
	// Again: call Next at once.
	Again Then = iota
	// Wait: call Next when Changed, or one of Also, is closed, or at Deadline.
	Wait
	// Fetch: call Machine.Fetch wherever blocking is no harm, then Fetched, then Next. Until then, calls of Next at each Deadline keep the heartbeat going.
	Fetch
	// End: the stream is over.
	End
)

// Next returns what is to be done at the time now, with the frames appended to dst. It never blocks.
// What it returned counts as written; after a write that failed there is nothing left to ask.
func (m *Machine) Next(now time.Time, dst [][]byte) Step {
	s := Step{Frames: dst}
	if m.cause != nil {
		s.Then, s.Cause = End, m.cause
		return s
	}
	if !m.begun {
		m.begin(now, &s)
	}
	switch {
	case m.failure != nil:
		m.fail(&s, m.failure)
	case m.stopped != nil:
		m.stop(&s, m.stopped)
	case due(m.drainAt, now):
		m.drained = true
		m.stop(&s, ErrShutdown)
	case due(m.config.ExpireAt, now):
		m.stop(&s, ErrExpired)
	case due(m.rotateAt, now):
		m.stop(&s, ErrRotated)
	case m.fetching:
		s.Then = Wait
	default:
		m.poll(&s)
	}
	if s.Then == End {
		return s
	}
	if len(s.Frames) == len(dst) && m.config.Heartbeat > 0 && due(m.wrote.Add(m.config.Heartbeat), now) {
		if !m.checkpoint(&s) {
			s.Frames = append(s.Frames, heartbeatFrame)
		}
	}
	if len(s.Frames) > len(dst) {
		m.wrote = now
	}
	if s.Then != Again {
		s.Deadline = m.deadline()
	}
	return s
}

// Fetch does the blocking work that a Step asked for. It is the one method that may run beside others.
func (m *Machine) Fetch(ctx context.Context) error { return m.source.Fetch(ctx) }

// Fetched says that Fetch has returned, whatever it returned.
func (m *Machine) Fetched() { m.fetching = false }

// Drain makes the Step at a time the last one, for a shutdown.
func (m *Machine) Drain(at time.Time) { m.drainAt = at }

// Stop makes the next Step the last one, a clean end by ErrShutdown or ErrRevoked.
func (m *Machine) Stop(cause error) { m.stopped = cause }

// Fail makes the next Step the last one, for a failure. The client is told that there was one and not which.
func (m *Machine) Fail(err error) { m.failure = err }

func (m *Machine) begin(now time.Time, s *Step) {
	m.begun = true
	m.wrote = now
	if m.config.Lifetime > 0 {
		m.rotateAt = now.Add(m.config.Lifetime)
	}
	s.Frames = append(s.Frames, Prelude(m.config.Retry))
	if m.config.Checkpoint != "" {
		s.Frames = append(s.Frames, Frame(m.config.Checkpoint, "checkpoint", nil))
	}
	if m.config.Hello != nil && m.stopped == nil {
		s.Frames = append(s.Frames, m.config.Hello)
		m.config.Hello = nil // sent once, and then held for nothing
	}
}

// checkpoint tells the client its cursor where the source has passed something over that it need not be sent again.
func (m *Machine) checkpoint(s *Step) bool {
	at := m.source.Checkpoint()
	if at == "" {
		return false
	}
	s.Frames = append(s.Frames, Frame(at, "checkpoint", nil))
	return true
}

// lookCost is what a poll counts for that passed messages over and gave no frame: a step must come to its end, for heartbeats and for who ends the stream.
const lookCost = BatchBytes / 64

// poll takes a batch of frames from the source.
func (m *Machine) poll(s *Step) {
	for budget := BatchBytes; ; {
		n := len(s.Frames)
		b := m.source.Poll(s.Frames, budget)
		s.Frames = b.Frames
		s.Events += b.Events
		if b.Gap {
			frame := gapFrame
			if len(s.Frames) == n && b.At != "" {
				// Nothing follows that would bring the client's cursor past the gap.
				frame = Frame(b.At, "gap", []byte("{}"))
			}
			s.Frames = slices.Insert(s.Frames, n, frame)
		}
		switch b.Status {
		case Waiting:
			s.Then, s.Changed, s.Also = Wait, b.Changed, b.Also
			return
		case Behind:
			s.Then, m.fetching = Fetch, true
			return
		case Ended:
			m.ended(s, b.Err)
			return
		}
		if len(s.Frames) == n {
			budget -= lookCost
		}
		for _, frame := range s.Frames[n:] {
			budget -= len(frame)
		}
		if budget <= 0 {
			s.Then = Again
			return
		}
	}
}

// ended takes over the end of the source.
func (m *Machine) ended(s *Step, err error) {
	switch {
	case err == nil:
		m.end(s, ErrFinished)
	case errors.Is(err, ErrShutdown):
		m.stop(s, ErrShutdown)
	case errors.Is(err, ErrRevoked):
		m.stop(s, ErrRevoked)
	case errors.Is(err, ErrClientGone):
		m.end(s, ErrClientGone)
	default:
		m.fail(s, err)
	}
}

// stop ends the stream by the server's decision: the client learns how far it got, and when to come back.
func (m *Machine) stop(s *Step, cause error) {
	m.checkpoint(s)
	var retry time.Duration
	switch {
	case errors.Is(cause, ErrExpired), errors.Is(cause, ErrRevoked), m.drained:
		retry = m.config.EndRetry
	case errors.Is(cause, ErrShutdown):
		retry = m.config.DrainRetry
	}
	if retry > 0 {
		s.Frames = append(s.Frames, sse.AppendRetry(nil, retry))
	}
	m.end(s, cause)
}

func (m *Machine) fail(s *Step, err error) {
	s.Frames = append(s.Frames, failureFrame)
	s.Abort = true
	m.end(s, failed(err))
}

func (m *Machine) end(s *Step, cause error) {
	m.cause = cause
	s.Then, s.Cause = End, cause
}

// deadline returns the first time at which something is due without the source.
func (m *Machine) deadline() time.Time {
	var first time.Time
	if m.config.Heartbeat > 0 {
		first = m.wrote.Add(m.config.Heartbeat)
	}
	for _, t := range []time.Time{m.rotateAt, m.config.ExpireAt, m.drainAt} {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }
