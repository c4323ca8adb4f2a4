package servers

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestServers starts each server, stops it, kills it, and starts it again.
func TestServers(t *testing.T) {
	for _, test := range []struct {
		name  string
		start func(testing.TB) *Server
	}{
		{"redis", func(t testing.TB) *Server { return Redis(t) }},
		{"postgres", func(t testing.TB) *Server { return Postgres(t) }},
		{"rabbitmq", func(t testing.TB) *Server { return RabbitMQ(t) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			begun := time.Now()
			s := test.start(t)
			t.Logf("started in %v", time.Since(begun).Round(time.Millisecond))
			listens(t, s, true)
			s.Stop()
			listens(t, s, false)
			s.Start()
			s.Kill()
			listens(t, s, false)
			s.Start()
			listens(t, s, true)
		})
	}
}

func listens(t *testing.T, s *Server, want bool) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err == nil {
		_ = conn.Close()
	}
	if got := err == nil; got != want {
		t.Fatalf("%s listens: %v, want %v", s.URL, got, want)
	}
}

func TestFolderIsRemoved(t *testing.T) {
	var dir string
	t.Run("uses", func(t *testing.T) { dir = folder(t) })
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder of an ended test: %v", err)
	}
}
