package servers

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
)

// Redis starts a redis-server with further arguments. Its URL has the scheme redis. Without arguments that say otherwise it keeps
// nothing over a restart.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	path := testenv.Need(t, "redis")
	dir, port := folder(t), ports(t, 1)[0]
	args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir}, args...)
	addr := "127.0.0.1:" + port
	s := &Server{
		t: t, name: "redis-server", URL: "redis://" + addr, Addr: addr, log: filepath.Join(dir, "log"), polite: interrupt,
		command: func() *exec.Cmd { return detach(program(path, args...)) },
		ready:   func() error { return greets(addr, "PING\r\n", "+PONG\r\n") },
	}
	return s.run()
}
