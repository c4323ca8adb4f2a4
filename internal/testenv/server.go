package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// startAttempts is how often a server is started with other ports before the test gives up.
const startAttempts = 5

// Program says how to start a server, and how to end it.
type Program struct {
	// Name is what messages call it.
	Name string
	// Ports is how many ports it gets; 0 means 1.
	Ports int
	// Command returns what starts it at these ports. It is called for each start. What the command
	// prints goes into the server's log.
	Command func(ports []string) *exec.Cmd
	// Ready returns nil when the process answers at its ports. It is called again and again, and
	// must return after a while. Where it can tell one process from another, nobody else is taken
	// for the server.
	Ready func(pid int, ports []string) error
	// Polite is the signal at which it ends as for an operator; nil means os.Interrupt.
	Polite os.Signal
	// Crash is the signal that ends it with all its processes at once where these leave its process
	// group; nil means that they do not.
	Crash os.Signal
}

// Server is a program that a test has started. Its methods, Log and Signal apart, must be called
// from the goroutine of the test.
type Server struct {
	// Addr is its host and its first port. It stays the same over restarts.
	Addr string
	// Ports are all of them.
	Ports []string

	t       testing.TB
	program Program
	log     string // the file's path

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil when it does not run
	done   chan struct{} // closed when it has ended
	ending bool          // the test ends it
	served bool          // it has answered
	reason error         // that it has ended by itself
}

// Start starts a server on ports that nobody else takes, and returns when it answers. When a port
// is taken all the same, it starts the server again on others. It fails the test with the server's
// log as soon as the server ends by itself, or after a minute without an answer. The server ends
// with the test, which fails if the server has ended by itself before.
func Start(t testing.TB, p Program) *Server {
	t.Helper()
	if p.Polite == nil {
		p.Polite = os.Interrupt
	}
	s := &Server{t: t, program: p}
	remove := register(s, t.Name())
	t.Cleanup(func() {
		if err := s.fallen(); err != nil && !t.Failed() {
			t.Errorf("testenv: %v", err)
		}
		s.Kill()
		remove()
	})
	dir := t.TempDir()
	for attempt := 1; ; attempt++ {
		s.Ports = Ports(t, max(p.Ports, 1))
		s.Addr = net.JoinHostPort(loopback, s.Ports[0])
		// A log for each attempt: an old one would tell that a port is taken.
		s.log = filepath.Join(dir, fmt.Sprintf("log%d", attempt))
		err := s.launch()
		if err == nil {
			return s
		}
		if attempt == startAttempts || !portTaken(s.Log()) {
			t.Fatalf("testenv: %v", err)
		}
		t.Logf("testenv: %s is started again: %v", p.Name, err)
	}
}

// portTaken reports whether a log tells that a port was taken.
func portTaken(log string) bool {
	log = strings.ToLower(log)
	return strings.Contains(log, "address already in use") || strings.Contains(log, "address in use") || strings.Contains(log, "addrinuse")
}

// Start starts a server that was stopped or killed, at its ports and with the files it left, and
// returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	if s.process() != nil {
		s.t.Fatalf("testenv: %s runs already", s.program.Name)
	}
	if err := s.launch(); err != nil {
		s.t.Fatalf("testenv: %v", err)
	}
}

// Await returns when the server answers: after it was let go on, or was loading.
func (s *Server) Await() {
	s.t.Helper()
	if err := s.await(); err != nil {
		s.t.Fatalf("testenv: %v", err)
	}
}

// Stop ends the server as an operator would: it closes its connections and writes what it keeps.
func (s *Server) Stop() { s.end(s.program.Polite) }

// Kill ends the server with all its processes at once, as a crash would.
func (s *Server) Kill() { s.end(os.Kill) }

// Restart is Stop and then Start.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Signal sends a signal to the server's process; to one that has ended nothing is sent. It may be
// used concurrently.
func (s *Server) Signal(sig os.Signal) {
	if cmd := s.process(); cmd != nil {
		_ = cmd.Process.Signal(sig)
	}
}

// Log returns what the server has printed since the test began. It may be used concurrently.
func (s *Server) Log() string {
	log, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(log)
}

func (s *Server) process() *exec.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd
}

// fallen returns an error if the server has ended by itself.
func (s *Server) fallen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// tail returns the end of the log.
func (s *Server) tail() string {
	const most = 4 << 10
	log := bytes.TrimSpace([]byte(s.Log()))
	return string(log[max(0, len(log)-most):])
}

// launch starts the server and returns when it answers, or with an error and no process.
func (s *Server) launch() error {
	if err := s.run(); err != nil {
		return fmt.Errorf("%s: %w", s.program.Name, err)
	}
	err := s.await()
	if err == nil {
		return nil
	}
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = nil // the caller has it
	return err
}

// run starts the process.
func (s *Server) run() error {
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the process has its own
	cmd, done := s.program.Command(s.Ports), make(chan struct{})
	cmd.Stdout, cmd.Stderr = out, out
	isolate(cmd)
	s.mu.Lock()
	s.ending, s.served = false, false
	s.mu.Unlock()
	started := make(chan error)
	go func() {
		// Linux ends a process with the thread that started it: it must not be another goroutine's
		// to end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(done)
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.ending {
			s.reason = fmt.Errorf("%s has ended by itself (%v); its log ends with:\n%s", s.program.Name, cmd.ProcessState, s.tail())
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd, s.done = cmd, done
	return nil
}

func (s *Server) await() error {
	cmd := s.process()
	if cmd == nil {
		return fmt.Errorf("%s does not run", s.program.Name)
	}
	err := eventually(patience, func() error { return s.program.Ready(cmd.Process.Pid, s.Ports) }, s.fallen)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reason != nil:
		// What answered while it ended was not this server.
		return s.reason
	case err != nil:
		return fmt.Errorf("%s does not answer: %w; its log ends with:\n%s", s.program.Name, err, s.tail())
	}
	s.served = true
	return nil
}

func (s *Server) end(how os.Signal) {
	s.t.Helper()
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.ending = true
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	switch {
	case how != os.Kill:
		_ = cmd.Process.Signal(how)
	case s.program.Crash != nil:
		_ = cmd.Process.Signal(s.program.Crash)
	default:
		killAll(cmd.Process)
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		s.t.Errorf("testenv: %s ignores %v", s.program.Name, how)
	}
	killAll(cmd.Process) // what it has started and left behind
	<-done
	s.mu.Lock()
	s.cmd = nil
	served := s.served
	s.mu.Unlock()
	if !served {
		return // who listens there may be somebody else
	}
	// A process that the first one has started may be ending still.
	err := eventually(patience, func() error {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err != nil {
			return nil
		}
		return errors.Join(errors.New("somebody listens"), conn.Close())
	}, func() error { return nil })
	if err != nil {
		s.t.Errorf("testenv: %s has ended: %v at %s", s.program.Name, err, s.Addr)
	}
}
