package redisstream

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// farEnd is a connection to some address.
type farEnd struct {
	net.Conn
	addr string
}

func (c farEnd) RemoteAddr() net.Addr { return farEnd{addr: c.addr} }
func (c farEnd) Network() string      { return "tcp" }
func (c farEnd) String() string       { return c.addr }

// TestTheLatestWordCounts: right after a failover one sentinel may still send a connection to the
// former master. When they agree, it is closed.
func TestTheLatestWordCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		word := "old"
		dial := func(context.Context, string, string) (net.Conn, error) {
			inner, other := net.Pipe()
			t.Cleanup(func() { _ = other.Close() })
			return farEnd{inner, word}, nil
		}
		cs := newConnections()
		client := redis.NewClient(&redis.Options{Dialer: dial})
		defer client.Close()
		f := &failover{conns: cs, client: client}
		cs.dialed = f.found
		open := func(addr string) {
			t.Helper()
			word = addr
			inner, _ := dial(t.Context(), "", "")
			if _, err := cs.add(inner, "master", false, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		count := func() map[string]int {
			n := make(map[string]int)
			for c := range cs.open {
				n[c.remote]++
			}
			return n
		}
		open("old")
		time.Sleep(time.Minute)
		open("new")
		if n := count(); n["old"] != 0 || n["new"] != 1 {
			t.Errorf("after a failover: %v", n)
		}
		open("old")
		time.Sleep(reloadEvery)
		word = "new"
		f.reload(t.Context())
		if n := count(); n["old"] != 0 || n["new"] != 1 {
			t.Errorf("when the sentinels agree: %v", n)
		}
		for c := range cs.open {
			_ = c.Close()
		}
	})
}

// TestPoolOfOne: a user's only connection is left to the user.
func TestPoolOfOne(t *testing.T) {
	for _, test := range []struct {
		o      redis.FailoverOptions
		listen bool
	}{{redis.FailoverOptions{}, true}, {redis.FailoverOptions{PoolSize: 1}, false}, {redis.FailoverOptions{MaxActiveConns: 1}, false}} {
		test.o.SentinelAddrs = []string{"127.0.0.1:1"}
		client := redis.NewFailoverClient(&test.o)
		all := must(derive(client, "key"))
		if listens := all[publishing].topology.listen != nil; listens != test.listen {
			t.Errorf("%d and %d connections: the backend holds one: %v", test.o.PoolSize, test.o.MaxActiveConns, listens)
		}
		for _, n := range all {
			_ = n.close()
		}
		_ = client.Close()
	}
}
