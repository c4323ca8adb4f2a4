package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends/redisstream"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// redisServer is a redis-server of the test's own, and a client to look at it with.
type redisServer struct {
	addr string
	*redis.Client
}

// startRedis starts redis-server with further arguments, and ends it with the test.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	addr := testenv.Redis(t, args...).Addr
	s := &redisServer{addr, redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// servers are what a test looks at: one server, or the nodes of a cluster.
type servers []*redisServer

// startSingle starts one server.
func startSingle(t testing.TB) servers { return servers{startRedis(t)} }

// startCluster starts a cluster of two nodes that have half of the slots each.
func startCluster(t testing.TB) servers {
	t.Helper()
	ctx := context.Background()
	var nodes servers
	for _, slots := range [][2]int{{0, 8191}, {8192, 16383}} {
		node := startRedis(t, "--cluster-enabled", "yes")
		if err := node.ClusterAddSlotsRange(ctx, slots[0], slots[1]).Err(); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	host, port, _ := net.SplitHostPort(nodes[1].addr)
	if err := nodes[0].ClusterMeet(ctx, host, port).Err(); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		eventually(t, "the cluster is whole", func() error {
			info := node.ClusterInfo(ctx).Val()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:2") {
				return errors.New(info)
			}
			return nil
		})
	}
	return nodes
}

// newBackend returns a backend with connections of its own, as another process would have. It is
// closed with the test.
func (s servers) newBackend(t testing.TB) hub.Backend {
	t.Helper()
	var client redis.UniversalClient
	if len(s) == 1 {
		client = redis.NewClient(&redis.Options{Addr: s[0].addr, DisableIdentity: true})
	} else {
		client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s[0].addr}, DisableIdentity: true})
	}
	backend, err := redisstream.New(client, redisstream.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(backend.Close(), client.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return backend
}

// newHubOver returns a hub over a backend, shut down with the test.
func newHubOver(t testing.TB, backend hub.Backend, o hub.Options) *hub.Hub {
	t.Helper()
	o.Logger = quiet
	h, err := hub.New(backend, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return h
}

// cpu returns how much processor time the servers have used.
func (s servers) cpu(t testing.TB) (used time.Duration) {
	t.Helper()
	for _, server := range s {
		for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
			seconds, err := strconv.ParseFloat(server.info(t, "cpu", name), 64)
			if err != nil {
				t.Fatal(err)
			}
			used += time.Duration(seconds * float64(time.Second))
		}
	}
	return used
}

// memory returns how many bytes the servers have allocated.
func (s servers) memory(t testing.TB) (used int64) {
	t.Helper()
	for _, server := range s {
		n, err := strconv.ParseInt(server.info(t, "memory", "used_memory"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		used += n
	}
	return used
}

// calls returns how often the servers ran a command, be it for a script.
func (s servers) calls(t testing.TB, command string) (n int) {
	t.Helper()
	for _, server := range s {
		stat := server.info(t, "commandstats", "cmdstat_"+command)
		if stat == "" {
			continue
		}
		k, err := strconv.Atoi(field(stat, "calls", ","))
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	return n
}

// info returns one line of INFO, without its name; "" when there is none.
func (s *redisServer) info(t testing.TB, section, name string) string {
	t.Helper()
	text, err := s.Info(context.Background(), section).Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// pubsub returns how many Pub/Sub connections a server has, and how many channels they are
// subscribed to.
func (s *redisServer) pubsub(t testing.TB) (connections, channels int) {
	t.Helper()
	list, err := s.Do(context.Background(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		connections++
		for _, name := range []string{"sub", "ssub"} {
			n, _ := strconv.Atoi(field(line, name, " ")) // servers without sharded Pub/Sub have no ssub
			channels += n
		}
	}
	return connections, channels
}

// field returns the value of name=value in a list.
func field(list, name, separator string) string {
	for item := range strings.SplitSeq(list, separator) {
		if value, ok := strings.CutPrefix(item, name+"="); ok {
			return value
		}
	}
	return ""
}

// microsPer returns how many microseconds of a cost fall to each of n messages or pages.
func microsPer(cost time.Duration, n int) float64 {
	return float64(cost.Nanoseconds()) / 1e3 / float64(n)
}

// topicName returns the name of the i-th of many topics.
func topicName(i int) string { return fmt.Sprintf("orders/%d/events", i) }
