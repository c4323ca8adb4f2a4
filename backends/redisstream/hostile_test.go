package redisstream

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
)

// TestMasterMovesBehindItsAddress: a name or a proxy leads to another master, while the old one
// lives on as its replica and keeps its connections.
func TestMasterMovesBehindItsAddress(t *testing.T) {
	old, next := startServer(t), startServer(t, "--repl-diskless-sync-delay", "0")
	ctx := t.Context()
	var target atomic.Pointer[string]
	target.Store(&old.addr)
	client := redis.NewClient(&redis.Options{Addr: "name:1", DisableIdentity: true, Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, *target.Load())
	}})
	defer client.Close()
	b, err := New(client, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mustPublish(t, b, "t", "before")
	host, port, err := net.SplitHostPort(next.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.ReplicaOf(ctx, host, port).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the old master to follow", func() bool { n, _ := next.Wait(ctx, 1, 0).Result(); return n == 1 })
	target.Store(&next.addr)
	// Alone and together: the connections are others.
	for range 2 {
		waitFor(t, "publishing", func() bool {
			_, err := b.Publish(ctx, "t", hub.Message{Data: []byte("after")})
			if err != nil && !errors.Is(err, ErrReadOnly) {
				t.Errorf("Publish: %v", err)
			}
			return err == nil
		})
		waitFor(t, "publishing together", func() bool {
			var failed atomic.Bool
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if _, err := b.Publish(ctx, "t", hub.Message{}); err != nil {
						failed.Store(true)
					}
				})
			}
			wg.Wait()
			return !failed.Load()
		})
	}
}

// TestKeysDoNotHarmNeighbours: while a slot is on the move, a key that does not exist yet makes
// Redis refuse the call that names it.
func TestKeysDoNotHarmNeighbours(t *testing.T) {
	nodes := startCluster(t)
	ctx := t.Context()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr, nodes[1].addr}})
	defer client.Close()
	b, err := New(client, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mustPublish(t, b, "moving", "first")
	slot := nodes[0].ClusterKeySlot(ctx, b.keys.stream("moving")).Val()
	from, to := 0, 1
	if slot > 8191 {
		from, to = 1, 0
	}
	nodes[to].Do(ctx, "cluster", "setslot", slot, "importing", nodes[from].ClusterMyID(ctx).Val())
	nodes[from].Do(ctx, "cluster", "setslot", slot, "migrating", nodes[to].ClusterMyID(ctx).Val())
	node, err := b.publisher.of(ctx, b.keys.stream("moving"))
	if err != nil {
		t.Fatal(err)
	}
	var jobs []*job
	for i := range 8 {
		m := hub.Message{Data: []byte(itoa(i))}
		if i%4 == 0 {
			m.Key = itoa(i)
		}
		jobs = append(jobs, b.messageJob("moving", m))
	}
	b.publisher.write(ctx, node, jobs)
	for i, j := range jobs {
		if _, err := j.result(); err != nil && i%4 != 0 {
			t.Errorf("message %d, without a key: %v", i, err)
		}
	}
}

// TestEntryOfTheFuture: another program writes an entry with an ID that lies ahead, as one that
// counts in microseconds. The topic keeps what it has, and its expiry is put off as before.
func TestEntryOfTheFuture(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{MaxAge: time.Hour})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		for i := range 300 {
			mustPublish(t, r, "t", itoa(i))
		}
		stream := r.keys.stream("t")
		for _, id := range []string{"1900000000000-0", "1795394462000000-0"} {
			if err := admin.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: id, Values: []any{"a", "b"}}).Err(); err != nil {
				t.Fatal(err)
			}
			mustPublish(t, r, "t", "after "+id)
			admin.PExpire(t.Context(), stream, time.Hour)
			mustPublish(t, r, "t", "later than "+id)
			if left := admin.PTTL(t.Context(), stream).Val(); left < 2*time.Hour-time.Minute {
				t.Errorf("after %s the topic expires in %v", id, left)
			}
		}
		if n := len(everything(t, r, "t")); n != 306 {
			t.Errorf("%d messages are left, want 306", n)
		}
	})
}

func TestManyHeaders(t *testing.T) {
	r := newRig(t, startServer(t).addr, Options{}) // miniredis' Lua takes fewer
	m := hub.Message{Headers: make(map[string]string)}
	for i := range maxHeaders {
		m.Headers[itoa(i)] = ""
	}
	if _, err := r.Publish(t.Context(), "t", m); err != nil {
		t.Errorf("%d headers: %v", len(m.Headers), err)
	}
	m.Headers["one more"] = ""
	if _, err := r.Publish(t.Context(), "t", m); !errors.Is(err, hub.ErrTooLarge) || !errors.Is(err, hub.ErrRejected) {
		t.Errorf("%d headers: %v", len(m.Headers), err)
	}
	if p := mustRead(t, r, "t", ""); len(p.Messages) != 1 || len(p.Messages[0].Headers) != maxHeaders {
		t.Error("the headers are not all there")
	}
}

// TestForgedKey: another program wrote something that is no ID, or over the keys of a topic.
func TestForgedKey(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{MaxKeys: 1})
		for i := range 4 {
			mustAppendAll(t, r, "t"+itoa(i), keyed(0, 2), 1) // so there are former keys
		}
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		for _, value := range []string{"garbage", "", "-ERR no", "1-1 PUBLISH: no", strings.Repeat("1", 200)} {
			for i, key := range []string{newerKeysKey(r.keys.stream("t0")), formerKeysKey(r.keys.stream("t1"))} {
				admin.HSet(t.Context(), key, keyDigest("k"), value)
				if id, err := r.Publish(t.Context(), "t"+itoa(i), hub.Message{Key: "k"}); !errors.Is(err, ErrWrongType) || !errors.Is(err, hub.ErrRejected) {
					t.Errorf("%q: %q, %v", value, id, err)
				}
			}
		}
		for i, key := range []string{newerKeysKey(r.keys.stream("t2")), formerKeysKey(r.keys.stream("t3"))} {
			admin.Set(t.Context(), key, "x", 0)
			topic := "t" + itoa(i+2)
			if id, err := r.Publish(t.Context(), topic, hub.Message{Key: "k"}); !errors.Is(err, ErrWrongType) || !errors.Is(err, hub.ErrRejected) {
				t.Errorf("%s of another type: %q, %v", key, id, err)
			}
			mustPublish(t, r, topic, "without a key")
		}
	})
}

func TestExtremeOptions(t *testing.T) {
	for _, age := range []time.Duration{1, time.Millisecond, time.Hour, 1_500_000 * time.Hour, math.MaxInt64} {
		o, err := Options{MaxAge: age}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if o.MaxAge < time.Millisecond || o.expiry() < 10*time.Minute || o.expiry() < o.MaxAge {
			t.Errorf("MaxAge %v becomes %v, and the topic expires after %v", age, o.MaxAge, o.expiry())
		}
	}
	s := startServer(t)
	for _, url := range []string{"redis://" + s.addr + "/-1", "redis://" + s.addr + "?db=-1"} {
		if b, err := backends.Open(t.Context(), url); err == nil {
			_ = b.Close()
			t.Errorf("%s is opened", url)
		}
	}
	if _, err := backends.Open(t.Context(), "redis://"+s.addr+"?prefix=%7Bx"); !errors.Is(err, backends.ErrParameter) {
		t.Errorf("a prefix with a brace: %v", err)
	}
	r := newRig(t, s.addr, Options{})
	mustPublish(t, r, "t", "x")
	for _, after := range []hub.ID{"", everything(t, r, "t")[0].ID} {
		if p, err := r.Read(t.Context(), "t", after, math.MaxInt); err != nil || p.Gap {
			t.Errorf("the greatest limit after %q: %+v, %v", after, p, err)
		}
	}
}

// TestContextsInCluster: a call returns with its context, although the layout of the cluster is not
// known yet and no server tells it, and although a command was sent on to a server that hangs.
func TestContextsInCluster(t *testing.T) {
	nodes := startCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr, nodes[1].addr}})
	defer client.Close()
	open := func() *Backend {
		b, err := New(client, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	known, fresh := open(), open()
	mustPublish(t, known, "t", "the layout is known")
	for _, n := range nodes {
		n.freeze()
	}
	defer func() {
		for _, n := range nodes {
			n.thaw()
		}
	}()
	for _, b := range []*Backend{known, fresh} {
		for name, call := range map[string]func(ctx context.Context) error{
			"Publish": func(ctx context.Context) error {
				_, err := b.Publish(ctx, "t", hub.Message{})
				return err
			},
			"Read": func(ctx context.Context) error {
				_, err := b.Read(ctx, "t", "", 1)
				return err
			},
			"Ping": b.Ping,
			"Info": func(ctx context.Context) error {
				_, err := b.Info(ctx, "t")
				return err
			},
			"Delete": func(ctx context.Context) error { return b.Delete(ctx, "t") },
			"Follow": func(ctx context.Context) error {
				_, _, err := b.Follow(ctx, "t", &recorder{})
				return err
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			timer := time.AfterFunc(100*time.Millisecond, cancel)
			// A call that waited for the server would say that it did not answer in time.
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v, want that of its context", name, err)
			}
			timer.Stop()
			cancel()
		}
	}
}
