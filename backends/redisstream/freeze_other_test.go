//go:build !unix

package redisstream

import "github.com/headrace/headrace/internal/testenv"

// freeze skips the test.
func (s *server) freeze() {
	s.t.Helper()
	s.t.Skip("needs SIGSTOP, which this system does not have")
}

func (s *server) thaw() {}

func suspend(s *testenv.Server) { s.Kill() }
