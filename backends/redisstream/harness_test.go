package redisstream

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// server is a redis-server of the test's own.
type server struct {
	t    testing.TB
	bin  string
	addr string
	args []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	*redis.Client
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// startServer starts redis-server on a free port with further arguments, and ends it with the test.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	bin := testenv.Need(t, "redis")
	port := freePort(t)
	dir := t.TempDir()
	s := &server{t: t, bin: bin, addr: "127.0.0.1:" + port, log: filepath.Join(dir, "log")}
	s.args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--logfile", s.log}, args...)
	s.start()
	password := ""
	if i := slices.Index(args, "--requirepass"); i >= 0 {
		password = args[i+1]
	}
	s.Client = redis.NewClient(&redis.Options{Addr: s.addr, Password: password, DisableIdentity: true})
	t.Cleanup(func() {
		_ = s.Close()
		s.thaw()
		s.kill()
	})
	s.ready()
	return s
}

func (s *server) start() {
	s.cmd = exec.Command(s.bin, s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(s.cmd, s.done)
}

// ready waits until the server answers.
func (s *server) ready() {
	s.t.Helper()
	waitFor(s.t, "redis-server", func() bool { return s.Ping(context.Background()).Err() == nil })
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
		time.Sleep(pause) // another process is waited for: only asking again tells
	}
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
		nodes[i] = startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
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
