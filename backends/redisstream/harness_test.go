package redisstream

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// server is a redis-server of the test's own, and a client to look at it with.
type server struct {
	*redis.Client
	t       testing.TB
	program *testenv.Server
	addr    string
}

// startServer starts redis-server with further arguments, and ends it with the test.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s, _ := startServerPorts(t, 1, func([]string) []string { return args })
	return s
}

// startServerPorts is startServer for a server with several ports: the arguments say what those
// after the first one are for.
func startServerPorts(t testing.TB, n int, args func(ports []string) []string) (s *server, ports []string) {
	t.Helper()
	program := testenv.RedisPorts(t, n, args)
	password := ""
	given := args(program.Ports)
	if i := slices.Index(given, "--requirepass"); i >= 0 {
		password = given[i+1]
	}
	return newServer(t, program, &redis.Options{Addr: program.Addr, Password: password}), program.Ports
}

// newServer returns a server that was started, with a client.
func newServer(t testing.TB, program *testenv.Server, o *redis.Options) *server {
	o.DisableIdentity = true
	s := &server{Client: redis.NewClient(o), t: t, program: program, addr: o.Addr}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// freePort returns a port at which nobody listens.
func freePort(t testing.TB) string {
	t.Helper()
	return testenv.Ports(t, 1)[0]
}

// waitFor is for what another process does.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testenv.Eventually(t, what, func() error {
		if !cond() {
			return errors.New("it is not so")
		}
		return nil
	})
}

func startMini(t testing.TB) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// startCluster starts two nodes that have half of the slots each.
func startCluster(t testing.TB) (nodes [2]*server) {
	t.Helper()
	ctx := context.Background()
	for i := range nodes {
		nodes[i] = startServer(t, "--cluster-enabled", "yes")
	}
	for i, slots := range [][2]int{{0, 8191}, {8192, 16383}} {
		if err := nodes[i].ClusterAddSlotsRange(ctx, slots[0], slots[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(nodes[1].addr, ":")
	if err := nodes[0].ClusterMeet(ctx, host, port).Err(); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		waitFor(t, "the cluster", func() bool {
			info := n.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:2")
		})
	}
	return nodes
}

// both runs a test on miniredis and on redis-server.
func both(t *testing.T, f func(t *testing.T, addr string)) {
	t.Run("miniredis", func(t *testing.T) { f(t, startMini(t).Addr()) })
	t.Run("redis-server", func(t *testing.T) { f(t, startServer(t).addr) })
}

// mostly is both, on miniredis in the long form only: it needs seconds for what redis-server does
// in tenths.
func mostly(t *testing.T, long bool, f func(t *testing.T, addr string)) {
	if long {
		both(t, f)
		return
	}
	t.Run("redis-server", func(t *testing.T) { f(t, startServer(t).addr) })
}

// recorder is a hub.Sink that keeps what it gets.
type recorder struct {
	mu       sync.Mutex
	messages []hub.Message
	broken   []error
	restored int
}

func (r *recorder) Deliver(ms ...hub.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, ms...)
}

func (r *recorder) Broken(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, err)
}

func (r *recorder) Restored(hub.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restored++
}

func (r *recorder) texts() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		list = append(list, string(m.Data))
	}
	return list
}

func (r *recorder) has(text string) bool {
	return slices.Contains(r.texts(), text)
}

func mustFollow(t testing.TB, b hub.Backend, topic string) (*recorder, hub.ID, func()) {
	t.Helper()
	r := &recorder{}
	tail, stop, err := b.Follow(t.Context(), topic, r)
	if err != nil {
		t.Fatalf("Follow: %v", err)
	}
	t.Cleanup(stop)
	return r, tail, stop
}

func mustPublish(t testing.TB, b hub.Backend, topic, text string) hub.ID {
	t.Helper()
	id, err := b.Publish(t.Context(), topic, hub.Message{Type: "note", Data: []byte(text)})
	if err != nil {
		t.Fatalf("Publish: %v", err)
	}
	return id
}

func mustRead(t testing.TB, b hub.Backend, topic string, after hub.ID) hub.Page {
	t.Helper()
	p, err := b.Read(t.Context(), topic, after, 1000)
	if err != nil {
		t.Fatalf("Read after %q: %v", after, err)
	}
	return p
}

// everything reads all that is retained.
func everything(t testing.TB, b hub.Backend, topic string) (ms []hub.Message) {
	t.Helper()
	for after := hub.ID(""); ; {
		p := mustRead(t, b, topic, after)
		if len(p.Messages) == 0 {
			return ms
		}
		ms, after = append(ms, p.Messages...), p.Next
	}
}

// logBuffer is a logger's output.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// noSecrets fails the test when an error shows an address, or one of the given words.
func noSecrets(t testing.TB, err error, words ...string) {
	t.Helper()
	for _, w := range append(words, "127.0.0.1", "localhost") {
		if strings.Contains(err.Error(), w) {
			t.Errorf("the error %q shows %q", err, w)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
