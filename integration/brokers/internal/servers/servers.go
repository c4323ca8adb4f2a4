// Package servers starts the brokers that the tests of this module need, each on ports of its own, with its files
// in a folder of its own, and ends them with the test. A broker that is not installed skips the test, or fails it where
// HEADRACE_REQUIRE names its tool (redis, rabbitmq, postgres). Only tests import it.
package servers

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	startPatience = 60 * time.Second
	stopPatience  = 20 * time.Second
)

// Server is a broker of the test's own. Its methods must be called from the goroutine of the test.
type Server struct {
	t    testing.TB
	name string
	// URL is where clients reach it, in the form of its scheme, without parameters. It stays the same over restarts.
	URL string
	// Addr is its host and port.
	Addr string

	command func() *exec.Cmd
	ready   func() error
	polite  os.Signal
	crash   os.Signal // of a server whose processes are not all in its group; otherwise the group is killed
	log     string

	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts a server that was stopped or killed, with the files it left, and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	if s.cmd != nil {
		s.t.Fatalf("servers: %s runs already", s.name)
	}
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.command()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Start()
	_ = out.Close() // the process has its own
	if err != nil {
		s.t.Fatalf("servers: %s: %v", s.name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	s.cmd, s.done = cmd, done
	deadline := time.Now().Add(startPatience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := s.ready()
		if err == nil {
			return
		}
		select {
		case <-done:
			s.t.Fatalf("servers: %s ended at its start; its log ends with:\n%s", s.name, s.tail())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("servers: %s does not answer: %v; its log ends with:\n%s", s.name, err, s.tail())
		}
		time.Sleep(pause) // another process is waited for: only asking again tells
	}
}

// Stop ends the server as an operator would: it closes its connections and writes what it keeps.
func (s *Server) Stop() { s.end(s.polite) }

// Kill ends the server with all its processes at once, as a crash would.
func (s *Server) Kill() { s.end(os.Kill) }

// Restart is Stop and then Start.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

func (s *Server) end(how os.Signal) {
	if s.cmd == nil {
		return
	}
	switch {
	case how != os.Kill:
		_ = s.cmd.Process.Signal(how)
	case s.crash != nil:
		_ = s.cmd.Process.Signal(s.crash)
	default:
		killAll(s.cmd.Process)
	}
	select {
	case <-s.done:
	case <-time.After(stopPatience):
		s.t.Errorf("servers: %s ignores %v", s.name, how)
	}
	killAll(s.cmd.Process) // what it has started and left behind
	<-s.done
	s.cmd = nil
	// A process that the first one has started may be ending still.
	for deadline := time.Now().Add(stopPatience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			return
		}
		_ = conn.Close()
	}
	s.t.Errorf("servers: %s has ended and listens still", s.name)
}

func (s *Server) tail() []byte {
	const most = 4 << 10
	log, err := os.ReadFile(s.log)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(log[max(0, len(log)-most):])
}

// run starts a server for the first time and ends it with the test.
func (s *Server) run() *Server {
	s.t.Helper()
	s.t.Cleanup(s.Kill)
	s.Start()
	return s
}

// folder returns a folder that is removed when the test ends. Unlike that of t.TempDir, all folders above it can be entered by every user.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "headrace-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A killed process may write its last file while the folder is being removed.
		if err := os.RemoveAll(dir); err != nil {
			err = os.RemoveAll(dir)
			if err != nil {
				t.Errorf("servers: %v", err)
			}
		}
	})
	return dir
}

// program returns a command for a program that was found on this machine, not started yet.
func program(path string, args ...string) *exec.Cmd {
	return exec.Command(path, args...) //nolint:gosec // tests choose the program
}

// ports returns free ports of the loopback interface, all different.
func ports(t testing.TB, n int) []string {
	t.Helper()
	list, listeners := make([]string, n), make([]net.Listener, n)
	for i := range list {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		// Not closed before all are there, or two of them would be the same.
		list[i], listeners[i] = strconv.Itoa(l.Addr().(*net.TCPAddr).Port), l
	}
	for _, l := range listeners {
		_ = l.Close()
	}
	return list
}

// greets reports whether the server at an address answers to hello with a text that begins with the wanted one.
func greets(addr, hello, want string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(hello)); err != nil {
		return err
	}
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		k, err := conn.Read(got[n:])
		if n += k; err != nil && n < len(got) {
			return fmt.Errorf("answered %q: %w", got[:n], err)
		}
	}
	if string(got) != want {
		return fmt.Errorf("answered %q", got)
	}
	return nil
}

// beside returns the path of the program beside another one, which is installed with it.
func beside(t testing.TB, path, name string) string {
	t.Helper()
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(filepath.Dir(resolved), name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Fatalf("servers: there is no %s beside %s", name, resolved)
	}
	return path
}

// The signals at which servers end by themselves, and that at which a server of several processes ends them without a further word.
var interrupt, terminate, quit = syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT
