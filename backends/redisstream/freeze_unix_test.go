//go:build unix

package redisstream

import (
	"syscall"

	"github.com/headrace/headrace/internal/testenv"
)

// freeze stops the server's process: its connections stay open, and nothing answers.
func (s *server) freeze() { suspend(s.program) }

func suspend(s *testenv.Server) { s.Signal(syscall.SIGSTOP) }

func (s *server) thaw() { s.program.Signal(syscall.SIGCONT) }
