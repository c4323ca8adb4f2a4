package redisstream

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// retained are the bounds of the topics of rule L6.
var retained = []hub.Retention{{Prefix: "retained/", Messages: 200, Bytes: 1 << 20, Age: 2 * time.Second}}

// conformance runs the suite. restart is nil where the server cannot be restarted: then the backend
// alone is opened again. Its backends have retained in their options; with bounds, rule L6 takes
// some seconds.
func conformance(t *testing.T, admin redis.UniversalClient, restart func(), bounds hub.Retention, newRig func(t testing.TB) *rig) {
	rigs := make(map[hub.Backend]*rig)
	open := func(t testing.TB) hub.Backend {
		r := newRig(t)
		rigs[r.Backend] = r
		return r.Backend
	}
	backendtest.Run(t, backendtest.Config{
		New:       open,
		Retention: bounds,
		Peer:      func(t testing.TB, _ hub.Backend) hub.Backend { return open(t) },
		Reopen: func(t testing.TB, b hub.Backend) hub.Backend {
			_ = b.Close()
			if restart != nil {
				restart()
			}
			return open(t)
		},
		Trim: func(t testing.TB, b hub.Backend, topic string) {
			if err := admin.XTrimMaxLen(t.Context(), rigs[b].keys.stream(topic), 0).Err(); err != nil {
				t.Fatal(err)
			}
		},
		Break: func(t testing.TB, b hub.Backend, _ string) func() { return rigs[b].breakLive(t) },
		Outage: func(t testing.TB, b hub.Backend) func() {
			rigs[b].gate.close()
			return func() {
				rigs[b].gate.open()
				rigs[b].awaitLive(t)
			}
		},
	})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	bounds := hub.Retention{}
	if testenv.IsLong() {
		bounds = retained[0]
	}
	one := func(t *testing.T, addr string, restart func(), bounds hub.Retention) {
		t.Parallel()
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		conformance(t, admin, restart, bounds, func(t testing.TB) *rig {
			return newRig(t, addr, Options{Retention: retained})
		})
	}
	t.Run("miniredis", func(t *testing.T) { one(t, startMini(t).Addr(), nil, bounds) })
	t.Run("redis-server", func(t *testing.T) {
		s := startServer(t, "--appendonly", "yes")
		one(t, s.addr, s.program.Restart, retained[0])
	})
	t.Run("redis-server with a replica", func(t *testing.T) {
		master := startServer(t, "--repl-diskless-sync-delay", "0")
		startServer(t, "--replicaof", "127.0.0.1 "+master.addr[len("127.0.0.1:"):])
		waitFor(t, "the replica", func() bool {
			n, _ := master.Wait(t.Context(), 1, 0).Result()
			return n == 1
		})
		one(t, master.addr, nil, bounds)
	})
	t.Run("redis-server cluster", func(t *testing.T) {
		t.Parallel()
		nodes := startCluster(t)
		admin := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr}, DisableIdentity: true})
		defer admin.Close()
		conformance(t, admin, nil, bounds, func(t testing.TB) *rig { return newClusterRig(t, nodes[0].addr, Options{Retention: retained}) })
	})
}
