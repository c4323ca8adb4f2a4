package nats

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
)

// natsServer is a server in this process, with its store in a folder of the test.
type natsServer struct {
	*server.Server
	dir  string
	port int
}

func startServer(t testing.TB) *natsServer {
	t.Helper()
	s := &natsServer{dir: t.TempDir(), port: server.RANDOM_PORT}
	s.start(t)
	s.port = s.Addr().(*net.TCPAddr).Port
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start(t testing.TB) {
	t.Helper()
	var err error
	s.Server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: s.port, JetStream: true, StoreDir: s.dir, NoLog: true, NoSigs: true, NoSystemAccount: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready within 10s")
	}
}

func (s *natsServer) stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

func (s *natsServer) restart(t testing.TB) {
	t.Helper()
	s.stop()
	s.start(t)
}

func (s *natsServer) url(query string) string {
	return "nats://127.0.0.1:" + strconv.Itoa(s.port) + "?" + query
}

// open opens a backend that the caller closes.
func (s *natsServer) open(t testing.TB, query string) hub.Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), s.url(query))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *natsServer) connect(t testing.TB) (*nats.Conn, nats.JetStreamContext) {
	t.Helper()
	conn, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := conn.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	return conn, js
}

// awaitStream waits until somebody has made the stream.
func (s *natsServer) awaitStream(t testing.TB, js nats.JetStreamContext) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := js.StreamInfo("HEADRACE")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stream is not there within 40s: %v", err)
		}
	}
}
