package redisstream

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// soon is how soon after another master takes writes everybody is there. Nothing is sworn of a busy
// machine: the long form has the bound.
const soon = 3 * time.Second

// traffic is what goes on at a topic while its master changes.
type traffic struct {
	topic string
	b     *Backend
	read  *audience
	// kept returns what the new master has of the topic.
	kept func() map[string]bool

	mu    sync.Mutex
	acks  []ack
	other map[string]int // outcomes that are no acknowledgments
	stop  chan struct{}
	done  sync.WaitGroup
}

type ack struct {
	text string
	at   time.Time
}

// begin publishes to a topic one message after the other, without keys, and reads it. The server is
// the one that will be the master.
func begin(t *testing.T, b *Backend, topic string, next *redis.Client) *traffic {
	t.Helper()
	r := &traffic{topic: topic, b: b, read: attend(t, newHub(t, b), topic, hub.Latest()), other: make(map[string]int), stop: make(chan struct{})}
	r.kept = func() map[string]bool {
		kept := make(map[string]bool)
		for _, m := range next.XRange(t.Context(), b.keys.stream(topic), "-", "+").Val() {
			kept[fmt.Sprint(m.Values[fieldData])] = true
		}
		return kept
	}
	r.done.Go(func() {
		for i := 0; ; i++ {
			text := fmt.Sprintf("m%d", i)
			_, err := b.Publish(context.Background(), topic, hub.Message{Data: []byte(text)})
			r.mu.Lock()
			if err == nil {
				r.acks = append(r.acks, ack{text, time.Now()})
			} else {
				r.other[err.Error()]++
			}
			r.mu.Unlock()
			select {
			case <-r.stop:
				return
			case <-time.After(2 * time.Millisecond): // the publisher's own pace
			}
		}
	})
	t.Cleanup(r.end)
	return r
}

func (r *traffic) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.done.Wait()
}

func (r *traffic) acknowledged() []ack {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.acks)
}

// after waits for the first message that was acknowledged after a moment and is at the new master.
func (r *traffic) after(t *testing.T, at time.Time) (first ack) {
	t.Helper()
	waitFor(t, r.topic+": an acknowledged message at the new master", func() bool {
		kept := r.kept()
		for _, a := range r.acknowledged() {
			if a.at.After(at) && kept[a.text] {
				first = a
				return true
			}
		}
		return false
	})
	return first
}

// back waits until publisher, live reader and a new reader are at the master that has taken writes
// since a moment, and returns how long each needed.
func (r *traffic) back(t *testing.T, since time.Time) (publisher, live, fresh time.Duration) {
	t.Helper()
	first := r.after(t, since)
	waitFor(t, r.topic+": the live reader", func() bool { return r.read.has(first.text) })
	live = time.Since(since)
	began := time.Now()
	reader := attend(t, newHub(t, r.b), r.topic, hub.Latest())
	waitFor(t, r.topic+": the new reader", func() bool {
		text, _, _ := strings.Cut(reader.all(), " ")
		return r.kept()[text]
	})
	return first.at.Sub(since), live, time.Since(began)
}

// lost returns the acknowledged messages that the new master does not have.
func (r *traffic) lost() (list []ack) {
	kept := r.kept()
	for _, a := range r.acknowledged() {
		if !kept[a.text] {
			list = append(list, a)
		}
	}
	return list
}

// has reports whether a message has come.
func (a *audience) has(text string) bool { return strings.Contains(" "+a.all()+" ", " "+text+" ") }

// atMost fails the test, one of the long form, when something took longer than it may.
func atMost(t *testing.T, what string, most time.Duration, took ...time.Duration) {
	t.Helper()
	t.Logf("%s: %v", what, took)
	for _, d := range took {
		if d > most {
			t.Errorf("%s took %v, want at most %v", what, d, most)
		}
	}
}

// writable waits until a server takes a write, and returns when it did.
func writable(t *testing.T, addr, key string, auth ...string) time.Time {
	t.Helper()
	waitFor(t, "a write at the new master", func() bool {
		_, err := testenv.RedisDo(addr, append(auth, "SET "+key+" x")...)
		return err == nil
	})
	return time.Now()
}

// TestClusterLosesAMaster kills a master of three, or stops it, and leaves the rest to the cluster.
func TestClusterLosesAMaster(t *testing.T) {
	testenv.Long(t)
	for _, test := range []struct {
		name string
		end  func(*testenv.Server)
	}{{"killed", (*testenv.Server).Kill}, {"stopped", suspend}} {
		modes(t, func(t *testing.T, o Options) {
			t.Run(test.name, func(t *testing.T) {
				nodes := testenv.RedisCluster(t, 3, 1)
				client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[1].Addr, nodes[2].Addr}})
				defer client.Close()
				b := must(New(client, o))
				defer b.Close()
				// One topic at each master: those of the others go on.
				topics := make(map[string]string)
				for i := 0; len(topics) < 3; i++ {
					topic := "t" + itoa(i)
					topics[must(client.MasterForKey(t.Context(), b.keys.stream(topic))).Options().Addr] = topic
				}
				var all []*traffic
				for i, n := range nodes[:3] {
					if i == 0 {
						n = nodes[3]
					}
					next := redis.NewClient(&redis.Options{Addr: n.Addr})
					defer next.Close()
					all = append(all, begin(t, b, topics[nodes[i].Addr], next))
				}
				for _, r := range all {
					waitFor(t, "the first messages", func() bool { return len(r.acknowledged()) > 20 && r.read.all() != "" })
				}
				asked, began := layoutsAsked(t, nodes[1:]), time.Now()
				test.end(nodes[0])
				since := writable(t, nodes[3].Addr, b.keys.stream(topics[nodes[0].Addr])+":probe")
				for i, r := range all {
					publisher, live, fresh := r.back(t, since)
					atMost(t, fmt.Sprintf("%s, master %d", test.name, i), soon, publisher, live, fresh)
				}
				asked, seconds := layoutsAsked(t, nodes[1:])-asked, int(time.Since(began)/time.Second)
				t.Logf("the nodes were asked %d times for the layout in %d s", asked, seconds)
				if asked > 2*(seconds+2) {
					t.Error("that is more than once a second, and each time the one that is gone")
				}
				for _, r := range all {
					r.end()
					t.Logf("%d acknowledged, others: %v", len(r.acknowledged()), r.other)
				}
			})
		})
	}
}

// layoutsAsked returns how often nodes were asked for the layout.
func layoutsAsked(t *testing.T, nodes []*testenv.Server) (calls int) {
	t.Helper()
	for _, n := range nodes {
		stats, err := testenv.RedisDo(n.Addr, "INFO commandstats")
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, ok := strings.Cut(stats, "cmdstat_cluster|slots:calls="); ok {
			digits, _, _ := strings.Cut(rest, ",")
			calls += must(strconv.Atoi(digits))
		}
	}
	return calls
}

// pair is a master with a replica, watched by sentinels.
type pair struct {
	master, replica *server
	sentinels       []*testenv.Server
}

const sentinelURL = "redis+sentinel://default:" + nodePassword + "@%s/" + sentinelMaster + "/0?sentinel_password=" + sentinelPassword + "&follow="

func startPair(t *testing.T, way func(master string) string, down time.Duration) (p pair) {
	t.Helper()
	auth := []string{"--requirepass", nodePassword, "--masterauth", nodePassword, "--repl-diskless-sync-delay", "0"}
	p.master = startServer(t, auth...)
	at := way(p.master.addr)
	host, port, _ := strings.Cut(at, ":")
	p.replica = startServer(t, append(auth, "--replicaof", host+" "+port)...)
	waitFor(t, "the replica", func() bool { n, _ := p.master.Wait(t.Context(), 1, 0).Result(); return n == 1 })
	p.sentinels = testenv.RedisSentinels(t, 3, testenv.Sentinels{
		Master: sentinelMaster, Addr: at, Replicas: 1, Password: nodePassword, Own: sentinelPassword, Down: down,
	})
	return p
}

func (p *pair) addrs() (list []string) {
	for _, s := range p.sentinels {
		list = append(list, s.Addr)
	}
	return list
}

// switched waits until a sentinel names the replica, and returns when it did.
func (p *pair) switched(t *testing.T) time.Time {
	t.Helper()
	host, port, _ := strings.Cut(p.replica.addr, ":")
	waitFor(t, "the switch", func() bool {
		at, err := testenv.RedisDo(p.sentinels[0].Addr, "AUTH "+sentinelPassword, "SENTINEL GET-MASTER-ADDR-BY-NAME "+sentinelMaster)
		return err == nil && at == host+"\n"+port
	})
	return time.Now()
}

// check waits until everybody is back, and compares what was lost with the switch.
func (r *traffic) check(t *testing.T, what string, switched, since time.Time) {
	t.Helper()
	publisher, live, fresh := r.back(t, since)
	atMost(t, what, soon, publisher, live, fresh)
	r.end()
	lost := r.lost()
	t.Logf("%s: %d of %d acknowledged messages are lost, others: %v", what, len(lost), len(r.acknowledged()), r.other)
	if len(lost) > 0 {
		atMost(t, what+": the last lost message after the switch", time.Second, lost[len(lost)-1].at.Sub(switched))
	}
}

// TestPlannedFailover: the old master lives, and becomes a replica some seconds later.
func TestPlannedFailover(t *testing.T) {
	testenv.Long(t)
	for _, mode := range []string{"pubsub", "xread"} {
		t.Run(mode, func(t *testing.T) {
			p := startPair(t, func(master string) string { return master }, 0)
			r := begin(t, openURL(t, fmt.Sprintf(sentinelURL, strings.Join(p.addrs(), ","))+mode), "t", p.replica.Client)
			waitFor(t, "the first messages", func() bool { return len(r.acknowledged()) > 100 && r.read.all() != "" })
			if _, err := testenv.RedisDo(p.sentinels[1].Addr, "AUTH "+sentinelPassword, "SENTINEL FAILOVER "+sentinelMaster); err != nil {
				t.Fatal(err)
			}
			switched := p.switched(t)
			r.check(t, mode, switched, writable(t, p.replica.addr, "probe", "AUTH "+nodePassword))
		})
	}
}

// TestSentinelsCutOffFromTheMaster: clients reach it as before, but the sentinels' word counts.
func TestSentinelsCutOffFromTheMaster(t *testing.T) {
	testenv.Long(t)
	for _, mode := range []FollowMode{FollowPubSub, FollowXRead} {
		t.Run(itoa(int(mode)), func(t *testing.T) {
			var relay *testenv.Relay
			var direct string
			p := startPair(t, func(master string) string {
				relay, direct = testenv.NewRelay(t, master), master
				return relay.Addr
			}, 3*time.Second)
			client := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: sentinelMaster, SentinelAddrs: p.addrs(), SentinelPassword: sentinelPassword, Password: nodePassword,
				Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
					if addr == relay.Addr {
						addr = direct // the clients' way to the master is another one
					}
					var d net.Dialer
					return d.DialContext(ctx, network, addr)
				},
			})
			defer client.Close()
			b := must(New(client, Options{Follow: mode}))
			defer b.Close()
			r := begin(t, b, "t", p.replica.Client)
			waitFor(t, "the first messages", func() bool { return len(r.acknowledged()) > 100 && r.read.all() != "" })
			relay.Down()
			switched := p.switched(t)
			r.check(t, "cut off", switched, writable(t, p.replica.addr, "probe", "AUTH "+nodePassword))
		})
	}
}
