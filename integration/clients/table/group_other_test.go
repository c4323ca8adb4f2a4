//go:build !unix

package table

import "os/exec"

func group(*exec.Cmd) {}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
