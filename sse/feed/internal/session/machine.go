package session

import (
	"errors"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// BatchBytes is about how much one step holds: a batch ends with the frame that reaches it.
const BatchBytes = 64 << 10

// Config is what a machine knows about its connection from the start.
type Config struct {
	// Retry is the reconnection time stated in the prelude. Zero states none.
	Retry time.Duration
	// DrainRetry is the reconnection time stated last when the stream ends by a shutdown,
	// EndRetry when it ends at a time of its own: by expiry, revocation or a drain. Zero states
	// none.
	DrainRetry, EndRetry time.Duration
	// OnClosing calls f, once and soon, when the server drains, until stop is called. f does not
	// block. The stream goes on until the time that DrainAt returns then. Nil means that nobody
	// drains.
	OnClosing func(f func()) (stop func())
	DrainAt   func() time.Time
	// Checkpoint is the cursor that the stream begins at, told to a client that came without one
	// before anything of the source. "" tells none.
	Checkpoint string
	// Hello is a frame sent before the checkpoint, and before those of the source. Nil sends none.
	Hello []byte
	// Heartbeat is the silence after which a heartbeat is due. Zero sends none.
	Heartbeat time.Duration
	// Visible makes heartbeats events: one at once, and then one in each Heartbeat, silent or not.
	Visible bool
	// Quiet leaves out the events that the machine makes itself, except for heartbeats.
	Quiet bool
	// Lifetime is how long after the first Next the connection is rotated: ended cleanly, for the
	// client to come back. Zero means never.
	Lifetime time.Duration
	// ExpireAt is when the stream ends because the right to it does. Zero means never.
	ExpireAt time.Time
	// BreakRotation asks for an abort at a rotation, BreakOthers at the other ends after which the
	// client is to come back.
	BreakRotation, BreakOthers bool
}

// Machine is the state of one connection. Its methods are called one at a time.
type Machine struct {
	source Source
	config Config

	rotateAt time.Time
	wrote    time.Time // when something was last to be written
	beat     time.Time // when the last heartbeat was that is an event
	drainAt  time.Time // zero: not draining
	drained  bool      // the stream ended at that time, and by nothing else
	begun    bool
	stopped  error // why the next step is the last one; nil if it is not
	failure  error
	cause    error // not nil when ended
}

// NewMachine returns the machine of a connection that has its headers behind it.
func NewMachine(c Config, s Source) *Machine { return &Machine{source: s, config: c} }

// Step is what a machine wants after the frames of a Work are written.
type Step struct {
	// Status is hub.Ready when Next is to be called at once, hub.Waiting when it is to be called
	// once the source has something, or at Deadline, and hub.Ended when the stream is over.
	Status hub.Status
	// Deadline, with hub.Waiting, is when Next is to be called at the latest; zero if there is no
	// such time.
	Deadline time.Time
	// Cause, with hub.Ended, is why.
	Cause error
	// Abort, with hub.Ended, asks for an end of the connection that a client cannot take for a
	// clean one.
	Abort bool
}

// Next puts what is to be written at the time now into w, and returns what comes then. It never
// blocks on anything but user code. What it brought counts as written; after a write that failed
// there is nothing left to ask.
func (m *Machine) Next(now time.Time, w *Work) (s Step) {
	w.begin()
	if m.cause != nil {
		return Step{Status: hub.Ended, Cause: m.cause}
	}
	if !m.begun {
		m.begin(now, w)
	}
	switch {
	case m.failure != nil:
		s = m.fail(w, m.failure)
	case m.stopped != nil:
		s = m.stop(w, m.stopped)
	case due(m.drainAt, now):
		m.drained = true
		s = m.stop(w, ErrShutdown)
	case due(m.config.ExpireAt, now):
		s = m.stop(w, ErrExpired)
	case due(m.rotateAt, now):
		s = m.stop(w, ErrRotated)
	default:
		s = m.poll(w)
	}
	if s.Status == hub.Ended {
		return s
	}
	if m.config.Heartbeat > 0 {
		m.heartbeat(now, w)
	}
	if len(w.Frames) > 0 {
		m.wrote = now
	}
	if s.Status == hub.Waiting {
		s.Deadline = m.Deadline()
	}
	return s
}

// Drain makes the step at a time the last one, for a shutdown.
func (m *Machine) Drain(at time.Time) { m.drainAt = at }

// Stop makes the next step the last one, an end by ErrShutdown, ErrRevoked or ErrRotated.
func (m *Machine) Stop(cause error) { m.stopped = cause }

// Fail makes the next step the last one, for a failure. The client is told that there was one and
// not which.
func (m *Machine) Fail(err error) { m.failure = err }

func (m *Machine) begin(now time.Time, w *Work) {
	m.begun = true
	m.wrote = now
	if m.config.Lifetime > 0 {
		m.rotateAt = now.Add(m.config.Lifetime)
	}
	w.Frames = append(w.Frames, Prelude(m.config.Retry))
	if m.config.Hello != nil && m.stopped == nil {
		w.Frames = append(w.Frames, m.config.Hello)
	}
	if m.config.Checkpoint != "" && !m.config.Quiet {
		w.Frames = append(w.Frames, Frame(m.config.Checkpoint, "checkpoint", nil))
	}
	if m.config.Visible {
		w.Frames, m.beat = append(w.Frames, visibleFrame), now
	}
	m.config.Checkpoint, m.config.Hello = "", nil // sent once, and then held for nothing
}

// heartbeat appends a heartbeat if one is due. A checkpoint is as good as a comment. An event is
// sent also where there is no silence: a page hears only the types of events that it knows.
func (m *Machine) heartbeat(now time.Time, w *Work) {
	every := m.config.Heartbeat
	silent := len(w.Frames) == 0 && due(m.wrote.Add(every), now)
	switch {
	case silent && m.checkpoint(w), m.config.Visible:
	case silent:
		w.Frames = append(w.Frames, heartbeatFrame)
	}
	if m.config.Visible && due(m.beat.Add(every), now) {
		w.Frames, m.beat = append(w.Frames, visibleFrame), now
	}
}

// checkpoint tells the client its cursor where the source has passed something over that it need
// not be sent again.
func (m *Machine) checkpoint(w *Work) bool {
	if m.config.Quiet {
		return false
	}
	at := m.source.Checkpoint()
	if at == "" {
		return false
	}
	w.Frames = append(w.Frames, Frame(at, "checkpoint", nil))
	return true
}

// lookCost is what a poll counts for that passed messages over and gave no frame: a step must
// come to its end, for heartbeats and for who ends the stream.
const lookCost = BatchBytes / 64

// poll takes a batch of frames from the source.
func (m *Machine) poll(w *Work) Step {
	for budget := BatchBytes; budget > 0; {
		n := len(w.Frames)
		status, err := m.source.Poll(w, budget)
		switch status {
		case hub.Ready:
		case hub.Ended:
			return m.ended(w, err)
		default:
			return Step{Status: hub.Waiting}
		}
		if len(w.Frames) == n {
			budget -= lookCost
		}
		for _, frame := range w.Frames[n:] {
			budget -= len(frame)
		}
	}
	return Step{Status: hub.Ready}
}

// ended takes over the end of the source.
func (m *Machine) ended(w *Work, err error) Step {
	switch {
	case err == nil:
		return m.end(ErrFinished)
	case errors.Is(err, ErrShutdown):
		return m.stop(w, ErrShutdown)
	case errors.Is(err, ErrRevoked):
		return m.stop(w, ErrRevoked)
	case errors.Is(err, ErrRotated):
		return m.stop(w, err)
	case errors.Is(err, ErrClientGone):
		return m.end(ErrClientGone)
	}
	return m.fail(w, err)
}

// stop ends the stream by the server's decision: the client learns how far it got, and when to
// come back.
func (m *Machine) stop(w *Work, cause error) Step {
	m.checkpoint(w)
	var retry time.Duration
	switch {
	case errors.Is(cause, ErrExpired), errors.Is(cause, ErrRevoked), m.drained:
		retry = m.config.EndRetry
	case errors.Is(cause, ErrShutdown):
		retry = m.config.DrainRetry
	}
	if retry > 0 {
		w.Frames = append(w.Frames, sse.AppendRetry(nil, retry))
	}
	s := m.end(cause)
	s.Abort = m.config.BreakOthers
	if errors.Is(cause, ErrRotated) {
		s.Abort = m.config.BreakRotation
	}
	return s
}

func (m *Machine) fail(w *Work, err error) Step {
	if !m.config.Quiet {
		w.Frames = append(w.Frames, failureFrame)
	}
	s := m.end(failed(err))
	s.Abort = true
	return s
}

func (m *Machine) end(cause error) Step {
	m.cause = cause
	return Step{Status: hub.Ended, Cause: cause}
}

// Deadline returns the first time at which something is due without the source.
func (m *Machine) Deadline() time.Time {
	var first time.Time
	if m.config.Heartbeat > 0 {
		first = m.wrote.Add(m.config.Heartbeat)
		if m.config.Visible {
			first = m.beat.Add(m.config.Heartbeat)
		}
	}
	for _, t := range [...]time.Time{m.rotateAt, m.config.ExpireAt, m.drainAt} {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }
