package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// hubs is how many there are, each with a backend and a network of its own.
const hubs = 2

// node is a server that keeps data.
type node struct {
	*testenv.Server
	raw *redis.Client // to look at it with, past all relays
	// backbone is what other servers reach it by, nil if they do so directly.
	backbone *testenv.Relay
	// more are further arguments of its next start.
	more []string
}

// site is the servers of a run.
type site struct {
	t         *testing.T
	nodes     []*node
	sentinels []*node
	networks  [hubs]*network
	// shards are the numbers of the nodes that have the same data. The topics are spread over them.
	shards [][]int
	topics map[string]int // and their shards
	lossy  bool
	// client makes a client as a program would.
	client func(n *network) redis.UniversalClient
	// masters returns the master of each shard, by those who have the say.
	masters func(ctx context.Context) ([]*node, error)
	// whole returns nil when all that makes the site stand a fault is there.
	whole func(ctx context.Context) error
	// watch tells of each change of a master until ctx ends.
	watch func(ctx context.Context, switched func(shard int))
}

// addNode starts a server.
func (s *site) addNode(args ...string) *node {
	s.t.Helper()
	n := &node{}
	n.Server = testenv.RedisPorts(s.t, 1, func([]string) []string { return slices.Concat(args, n.more) })
	s.adopt(n)
	return n
}

func (s *site) adopt(n *node) {
	n.raw = rawClient(s.t, n.Addr)
	s.nodes = append(s.nodes, n)
}

// rawClient returns a client that has little patience.
func rawClient(t testing.TB, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: addr, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 3,
		DialTimeout: rawTimeout, ReadTimeout: rawTimeout, WriteTimeout: rawTimeout,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const rawTimeout = time.Second

// persistent are the arguments of a server that loses nothing when it is killed. With everysec it
// would: it puts off writing for up to two seconds while the disk is busy with a sync.
var persistent = []string{"--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"}

// config sets a server's configuration; what it refuses is a fault of the test.
func (n *node) config(t testing.TB, name, value string) {
	t.Helper()
	if err := n.raw.ConfigSet(context.Background(), name, value).Err(); err != nil {
		t.Errorf("CONFIG SET %s: %v", name, err)
	}
}

// role returns a server's role, "" without an answer, and whether its replication is well: a
// replica is connected, a master has a replica that is online.
func (n *node) role(ctx context.Context) (role string, well bool) {
	info, err := n.raw.Info(ctx, "replication").Result()
	if err != nil {
		return "", false
	}
	if strings.Contains(info, "role:master") {
		return "master", strings.Contains(info, "state=online")
	}
	return "slave", strings.Contains(info, "master_link_status:up")
}

// takesWrites returns nil when each shard's master takes a write, as redis-cli would send it.
func (s *site) takesWrites(ctx context.Context) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return err
	}
	for topic, shard := range s.topics {
		if masters[shard] == nil {
			return fmt.Errorf("shard %d has no master", shard)
		}
		if err := masters[shard].raw.Set(ctx, "probe:{"+topic+"}", "", 0).Err(); err != nil {
			return err
		}
	}
	return nil
}

// isWhole returns nil when nothing of the last fault is left.
func (s *site) isWhole(ctx context.Context) error {
	if err := s.takesWrites(ctx); err != nil {
		return err
	}
	if s.whole == nil {
		return nil
	}
	return s.whole(ctx)
}

// log returns what a topic has, from Redis itself.
func (s *site) log(ctx context.Context, topic string) ([]entry, error) {
	masters, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	raw := masters[s.topics[topic]].raw
	var log []entry
	for from := "-"; ; {
		page, err := raw.XRangeN(ctx, "headrace:{"+topic+"}", from, "+", 500).Result()
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			mark, _ := m.Values["hr"].(string)
			data, _ := m.Values["data"].(string)
			from = "(" + m.ID
			switch {
			case mark == "":
				return nil, errors.New("an entry has no mark")
			case strings.Contains(mark, "d"):
				log = append(log, entry{id: hub.ID(m.ID), deleted: true})
			case strings.Contains(mark, "e"):
			default:
				log = append(log, entry{id: hub.ID(m.ID), text: compact(data)})
			}
		}
		if len(page) == 0 {
			return log, nil
		}
	}
}

// poll calls check at short intervals, each on a goroutine of its own for each node, until ctx
// ends.
func poll(ctx context.Context, nodes []*node, check func(i int, n *node)) {
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			for pause(ctx, pollEvery) {
				check(i, n)
			}
		})
	}
	wg.Wait()
}

const pollEvery = 25 * time.Millisecond

// pause lets time pass. It reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// spread chooses topics so that each shard has some. shardOf tells where a name belongs.
func (s *site) spread(each int, shardOf func(name string) int) {
	s.topics = make(map[string]int)
	count := make([]int, len(s.shards))
	for i := 0; len(s.topics) < each*len(s.shards); i++ {
		name := fmt.Sprintf("t%d", i)
		if shard := shardOf(name); count[shard] < each {
			count[shard]++
			s.topics[name] = shard
		}
	}
}

// sorted returns the topics' names.
func (s *site) sorted() []string { return slices.Sorted(maps.Keys(s.topics)) }

// silence is a logger for go-redis that says nothing: what fails here is meant to.
type silence struct{}

// Printf implements go-redis's logger.
func (silence) Printf(context.Context, string, ...any) {}

var _ io.Writer = (*record)(nil)

// record keeps the end of what is written to it.
type record struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (r *record) Write(p []byte) (int, error) {
	const most = 256 << 10
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p...)
	if len(r.text) > 2*most {
		r.text = append([]byte(nil), r.text[len(r.text)-most:]...)
	}
	return len(p), nil
}

// String returns it.
func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}
