package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func text(w *Work) string {
	var b strings.Builder
	for _, f := range w.Frames {
		b.Write(f)
	}
	return b.String()
}

// next calls Next at a time after the epoch and checks what is to be written and done.
func next(t *testing.T, m *Machine, at time.Duration, want string, status hub.Status) Step {
	t.Helper()
	var w Work
	s := m.Next(epoch.Add(at), &w)
	if got := text(&w); got != want {
		t.Errorf("at %v: to write:\n got %q\nwant %q", at, got, want)
	}
	if s.Status != status {
		t.Errorf("at %v: status: got %d, want %d", at, s.Status, status)
	}
	return s
}

func deadline(t *testing.T, s Step, want time.Duration) {
	t.Helper()
	equal(t, "deadline", s.Deadline, epoch.Add(want))
}

func TestMachineBegin(t *testing.T) {
	const event = "data: a\nid: 1\n\n"
	for _, tc := range []struct {
		name   string
		config Config
		change func(*fakeSource)
		want   string
		status hub.Status
	}{
		{"nothing", Config{}, nil, ": ok\n", hub.Waiting},
		{"retry", Config{Retry: 2500 * time.Millisecond}, nil, ": ok\nretry: 2500\n", hub.Waiting},
		{"priming", Config{Retry: time.Second, Checkpoint: "7"}, nil, ": ok\nretry: 1000\nevent: checkpoint\ndata: \nid: 7\n\n", hub.Waiting},
		{"priming before messages", Config{Checkpoint: "0"}, func(s *fakeSource) { s.put(event) }, ": ok\nevent: checkpoint\ndata: \nid: 0\n\n" + event, hub.Waiting},
		{"finished", Config{}, func(s *fakeSource) { s.put(event); s.ended = true }, ": ok\n" + event, hub.Ended},
		{"expired already", Config{ExpireAt: epoch}, func(s *fakeSource) { s.put(event) }, ": ok\n", hub.Ended},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source := newFakeSource()
			if tc.change != nil {
				tc.change(source)
			}
			m := NewMachine(tc.config, source)
			next(t, m, 0, tc.want, tc.status)
		})
	}
}

func TestMachineHeartbeat(t *testing.T) {
	source := newFakeSource()
	m := NewMachine(Config{Heartbeat: 15 * time.Second}, source)
	deadline(t, next(t, m, 0, ": ok\n", hub.Waiting), 15*time.Second)
	deadline(t, next(t, m, 15*time.Second-1, "", hub.Waiting), 15*time.Second)
	deadline(t, next(t, m, 15*time.Second, ":\n", hub.Waiting), 30*time.Second)

	source.put("data: a\n\n")
	deadline(t, next(t, m, 20*time.Second, "data: a\n\n", hub.Waiting), 35*time.Second)
	next(t, m, 35*time.Second-1, "", hub.Waiting)
	next(t, m, 35*time.Second, ":\n", hub.Waiting)

	// A message at the moment a heartbeat is due takes its place.
	source.put("data: b\n\n")
	deadline(t, next(t, m, 50*time.Second, "data: b\n\n", hub.Waiting), 65*time.Second)
}

// TestMachineVisibleHeartbeat: the first comes at once, and one in each interval, also where it is
// not silent. They are beside what else is said of the position.
func TestMachineVisibleHeartbeat(t *testing.T) {
	const beat = "event: heartbeat\ndata: {}\n\n"
	source := newFakeSource()
	m := NewMachine(Config{Heartbeat: 15 * time.Second, Visible: true, Checkpoint: "1", Hello: []byte("data: hello\n\n")}, source)
	deadline(t, next(t, m, 0, ": ok\ndata: hello\n\nevent: checkpoint\ndata: \nid: 1\n\n"+beat, hub.Waiting), 15*time.Second)
	source.put("data: a\n\n")
	deadline(t, next(t, m, 10*time.Second, "data: a\n\n", hub.Waiting), 15*time.Second)
	source.passed = "3"
	deadline(t, next(t, m, 15*time.Second, beat, hub.Waiting), 30*time.Second)
	deadline(t, next(t, m, 30*time.Second, "event: checkpoint\ndata: \nid: 3\n\n"+beat, hub.Waiting), 45*time.Second)
	source.put("data: b\n\n")
	deadline(t, next(t, m, 46*time.Second, "data: b\n\n"+beat, hub.Waiting), 61*time.Second)
}

// TestMachineCheckpoint: what was passed over is told in place of a heartbeat, once, and does not
// keep the connection busy before.
func TestMachineCheckpoint(t *testing.T) {
	source := newFakeSource()
	m := NewMachine(Config{Heartbeat: 15 * time.Second}, source)
	next(t, m, 0, ": ok\n", hub.Waiting)
	source.passed = "3"
	deadline(t, next(t, m, time.Second, "", hub.Waiting), 15*time.Second)
	source.passed = "4"
	deadline(t, next(t, m, 15*time.Second, "event: checkpoint\ndata: \nid: 4\n\n", hub.Waiting), 30*time.Second)
	next(t, m, 30*time.Second, ":\n", hub.Waiting)
}

// TestMachineLooks: a source that passes over message after message does not hold the step for
// ever.
func TestMachineLooks(t *testing.T) {
	source := newFakeSource()
	source.looks = 1 << 20
	m := NewMachine(Config{}, source)
	next(t, m, 0, ": ok\n", hub.Ready)
	if source.polls > 100 {
		t.Errorf("%d polls in a step", source.polls)
	}
}

func TestMachineHello(t *testing.T) {
	source := newFakeSource("data: a\n\n")
	m := NewMachine(Config{Checkpoint: "1", Hello: []byte("event: hello\ndata: x\n\n")}, source)
	next(t, m, 0, ": ok\nevent: hello\ndata: x\n\nevent: checkpoint\ndata: \nid: 1\n\ndata: a\n\n", hub.Waiting)

	m = NewMachine(Config{Checkpoint: "1", Hello: []byte("event: hello\ndata: x\n\n")}, newFakeSource("data: a\n\n"))
	m.Stop(ErrRevoked) // before it began
	next(t, m, 0, ": ok\nevent: checkpoint\ndata: \nid: 1\n\n", hub.Ended)
}

func TestMachineEnds(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name   string
		config Config
		at     time.Duration
		change func(*fakeSource, *Machine)
		want   string
		cause  error
		abort  bool
	}{
		{"rotation", Config{Lifetime: time.Minute}, time.Minute, nil, "", ErrRotated, false},
		{"rotation by breaking off", Config{Lifetime: time.Minute, BreakRotation: true}, time.Minute, func(s *fakeSource, _ *Machine) { s.passed = "8" },
			"event: checkpoint\ndata: \nid: 8\n\n", ErrRotated, true},
		{"deadline", Config{EndRetry: time.Second, BreakRotation: true}, 0, func(_ *fakeSource, m *Machine) { m.Stop(fmt.Errorf("%w: late", ErrRotated)) }, "", ErrRotated, true},
		{"source at its deadline", Config{}, 0, func(s *fakeSource, _ *Machine) { s.ended, s.err = true, fmt.Errorf("%w: late", ErrRotated) }, "", ErrRotated, false},
		{"expiry where rotations break off", Config{ExpireAt: epoch.Add(1), BreakRotation: true}, 1, nil, "", ErrExpired, false},
		{"expiry by breaking off", Config{EndRetry: time.Second, ExpireAt: epoch.Add(1), BreakOthers: true}, 1, nil, "retry: 1000\n", ErrExpired, true},
		{"drain by breaking off", Config{DrainRetry: time.Second, BreakOthers: true}, 0, func(_ *fakeSource, m *Machine) { m.Stop(ErrShutdown) }, "retry: 1000\n", ErrShutdown, true},
		{"finished where all break off", Config{BreakRotation: true, BreakOthers: true}, 0, func(s *fakeSource, _ *Machine) { s.ended = true }, "", ErrFinished, false},
		{"rotation while messages come", Config{Lifetime: time.Minute}, time.Minute, func(s *fakeSource, _ *Machine) { s.put("data: a\n\n") }, "", ErrRotated, false},
		{"expiry", Config{ExpireAt: epoch.Add(time.Minute)}, time.Minute, nil, "", ErrExpired, false},
		{"expiry before rotation", Config{ExpireAt: epoch.Add(time.Minute), Lifetime: time.Minute}, time.Minute, nil, "", ErrExpired, false},
		{"drain", Config{DrainRetry: 3 * time.Second}, 0, func(_ *fakeSource, m *Machine) { m.Stop(ErrShutdown) }, "retry: 3000\n", ErrShutdown, false},
		{"drain at a time", Config{EndRetry: 3 * time.Second, DrainRetry: time.Second}, time.Minute, func(_ *fakeSource, m *Machine) { m.Drain(epoch.Add(time.Minute)) }, "retry: 3000\n", ErrShutdown, false},
		{"revoked", Config{EndRetry: 500 * time.Millisecond}, 0, func(_ *fakeSource, m *Machine) { m.Stop(ErrRevoked) }, "retry: 500\n", ErrRevoked, false},
		{"source revoked", Config{EndRetry: time.Second}, 0, func(s *fakeSource, _ *Machine) { s.ended, s.err = true, ErrRevoked }, "retry: 1000\n", ErrRevoked, false},
		{"expiry states a time to come back", Config{EndRetry: time.Second, ExpireAt: epoch.Add(1)}, 1, nil, "retry: 1000\n", ErrExpired, false},
		{"cursor first", Config{EndRetry: time.Second}, 0, func(s *fakeSource, m *Machine) { s.passed = "8"; m.Stop(ErrRevoked) },
			"event: checkpoint\ndata: \nid: 8\n\nretry: 1000\n", ErrRevoked, false},
		{"cursor at a rotation", Config{Lifetime: time.Minute}, time.Minute, func(s *fakeSource, _ *Machine) { s.passed = "8" }, "event: checkpoint\ndata: \nid: 8\n\n", ErrRotated, false},
		{"source shut down", Config{DrainRetry: 3 * time.Second}, 0, func(s *fakeSource, _ *Machine) { s.ended, s.err = true, ErrShutdown }, "retry: 3000\n", ErrShutdown, false},
		{"source finished", Config{DrainRetry: 1}, 0, func(s *fakeSource, _ *Machine) { s.ended = true }, "", ErrFinished, false},
		{"source ended by the client", Config{DrainRetry: 1}, 0, func(s *fakeSource, _ *Machine) { s.ended, s.err = true, ErrClientGone }, "", ErrClientGone, false},
		{"source failed", Config{}, 0, func(s *fakeSource, _ *Machine) { s.ended, s.err = true, broken }, "event: stream-error\ndata: {}\n\n", broken, true},
		{"source failed, kind", Config{}, 0, func(s *fakeSource, _ *Machine) { s.ended, s.err = true, broken }, "event: stream-error\ndata: {}\n\n", ErrFailed, true},
		{"failure", Config{}, 0, func(_ *fakeSource, m *Machine) { m.Fail(broken) }, "event: stream-error\ndata: {}\n\n", broken, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source := newFakeSource()
			m := NewMachine(tc.config, source)
			next(t, m, 0, ": ok\n", hub.Waiting)
			if tc.at > 0 {
				next(t, m, tc.at-1, "", hub.Waiting)
			}
			if tc.change != nil {
				tc.change(source, m)
			}
			s := next(t, m, tc.at, tc.want, hub.Ended)
			isCause(t, s.Cause, tc.cause)
			equal(t, "abort", s.Abort, tc.abort)
			s = next(t, m, tc.at+time.Hour, "", hub.Ended)
			isCause(t, s.Cause, tc.cause)
		})
	}
}

func TestMachineDeadlineIsTheFirst(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config Config
		want   time.Time
	}{
		{"none", Config{}, time.Time{}},
		{"heartbeat", Config{Heartbeat: 1, Lifetime: 2, ExpireAt: epoch.Add(3)}, epoch.Add(1)},
		{"rotation", Config{Heartbeat: 2, Lifetime: 1, ExpireAt: epoch.Add(3)}, epoch.Add(1)},
		{"expiry", Config{Heartbeat: 2, Lifetime: 3, ExpireAt: epoch.Add(1)}, epoch.Add(1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewMachine(tc.config, newFakeSource()).Next(epoch, new(Work))
			equal(t, "deadline", s.Deadline, tc.want)
		})
	}
}

func TestMachineBatches(t *testing.T) {
	const size = 1000
	frame := strings.Repeat("x", size)
	m := NewMachine(Config{}, newFakeSource(slices.Repeat([]string{frame}, 200)...))
	var w Work
	first := m.Next(epoch, &w)
	equal(t, "status", first.Status, hub.Ready)
	if n := len(text(&w)); n < BatchBytes || n > BatchBytes+size+len(": ok\n") {
		t.Errorf("first batch has %d bytes", n)
	}
	events := w.Events
	for i := 0; ; i++ {
		s := m.Next(epoch, &w)
		events += w.Events
		if n := len(text(&w)); n > BatchBytes+size {
			t.Errorf("batch %d has %d bytes", i, n)
		}
		if s.Status == hub.Waiting {
			break
		}
	}
	equal(t, "events", events, 200)

	huge := strings.Repeat("x", 10*BatchBytes)
	m = NewMachine(Config{}, newFakeSource(huge, huge))
	for range 2 {
		s := m.Next(epoch, &w)
		equal(t, "events of one batch", w.Events, 1)
		equal(t, "status", s.Status, hub.Ready)
	}
}

// TestMachineSharesBytes holds that a connection copies no message.
func TestMachineSharesBytes(t *testing.T) {
	source := newFakeSource("data: a\n\n")
	frame := source.frames[0]
	m := NewMachine(Config{}, source)
	var w Work
	m.Next(epoch, &w)
	if last := w.Frames[len(w.Frames)-1]; &last[0] != &frame[0] {
		t.Error("the frame was copied")
	}
	one := [][]byte{frame}
	if n := testing.AllocsPerRun(100, func() {
		source.frames = one
		m.Next(epoch, &w)
	}); n != 0 {
		t.Errorf("a step allocates %v times", n)
	}
}

func TestClean(t *testing.T) {
	for cause, want := range map[error]bool{
		ErrFinished: true, ErrRotated: true, ErrExpired: true, ErrRevoked: true, ErrShutdown: true,
		ErrClientGone: false, ErrWriteFailed: false, ErrFailed: false, ErrPanicked: false,
	} {
		equal(t, cause.Error(), Clean(cause), want)
	}
}
