//go:build unix

package redisstream

import "syscall"

// freeze stops the server's process: its connections stay open, and nothing answers.
func (s *server) freeze() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

func (s *server) thaw() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }
