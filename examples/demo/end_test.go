//go:build unix

package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// TestEnd: however the demo's process ends, what it started ends too.
func TestEnd(t *testing.T) {
	testenv.Long(t)
	testenv.Need(t, "redis")
	testenv.Need(t, "nginx")
	// Under nohup SIGHUP is ignored here, and the demo would inherit that. What is handled here it
	// does not inherit.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for _, test := range []struct {
		name   string
		only   string                                         // on this system, "" for all
		end    func(demo *os.Process, stdout io.Closer) error // makes it end
		killed bool                                           // it has no time to remove its folder
	}{
		{name: "the terminal closes", end: func(demo *os.Process, _ io.Closer) error {
			return demo.Signal(syscall.SIGHUP)
		}},
		{name: "nobody reads its output", end: func(demo *os.Process, stdout io.Closer) error {
			return errors.Join(stdout.Close(), demo.Signal(syscall.SIGTERM)) // it says that it is ending
		}},
		{name: "it is killed", only: "linux", killed: true, end: func(demo *os.Process, _ io.Closer) error {
			return demo.Kill()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.only != "" && runtime.GOOS != test.only {
				t.Skip("on " + test.only + " only")
			}
			temp := t.TempDir()
			cmd := exec.Command(os.Args[0], "-addr", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), asDemo+"=1", "TMPDIR="+temp)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			urls, pids, err := introduction(bufio.NewScanner(stdout))
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				for _, pid := range pids {
					if group, err := strconv.Atoi(pid); err == nil && t.Failed() {
						_ = syscall.Kill(-group, syscall.SIGKILL)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}

			if err := test.end(cmd.Process, stdout); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); !test.killed && err != nil {
				t.Errorf("the demo ended with %v", err)
			}
			for name, pid := range pids {
				testenv.Eventually(t, name, func() error { return gone(pid) })
			}
			// Its workers have no line of their own in the introduction.
			front, err := url.Parse(urls["nginx"])
			if err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "nginx's port is free", func() error {
				conn, err := net.Dial("tcp", front.Host)
				if err != nil {
					return nil
				}
				return errors.Join(errors.New("somebody listens"), conn.Close())
			})
			if !test.killed {
				nothingIsLeft(t, temp)
			}
		})
	}
}
