//go:build !unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

func isolate(*exec.Cmd) {}

// askToEnd ends a program at once: there is no other way on this system.
func askToEnd(cmd *exec.Cmd, _ syscall.Signal) error { return cmd.Process.Kill() }

func killGroup(cmd *exec.Cmd) error {
	if err := cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
