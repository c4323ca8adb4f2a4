package servers

import (
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// Redis starts a redis-server with further arguments. Its URL has the scheme redis. Without
// arguments that say otherwise it keeps nothing over a restart.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	s := testenv.Redis(t, args...)
	return &Server{s, "redis://" + s.Addr}
}
