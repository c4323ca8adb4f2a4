package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that was started.
type process struct {
	cmd    *exec.Cmd
	output *tail
	done   chan struct{} // closed when it has ended, and with it all it started
}

// command is a program with its arguments.
func command(program string, args ...string) *exec.Cmd {
	return exec.Command(program, args...) //nolint:gosec // All programs and arguments are the demo's own.
}

// begin starts a program.
func begin(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, output: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// Wait ends when nobody holds the output any more, at the latest after this time.
	cmd.WaitDelay = time.Second
	isolate(cmd)
	started := make(chan error)
	go func() {
		// Linux ends a program when the thread that started it ends, see outlived: this one must
		// not be another goroutine's to end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(p.done)
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		// Nobody waits for these but init; they must not keep the program's port.
		_ = killGroup(cmd)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ended reports whether the program has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ready tries check until it returns nil. It gives up when the program or ctx ends.
func (p *process) ready(ctx context.Context, check func(context.Context, *process) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx, p)
		if err == nil && !p.ended() {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("it ended: %v%s", p.cmd.ProcessState, p.output.quote())
		case <-ctx.Done():
			return fmt.Errorf("%w: %w%s", context.Cause(ctx), err, p.output.quote())
		}
	}
}

// end asks the program to end, and kills it when ctx ends before it has.
func (p *process) end(ctx context.Context, graceful syscall.Signal) error {
	if p.ended() {
		return nil
	}
	err := askToEnd(p.cmd, graceful)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	err = errors.Join(errors.New("it did not end in time and was killed"), err, killGroup(p.cmd))
	<-p.done
	return err
}

// tail keeps the end of what a program prints, for the message about its failure. It may be used
// concurrently.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if more := len(t.text) - tailSize; more > 0 {
		t.text = append(t.text[:0], t.text[more:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// quote returns the last lines, each indented and on a line of its own.
func (t *tail) quote() string {
	lines := strings.Split(strings.TrimSpace(t.String()), "\n")
	if lines[0] == "" {
		return ""
	}
	return "\n\t" + strings.Join(lines[max(0, len(lines)-5):], "\n\t")
}
