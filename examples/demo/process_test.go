//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// shell returns a service that is a shell script. It counts as started when it has printed "ready".
func shell(name, script string) *service {
	return &service{
		name:     name,
		addr:     "127.0.0.1:1", // nothing listens
		graceful: syscall.SIGTERM,
		command:  func(string) (*exec.Cmd, error) { return exec.Command("/bin/sh", "-c", script), nil },
		check: func(_ context.Context, _ *service, p *process) error {
			if !strings.Contains(p.output.String(), "ready") {
				return errors.New("it is not ready")
			}
			return nil
		},
	}
}

// forever keeps a script alive; a trap runs between two of its rounds.
const forever = "echo ready; while :; do sleep 0.02; done"

// gone returns an error while a process runs. Where there is no /proc it cannot tell.
func gone(pid string) error {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil || strings.Contains(string(stat), ") Z ") { // dead, and nobody has waited for it
		return nil
	}
	return fmt.Errorf("process %s runs", pid)
}

// TestStopOrder: Redis is told to end when the last instance has ended, however long that takes.
func TestStopOrder(t *testing.T) {
	order := filepath.Join(t.TempDir(), "order")
	onEnd := func(pause, name string) string {
		return "trap '" + pause + "echo " + name + " >>" + order + "; exit' TERM; " + forever
	}
	d := &demo{stdout: io.Discard, redis: shell("redis", onEnd("", "redis")), instances: []*service{
		shell("quick", onEnd("", "quick")), shell("slow", onEnd("sleep 0.3; ", "slow"))}}
	if err := together(d.services(), func(s *service) error { return s.start(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	if err := d.stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(order); err != nil || !strings.HasSuffix(string(got), "slow\nredis\n") || !strings.Contains(string(got), "quick\n") {
		t.Errorf("they ended in the order %q, %v", got, err)
	}
}

// TestEndKills: a program that does not end when asked is killed, with what it started.
func TestEndKills(t *testing.T) {
	// The child says its number itself: its "ready" may be read before anything that its parent
	// prints.
	s := shell("deaf", "trap '' TERM; sh -c 'trap \"\" TERM; echo child $$; "+forever+"' & wait")
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(s.process().output.String(), "child ")
	child := strings.Fields(rest)[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.stop(ctx); err == nil || !strings.Contains(err.Error(), "demo: deaf: ") || !strings.Contains(err.Error(), "killed") {
		t.Errorf("error %v", err)
	}
	testenv.Eventually(t, "the child is killed", func() error { return gone(child) })
	if err := s.stop(ctx); err != nil {
		t.Errorf("stopping it again: %v", err)
	}
}
