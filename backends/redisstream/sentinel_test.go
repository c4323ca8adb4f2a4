package redisstream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

const (
	sentinelMaster   = "main-1"
	sentinelPassword = "of-the-sentinels"
	nodePassword     = "of-the-nodes"
)

// startSentinels is testenv.RedisSentinels with a client for each.
func startSentinels(t testing.TB, master *server, replicas, count int) (list []*server) {
	t.Helper()
	for _, program := range testenv.RedisSentinels(t, count, testenv.Sentinels{
		Master: sentinelMaster, Addr: master.addr, Replicas: replicas, Password: nodePassword, Own: sentinelPassword,
	}) {
		list = append(list, newServer(t, program, &redis.Options{Addr: program.Addr, Password: sentinelPassword}))
	}
	return list
}

func openURL(t testing.TB, url string) *Backend {
	t.Helper()
	b, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b.(*Backend)
}

// TestSentinelReplacesMaster kills the master and leaves the rest to the sentinels. The replica
// lacks messages that were acknowledged and seen.
func TestSentinelReplacesMaster(t *testing.T) {
	t.Parallel()
	auth := []string{"--requirepass", nodePassword, "--masterauth", nodePassword, "--repl-diskless-sync-delay", "0"}
	master := startServer(t, auth...)
	replica := startServer(t, append(auth, "--replicaof", "127.0.0.1 "+strings.TrimPrefix(master.addr, "127.0.0.1:"))...)
	waitFor(t, "the replica", func() bool { n, _ := master.Wait(t.Context(), 1, 0).Result(); return n == 1 })
	sentinels := startSentinels(t, master, 1, 3)
	var addrs []string
	for _, s := range sentinels {
		addrs = append(addrs, s.addr)
	}
	url := "redis+sentinel://default:" + nodePassword + "@" + strings.Join(addrs, ",") + "/" + sentinelMaster + "/0?sentinel_password=" + sentinelPassword + "&follow="

	type life struct {
		mode             string
		b                *Backend
		connected, quiet *audience
		kept, lost       hub.ID
	}
	var lives []*life
	for _, mode := range []string{"pubsub", "xread"} {
		l := &life{mode: mode, b: openURL(t, url+mode)}
		h := newHub(t, l.b)
		l.connected, l.quiet = attend(t, h, mode, hub.Latest()), attend(t, h, mode+"/quiet", hub.Latest())
		for i := range 5 {
			l.kept = mustPublish(t, l.b, mode, "m"+itoa(i))
		}
		mustPublish(t, l.b, mode+"/quiet", "m")
		lives = append(lives, l)
	}
	if n := master.Wait(t.Context(), 1, time.Minute).Val(); n != 1 {
		t.Fatalf("%d replicas have the messages", n)
	}
	// From here on the replica gets nothing.
	replica.ConfigSet(t.Context(), "masterauth", "wrong")
	waitFor(t, "the end of replication", func() bool {
		master.ClientKillByFilter(t.Context(), "TYPE", "replica")
		return strings.Contains(replica.Info(t.Context(), "replication").Val(), "master_link_status:down")
	})
	const before = "m0 m1 m2 m3 m4 lost0 lost1 lost2"
	for _, l := range lives {
		for i := range 3 {
			l.lost = mustPublish(t, l.b, l.mode, "lost"+itoa(i))
		}
		waitFor(t, "the messages before", func() bool { return l.connected.all() == before && l.quiet.all() == "m" })
	}

	// They take no replica whose link to the master has been down for ten times as long.
	for _, s := range sentinels {
		if err := s.Do(t.Context(), "SENTINEL", "SET", sentinelMaster, "down-after-milliseconds", 3000).Err(); err != nil {
			t.Fatal(err)
		}
	}
	master.program.Kill()
	for _, s := range sentinels {
		waitFor(t, "the new master", func() bool {
			at, _ := s.Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinelMaster).StringSlice()
			return strings.Join(at, ":") == replica.addr
		})
	}
	began := time.Now()
	for _, l := range lives {
		persist(t, l.b, l.mode, "later")
		persist(t, l.b, l.mode+"/quiet", "later")
	}
	for _, l := range lives {
		waitFor(t, "the message after", func() bool {
			return strings.HasSuffix(l.connected.all(), " later") && strings.HasSuffix(l.quiet.all(), " later")
		})
	}
	t.Logf("recovery took %v", time.Since(began))
	for _, l := range lives {
		if got := l.connected.all(); got != before+" gap m0 m1 m2 m3 m4 later" && got != before+" gap later" {
			t.Errorf("%s: the reader that had seen what was lost got %s", l.mode, got)
		}
		if got := l.quiet.all(); got != "m later" {
			t.Errorf("%s: the reader of a topic that lost nothing got %s", l.mode, got)
		}
		other := newHub(t, openURL(t, url+l.mode))
		for _, test := range []struct {
			what string
			from hub.ID
			gap  bool
		}{{"what was lost", l.lost, true}, {"what was kept", l.kept, false}} {
			away := attend(t, other, l.mode, hub.After(test.from))
			waitFor(t, "the message after", func() bool { return strings.HasSuffix(away.all(), "later") })
			if said := strings.HasPrefix(away.all(), "gap "); said != test.gap {
				t.Errorf("%s: a reader that was away and had seen %s got %s", l.mode, test.what, away.all())
			}
		}
		var kept []string
		for _, m := range everything(t, l.b, l.mode) {
			kept = append(kept, string(m.Data))
		}
		if got := strings.Join(kept, " "); got != "m0 m1 m2 m3 m4 later" {
			t.Errorf("%s: the topic has %s", l.mode, got)
		}
	}
}

// TestSentinelErrors opens by URLs that the sentinels, or the master that they name, do not agree
// with.
func TestSentinelErrors(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--requirepass", nodePassword)
	sentinel := startSentinels(t, master, 0, 1)[0]
	const begin, end = "redis+sentinel://default:", "?sentinel_password=" + sentinelPassword
	right := begin + nodePassword + "@" + sentinel.addr + "/" + sentinelMaster + end
	mustPublish(t, openURL(t, right), "t", "x")
	for _, test := range []struct {
		name, url string
		want      error
		says      string
	}{
		{"no such master", begin + nodePassword + "@" + sentinel.addr + "/another" + end, ErrUnreachable, "master"},
		{"password of the nodes is wrong", begin + "canary@" + sentinel.addr + "/" + sentinelMaster + end, ErrDenied, "WRONGPASS"},
		{"password of the sentinels is wrong", begin + nodePassword + "@" + sentinel.addr + "/" + sentinelMaster + "?sentinel_password=canary", ErrDenied, "WRONGPASS"},
		{"no password for the sentinels", begin + nodePassword + "@" + sentinel.addr + "/" + sentinelMaster, ErrDenied, "NOAUTH"},
		{"no sentinel there", begin + nodePassword + "@127.0.0.1:" + freePort(t) + "/" + sentinelMaster + end, ErrUnreachable, "refused"},
	} {
		for _, mode := range []string{"pubsub", "xread"} {
			sep := "?"
			if strings.Contains(test.url, "?") {
				sep = "&"
			}
			b := openURL(t, test.url+sep+"follow="+mode)
			_, publishing := b.Publish(t.Context(), "t", hub.Message{Data: []byte("x")})
			if !errors.Is(publishing, hub.ErrRejected) {
				t.Errorf("%s: Publish: %v, want ErrRejected", test.name, publishing)
			}
			_, reading := b.Read(t.Context(), "t", "", 10)
			_, _, following := b.Follow(t.Context(), "t", &recorder{})
			for what, err := range map[string]error{"Publish": publishing, "Read": reading, "Follow": following} {
				if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s, %s: %s: %v, want %v that says %q", test.name, mode, what, err, test.want, test.says)
					continue
				}
				noSecrets(t, err, "canary", nodePassword, sentinelPassword)
			}
		}
	}
}
