package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asServer is the variable that makes the test program a server at the address it names.
const asServer = "HEADRACE_TEST_AS_SERVER"

// serveInstead is the server: it says that it listens, and ends with status 3 at the first byte
// that it gets.
func serveInstead() bool {
	addr := os.Getenv(asServer)
	if addr == "" {
		return false
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening")
	for {
		conn, err := listener.Accept()
		if err != nil {
			os.Exit(2)
		}
		go func() {
			if n, _ := conn.Read(make([]byte, 1)); n > 0 {
				fmt.Println("told to end")
				os.Exit(3)
			}
		}()
	}
}

// self is the test program as a server.
func self() Program {
	return Program{
		Name: "self",
		Command: func(ports []string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), asServer+"="+net.JoinHostPort(loopback, ports[0]))
			return cmd
		},
		Ready: func(_ int, ports []string) error {
			conn, err := net.Dial("tcp", net.JoinHostPort(loopback, ports[0]))
			if err != nil {
				return err
			}
			return conn.Close()
		},
		Polite: os.Kill, // the one that every system has
	}
}

// judged is a test whose outcome is looked at.
type judged struct {
	testing.TB
	failed, fatal []string
}

func (j *judged) Errorf(format string, args ...any) {
	j.failed = append(j.failed, fmt.Sprintf(format, args...))
}

func (j *judged) Fatalf(format string, args ...any) {
	j.fatal = append(j.fatal, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (j *judged) Failed() bool { return len(j.failed)+len(j.fatal) > 0 }

// judge runs a test in a subtest, with its cleanup.
func judge(t *testing.T, test func(testing.TB)) *judged {
	t.Helper()
	j := &judged{}
	t.Run("judged", func(t *testing.T) {
		j.TB = t
		done := make(chan struct{})
		go func() {
			defer close(done)
			test(j)
		}()
		<-done
	})
	return j
}

func listens(s *Server) bool {
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestServerRestarts(t *testing.T) {
	var s *Server
	t.Run("uses", func(t *testing.T) {
		s = Start(t, self())
		addr := s.Addr
		if s.Kill(); listens(s) {
			t.Error("it listens after Kill")
		}
		if s.Start(); !listens(s) || s.Addr != addr {
			t.Error("it does not listen after Start where it did before")
		}
		if s.Restart(); !listens(s) {
			t.Error("it does not listen after Restart")
		}
		if n := strings.Count(s.Log(), "listening"); n != 3 {
			t.Errorf("the log has %d starts: %s", n, s.Log())
		}
		s.Await()
	})
	if listens(s) {
		t.Error("it listens after the test")
	}
}

// TestServerPortTaken: somebody takes the port between its reservation and the start.
func TestServerPortTaken(t *testing.T) {
	p, tries := self(), 0
	command, ready := p.Command, p.Ready
	p.Command = func(ports []string) *exec.Cmd {
		if tries++; tries < 3 {
			listener, err := net.Listen("tcp", net.JoinHostPort(loopback, ports[0]))
			if err != nil {
				t.Error(err)
				return nil
			}
			t.Cleanup(func() { _ = listener.Close() })
		}
		return command(ports)
	}
	// What answers meanwhile is not the server: it tells nothing by itself that it is another one.
	p.Ready = func(pid int, ports []string) error {
		if tries < 3 {
			return errors.New("it is somebody else's")
		}
		return ready(pid, ports)
	}
	if s := Start(t, p); !listens(s) || tries != 3 {
		t.Errorf("it was started %d times, want 3", tries)
	}
}

func TestServerEndsAtStart(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	for _, test := range []struct {
		name, says string
		starts     int
	}{
		{"for a reason of its own", "no memory", 1},
		{"for want of any port", "bind: Address already in use", startAttempts},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, starts := self(), 0
			p.Command = func([]string) *exec.Cmd {
				starts++
				return exec.Command("/bin/sh", "-c", "echo '"+test.says+"'; exit 7")
			}
			p.Ready = func(int, []string) error { return errors.New("not yet") }
			j := judge(t, func(t testing.TB) { Start(t, p) })
			if len(j.fatal) != 1 || !strings.Contains(j.fatal[0], test.says) || !strings.Contains(j.fatal[0], "exit status 7") {
				t.Errorf("it fails with %q, want the log and the status", j.fatal)
			}
			if starts != test.starts {
				t.Errorf("it was started %d times, want %d", starts, test.starts)
			}
		})
	}
}

func TestServerEndsByItself(t *testing.T) {
	tell := func(t testing.TB, s *Server) {
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatalf("%v", err)
		}
	}
	t.Run("and is waited for", func(t *testing.T) {
		j := judge(t, func(t testing.TB) {
			s := Start(t, self())
			tell(t, s)
			Eventually(t, "something", func() error { return errors.New("it is not there") })
		})
		if len(j.fatal) != 1 || len(j.failed) > 0 {
			t.Fatalf("it fails with %q, and %q", j.fatal, j.failed)
		}
		for _, part := range []string{"something", "it is not there", "self has ended by itself", "exit status 3", "told to end"} {
			if !strings.Contains(j.fatal[0], part) {
				t.Errorf("it fails with %q, which lacks %q", j.fatal[0], part)
			}
		}
	})
	t.Run("and nobody waits", func(t *testing.T) {
		j := judge(t, func(t testing.TB) {
			s := Start(t, self())
			tell(t, s)
			<-s.done
		})
		if len(j.fatal) > 0 || len(j.failed) != 1 || !strings.Contains(j.failed[0], "told to end") {
			t.Errorf("it fails with %q, and %q", j.fatal, j.failed)
		}
	})
	t.Run("and another test waits", func(t *testing.T) {
		judge(t, func(other testing.TB) {
			s := Start(other, self())
			tell(other, s)
			<-s.done
			if err := fallen(t.Name() + "/another"); err != nil {
				t.Errorf("another test is told %v", err)
			}
			if err := fallen(other.Name() + "/part"); err == nil {
				t.Error("a part of the test is told nothing")
			}
		})
	})
}

func TestEventually(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		want  string
	}{{"in time", 59 * time.Second, ""}, {"never", time.Hour, "not in time"}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := eventually(patience, func() error {
					if time.Since(began) < test.after {
						return errors.New("not there")
					}
					return nil
				}, func() error { return nil })
				if fmt.Sprint(err) != "<nil>" != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q", err, test.want)
				}
			})
		})
	}
}

func TestRedis(t *testing.T) {
	s := Redis(t, "--requirepass", "secret", "--appendonly", "no")
	s.Restart()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := RedisReady(conn, "secret", s.process().Process.Pid+1); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("asked for another process: %v", err)
	}
	again, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := RedisReady(again, "wrong", s.process().Process.Pid); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with a wrong password: %v", err)
	}
}
