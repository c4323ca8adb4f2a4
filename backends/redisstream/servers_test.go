package redisstream

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestServersComeAndGo: nothing is kept of servers that have left their cluster.
func TestServersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spawn := func(f func()) bool { go f(); return true }
		cluster := &redis.ClusterClient{}
		l := newLanes(t.Context(), nodes{cluster: cluster}, spawn)
		live := newLive(t.Context(), nodes{cluster: cluster}, nil, spawn, newOutage(slog.Default()))
		stays := &redis.Client{}
		for range 20 {
			one := l.batcher(stays)
			l.batcher(&redis.Client{})
			live.mu.Lock()
			live.nodeOf(&redis.Client{}).awaken()
			live.mu.Unlock()
			time.Sleep(keptFor / 4)
			if l.batcher(stays) != one {
				t.Fatal("a batcher that is used was forgotten")
			}
		}
		synctest.Wait()
		if len(l.batchers) > 6 || len(live.byClient) > 0 {
			t.Errorf("%d batchers and %d nodes are kept", len(l.batchers), len(live.byClient))
		}
	})
}
