package nats

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// natsServer is a server in this process, with its store in a folder of the test.
type natsServer struct {
	*server.Server
	dir  string
	port int
}

func startServer(t testing.TB) *natsServer {
	t.Helper()
	port, err := strconv.Atoi(testenv.Ports(t, 1)[0]) // it comes back to it
	if err != nil {
		t.Fatal(err)
	}
	s := &natsServer{dir: t.TempDir(), port: port}
	s.start(t)
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
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("nats-server is not ready within a minute")
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
	testenv.Eventually(t, "the stream is there", func() error {
		_, err := js.StreamInfo("HEADRACE")
		return err
	})
}
