//go:build unix

package main

import (
	"errors"
	"os/exec"
	"syscall"
)

// isolate gives a program a process group of its own. A Ctrl-C in the terminal then reaches the
// demo only, which ends the programs in order, and a program can be killed together with the
// processes it started, such as nginx's workers.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	outlived(cmd.SysProcAttr)
}

// askToEnd asks a program to end after the requests at hand: nginx does at SIGQUIT, all others at
// SIGTERM.
func askToEnd(cmd *exec.Cmd, graceful syscall.Signal) error { return cmd.Process.Signal(graceful) }

// killGroup ends what is left of a program and of the processes it started.
func killGroup(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
