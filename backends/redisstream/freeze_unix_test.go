//go:build unix

package redisstream

import "syscall"

// freeze stops the server's process: its connections stay open, and nothing answers.
func (s *server) freeze() { s.program.Signal(syscall.SIGSTOP) }

func (s *server) thaw() { s.program.Signal(syscall.SIGCONT) }
