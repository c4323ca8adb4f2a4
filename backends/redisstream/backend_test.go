package redisstream

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends/backendtest"
	"github.com/headrace/headrace/hub"
)

func conformance(t *testing.T, addr string, lacks map[string]string) {
	admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
	t.Cleanup(func() { _ = admin.Close() })
	rigs := make(map[hub.Backend]*rig)
	open := func(t testing.TB) hub.Backend {
		r := newRig(t, addr, Options{})
		rigs[r.Backend] = r
		return r.Backend
	}
	backendtest.Run(t, backendtest.Config{
		New:  open,
		Peer: func(t testing.TB, _ hub.Backend) hub.Backend { return open(t) },
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
		Lacks: lacks,
	})
}

func TestConformance(t *testing.T) {
	t.Run("miniredis", func(t *testing.T) { conformance(t, startMini(t).Addr(), nil) })
	t.Run("redis-server", func(t *testing.T) { conformance(t, startServer(t).addr, nil) })
	t.Run("redis-server with a replica", func(t *testing.T) {
		master := startServer(t)
		replica := startServer(t, "--replicaof", "127.0.0.1 "+master.addr[len("127.0.0.1:"):])
		waitFor(t, "the replica", func() bool {
			n, _ := master.Wait(t.Context(), 1, 0).Result()
			return n == 1 && replica.Ping(t.Context()).Err() == nil
		})
		conformance(t, master.addr, nil)
	})
}
