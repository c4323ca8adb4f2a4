package redisstream

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestPoolStats looks for what was done, in the statistics of the connections that it was done by.
func TestPoolStats(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, r *rig, mode FollowMode, servers uint32) {
		t.Helper()
		mustFollow(t, r, "t")
		for range 10 {
			mustPublish(t, r, "t", "x")
			mustRead(t, r, "t", "")
		}
		used := func(s *redis.PoolStats) bool { return s.TotalConns > 0 && s.Hits+s.Misses >= 10 }
		waitFor(t, "the connections", func() bool {
			s := r.PoolStats()
			following := s.Following.PubSubStats.Active == servers
			if mode == FollowXRead {
				following = following && s.Following.TotalConns > 0
			}
			return following && used(&s.Publishing) && used(&s.Reading)
		})
	}
	modes(t, func(t *testing.T, o Options) {
		r := newRig(t, startServer(t).addr, o)
		check(t, r, o.Follow, 1)
		_ = r.Close()
		if s := r.PoolStats(); s.Publishing.TotalConns+s.Reading.TotalConns+s.Following.TotalConns+s.Following.PubSubStats.Active != 0 {
			t.Errorf("after Close: %+v", s)
		}
	})
	t.Run("cluster", func(t *testing.T) {
		nodes := startCluster(t)
		check(t, newClusterRig(t, nodes[0].addr, Options{}), FollowPubSub, uint32(len(nodes)))
	})
	t.Run("nobody listens", func(t *testing.T) {
		newRig(t, "127.0.0.1:"+freePort(t), Options{}).PoolStats()
		newClusterRig(t, "127.0.0.1:"+freePort(t), Options{}).PoolStats()
	})
}
