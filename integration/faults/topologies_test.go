package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/internal/testenv"
)

// topologies start the servers of a run.
var topologies = map[string]func(t *testing.T) *site{
	"single": startSingle, "sentinels": startSentinels, "cluster": startCluster,
}

const topicsOfRun = 6

// startSingle starts one server.
func startSingle(t *testing.T) *site {
	s := &site{t: t, shards: [][]int{{0}}}
	n := s.addNode(persistent...)
	for i := range s.networks {
		s.networks[i] = newNetwork(t, map[string]*testenv.Server{n.Addr: n.Server})
	}
	s.spread(topicsOfRun, func(string) int { return 0 })
	s.client = func(w *network) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: n.Addr, Dialer: w.dial, DialTimeout: dialTimeout, DialerRetries: 1})
	}
	s.masters = func(context.Context) ([]*node, error) { return s.nodes, nil }
	s.watch = func(ctx context.Context, _ func(int)) { <-ctx.Done() }
	return s
}

// down is after how long the sentinels and the cluster take a silent server for dead.
const down = 1500 * time.Millisecond

// startSentinels starts a master, a replica and three sentinels. The servers know each other by
// relays, and the sentinels know them so: what cuts one off leaves its clients alone.
func startSentinels(t *testing.T) *site {
	s := &site{t: t, lossy: true, shards: [][]int{{0, 1}}}
	for range 2 {
		s.addNode(persistent...)
	}
	known := make(map[string]*testenv.Server)
	addrs := make([]string, len(s.nodes))
	for i, n := range s.nodes {
		relay := testenv.NewRelay(t, n.Addr)
		n.backbone, addrs[i] = relay, relay.Addr
		known[relay.Addr] = n.Server
		host, port, _ := net.SplitHostPort(relay.Addr)
		n.more = []string{"--replica-announce-ip", host, "--replica-announce-port", port}
		n.config(t, "replica-announce-ip", host)
		n.config(t, "replica-announce-port", port)
	}
	host, port, _ := net.SplitHostPort(addrs[0])
	if err := s.nodes[1].raw.ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the replica", func() error {
		if _, well := s.nodes[1].role(t.Context()); !well {
			return errors.New("is not connected")
		}
		return nil
	})
	const master = "main"
	var sentinels []string
	for _, one := range testenv.RedisSentinels(t, 3, testenv.Sentinels{Master: master, Addr: addrs[0], Replicas: 1, Down: down}) {
		s.sentinels = append(s.sentinels, &node{Server: one, raw: rawClient(t, one.Addr)})
		sentinels = append(sentinels, one.Addr)
		known[one.Addr] = one
	}
	for i := range s.networks {
		s.networks[i] = newNetwork(t, known)
	}
	s.spread(topicsOfRun, func(string) int { return 0 })
	s.client = func(w *network) redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: master, SentinelAddrs: sentinels, Dialer: w.dial, DialTimeout: dialTimeout, DialerRetries: 1,
		})
	}
	named := func(ctx context.Context, sentinel *node) string {
		at, _ := sentinel.raw.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", master).StringSlice()
		return strings.Join(at, ":")
	}
	s.masters = func(ctx context.Context) ([]*node, error) {
		votes := make(map[string]int)
		for _, one := range s.sentinels {
			votes[named(ctx, one)]++
		}
		for i, addr := range addrs {
			if votes[addr] > len(s.sentinels)/2 {
				return []*node{s.nodes[i]}, nil
			}
		}
		return nil, fmt.Errorf("the sentinels do not agree: %v", votes)
	}
	s.whole = func(ctx context.Context) error {
		for _, one := range s.sentinels {
			info, err := one.raw.Info(ctx, "sentinel").Result()
			if err != nil {
				return err
			}
			if !strings.Contains(info, "status=ok") || !strings.Contains(info, "slaves=1,sentinels=3") {
				return errors.New(info)
			}
		}
		return s.replicated(ctx)
	}
	s.watch = func(ctx context.Context, switched func(int)) {
		// A switch is over when all sentinels name the new one, so each of them counts.
		var mu sync.Mutex
		last := slices.Repeat([]string{addrs[0]}, len(s.sentinels))
		poll(ctx, s.sentinels, func(i int, one *node) {
			addr := named(ctx, one)
			mu.Lock()
			defer mu.Unlock()
			if addr != "" && addr != last[i] {
				last[i] = addr
				switched(0)
			}
		})
	}
	return s
}

// replicated returns nil when each shard has a master, and its other servers are replicas that have
// what it has.
func (s *site) replicated(ctx context.Context) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return err
	}
	for k, shard := range s.shards {
		for _, i := range shard {
			want := "slave"
			if s.nodes[i] == masters[k] {
				want = "master"
			}
			if role, well := s.nodes[i].role(ctx); role != want || !well {
				return fmt.Errorf("node %d is %q and well %v, it should be %q", i, role, well, want)
			}
		}
	}
	return nil
}

// startCluster starts a cluster of three masters with a replica each.
func startCluster(t *testing.T) *site {
	const masters = 3
	s := &site{t: t, lossy: true, shards: make([][]int, masters)}
	known := make(map[string]*testenv.Server)
	var addrs []string
	args := append(slices.Clone(persistent), "--cluster-allow-replica-migration", "no", "--cluster-node-timeout", fmt.Sprint(down.Milliseconds()))
	for i, one := range testenv.RedisCluster(t, masters, 1, args...) {
		s.adopt(&node{Server: one})
		s.shards[i%masters] = append(s.shards[i%masters], i)
		known[one.Addr] = one
		addrs = append(addrs, one.Addr)
	}
	for i := range s.networks {
		s.networks[i] = newNetwork(t, known)
	}
	s.spread(topicsOfRun/masters, func(name string) int {
		slot, err := s.nodes[0].raw.ClusterKeySlot(t.Context(), name).Result()
		if err != nil {
			t.Fatal(err)
		}
		for i := range masters {
			if int(slot) < (i+1)*16384/masters {
				return i
			}
		}
		return masters - 1
	})
	s.client = func(w *network) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Dialer: w.dial, DialTimeout: dialTimeout, DialerRetries: 1})
	}
	s.masters = func(ctx context.Context) ([]*node, error) {
		list := make([]*node, masters)
		for k, shard := range s.shards {
			for _, i := range shard {
				// One that was replaced calls itself a master until it hears of it.
				if role, _ := s.nodes[i].role(ctx); role == "master" && s.owns(ctx, i) {
					list[k] = s.nodes[i]
				}
			}
			if list[k] == nil {
				return nil, fmt.Errorf("shard %d has no master", k)
			}
		}
		return list, nil
	}
	s.whole = func(ctx context.Context) error {
		for i, n := range s.nodes {
			info, err := n.raw.ClusterInfo(ctx).Result()
			if err != nil {
				return err
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_slots_ok:16384") {
				return fmt.Errorf("node %d: %s", i, info)
			}
		}
		return s.replicated(ctx)
	}
	s.watch = func(ctx context.Context, switched func(int)) {
		last := make([]string, len(s.nodes))
		poll(ctx, s.nodes, func(i int, n *node) {
			role, _ := n.role(ctx)
			if role == "master" && last[i] == "slave" {
				switched(i % masters)
			}
			if role != "" {
				last[i] = role
			}
		})
	}
	return s
}

// owns reports whether another shard's server takes a server for the master of its shard.
func (s *site) owns(ctx context.Context, i int) bool {
	self, err := s.nodes[i].raw.Do(ctx, "CLUSTER", "MYID").Text()
	if err != nil {
		return false
	}
	for k, other := range s.nodes {
		if k%len(s.shards) == i%len(s.shards) {
			continue
		}
		nodes, err := other.raw.ClusterNodes(ctx).Result()
		if err != nil {
			continue
		}
		for line := range strings.Lines(nodes) {
			if fields := strings.Fields(line); len(fields) > 8 && fields[0] == self {
				return strings.Contains(fields[2], "master")
			}
		}
	}
	return false
}
