//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopPatience is how long a program has to end by itself.
const stopPatience = 10 * time.Second

// program is a started one that is told commands on its input and answers on its output, each in a
// line.
type program struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan string
	done    chan struct{} // closed when the process has ended
	log     *tail

	mu       sync.Mutex
	progress func(line string)
}

// command returns a command that is not started yet. What is typed at the terminal does not reach
// it, and it ends at the latest with this process.
func command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...) //nolint:gosec // the programs of this measurement
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func start(path string, args ...string) (*program, error) {
	p := &program{cmd: command(path, args...), answers: make(chan string, 1), done: make(chan struct{}), log: &tail{}}
	p.name = path[strings.LastIndexByte(path, '/')+1:]
	p.cmd.Stderr = p.log
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.in = in
	go p.listen(out)
	return p, nil
}

// listen takes lines apart into progress and answers until there are no more.
func (p *program) listen(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := lines.Text()
		if count, ok := strings.CutPrefix(line, "progress "); ok {
			p.mu.Lock()
			tell := p.progress
			p.mu.Unlock()
			if tell != nil {
				tell(count)
			}
			continue
		}
		select {
		case p.answers <- line:
		default: // nobody has asked, or an earlier answer came too late
		}
	}
	_ = p.cmd.Wait()
}

// onProgress has progress told to a function from now on.
func (p *program) onProgress(tell func(count string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress = tell
}

// send sends a command that has no answer.
func (p *program) send(command string) error {
	_, err := io.WriteString(p.in, command+"\n")
	return err
}

// ask sends a command and reads the numbers or words after the wanted first word of its answer.
func (p *program) ask(ctx context.Context, patience time.Duration, command, want string, values ...any) error {
	if err := p.send(command); err != nil {
		return p.failed(err)
	}
	return p.answer(ctx, patience, want, values...)
}

func (p *program) answer(ctx context.Context, patience time.Duration, want string, values ...any) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case line := <-p.answers:
		return p.parse(line, want, values...)
	default:
	}
	select {
	case line := <-p.answers:
		return p.parse(line, want, values...)
	case <-p.done:
		return p.failed(errors.New("it has ended"))
	case <-timeout.C:
		return p.failed(fmt.Errorf("no answer within %v; wanted: %s", patience, want))
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *program) parse(line, want string, values ...any) error {
	first, rest, _ := strings.Cut(line, " ")
	if first != want {
		return p.failed(fmt.Errorf("it answers %q", line))
	}
	if len(values) == 0 {
		return nil
	}
	if _, err := fmt.Sscan(rest, values...); err != nil {
		return p.failed(fmt.Errorf("it answers %q: %w", line, err))
	}
	return nil
}

func (p *program) failed(err error) error {
	if log := p.log.String(); log != "" {
		return fmt.Errorf("%s: %w; it says: %s", p.name, err, log)
	}
	return fmt.Errorf("%s: %w", p.name, err)
}

// stop ends the program: the end of its input tells it to.
func (p *program) stop() {
	_ = p.in.Close()
	select {
	case <-p.done:
	case <-time.After(stopPatience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 2 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
