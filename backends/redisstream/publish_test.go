package redisstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// lossy is a connection that loses replies and then breaks, as long as drop says so. What is
// written arrives.
type lossy struct {
	net.Conn
	drop *atomic.Bool
	sent *atomic.Bool // something that matters was written
}

func (c *lossy) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "evalsha") || strings.Contains(string(p), "eval\r\n") {
		c.sent.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *lossy) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.drop.Load() && c.sent.Load() {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

func TestLostReply(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		var drop atomic.Bool
		client := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &lossy{Conn: c, drop: &drop, sent: new(atomic.Bool)}, nil
		}})
		b, err := New(client, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = b.Close()
			_ = client.Close()
		})
		mustPublish(t, b, "warm", "the script is known")

		drop.Store(true)
		for i := range 3 {
			topic := "lost" + itoa(i)
			id, err := b.Publish(t.Context(), topic, hub.Message{Data: []byte("x")})
			if id != "" || !errors.Is(err, hub.ErrUnknown) || errors.Is(err, hub.ErrRejected) || !errors.Is(err, ErrUnreachable) {
				t.Fatalf("%q, %v, want an unknown outcome", id, err)
			}
			noSecrets(t, err)
		}
		keyed := hub.Message{Data: []byte("keyed"), Key: "k"}
		if _, err := b.Publish(t.Context(), "keyed", keyed); !errors.Is(err, hub.ErrUnknown) {
			t.Fatalf("%v, want an unknown outcome", err)
		}
		drop.Store(false)
		for i := range 3 {
			if p := mustRead(t, b, "lost"+itoa(i), ""); len(p.Messages) > 1 {
				t.Errorf("%d messages were appended by one Publish", len(p.Messages))
			}
		}
		id, err := b.Publish(t.Context(), "keyed", keyed)
		if err != nil {
			t.Fatal(err)
		}
		if p := mustRead(t, b, "keyed", ""); len(p.Messages) != 1 || p.Messages[0].ID != id {
			t.Errorf("after a repeat with its key: %d messages", len(p.Messages))
		}
	})
}

func TestScriptIsForgotten(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		var wg sync.WaitGroup
		const publishers, each = 16, 40
		for g := range publishers {
			wg.Go(func() {
				for i := range each {
					if g == 0 && i%4 == 0 {
						admin.ScriptFlush(t.Context())
					}
					if _, err := r.Publish(t.Context(), "t", hub.Message{Data: []byte(itoa(g) + "/" + itoa(i))}); err != nil {
						t.Errorf("Publish: %v", err)
					}
				}
			})
		}
		wg.Wait()
		seen := make(map[string]bool)
		for _, m := range everything(t, r, "t") {
			if seen[string(m.Data)] {
				t.Errorf("%s was appended twice", m.Data)
			}
			seen[string(m.Data)] = true
		}
		if len(seen) != publishers*each {
			t.Errorf("%d messages, want %d", len(seen), publishers*each)
		}
	})
}

func TestPublishErrors(t *testing.T) {
	const password = "canary-4711"
	publish := func(b *Backend) error {
		_, err := b.Publish(context.Background(), "a topic", hub.Message{Data: []byte("secret data")})
		return err
	}
	check := func(t *testing.T, err error, want error) {
		t.Helper()
		if !errors.Is(err, hub.ErrRejected) || errors.Is(err, hub.ErrUnknown) || !errors.Is(err, want) {
			t.Fatalf("%v, want ErrRejected with %v", err, want)
		}
		if !strings.HasPrefix(err.Error(), `redisstream: publish "a topic": `) {
			t.Errorf("%v does not say what was done", err)
		}
		noSecrets(t, err, password, "secret data", "someone")
	}
	t.Run("OOM", func(t *testing.T) {
		s := startServer(t, "--maxmemory", "3mb")
		r := newRig(t, s.addr, Options{})
		big := hub.Message{Data: make([]byte, 200<<10), Binary: true}
		var err error
		n := 0
		for ; err == nil && n < 100; n++ {
			_, err = r.Publish(t.Context(), "a topic", big)
		}
		check(t, err, ErrFull)
		if p, err := r.Read(t.Context(), "a topic", "", 1000); err != nil || len(p.Messages) == 0 {
			t.Errorf("reading while Redis is full: %d messages, %v", len(p.Messages), err)
		}
		if got := s.XLen(t.Context(), r.keys.stream("a topic")).Val(); got != int64(n-1) {
			t.Errorf("%d entries, %d were accepted", got, n-1)
		}
	})
	t.Run("READONLY", func(t *testing.T) {
		master := startServer(t, "--repl-diskless-sync-delay", "0")
		replica := startServer(t, "--replicaof", "127.0.0.1 "+master.addr[len("127.0.0.1:"):])
		waitFor(t, "the replica", func() bool { n, _ := master.Wait(t.Context(), 1, 0).Result(); return n == 1 })
		check(t, publish(newRig(t, replica.addr, Options{}).Backend), ErrReadOnly)
	})
	t.Run("NOAUTH", func(t *testing.T) {
		s := startServer(t)
		s.ConfigSet(t.Context(), "requirepass", password)
		check(t, publish(newRig(t, s.addr, Options{}).Backend), ErrDenied)
	})
	t.Run("WRONGPASS", func(t *testing.T) {
		s := startServer(t)
		s.ConfigSet(t.Context(), "requirepass", "another")
		client := redis.NewClient(&redis.Options{Addr: s.addr, Username: "someone", Password: password})
		defer client.Close()
		b, err := New(client, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		check(t, publish(b), ErrDenied)
	})
	t.Run("WRONGTYPE", func(t *testing.T) {
		both(t, func(t *testing.T, addr string) {
			r := newRig(t, addr, Options{})
			client := redis.NewClient(&redis.Options{Addr: addr})
			defer client.Close()
			client.Set(t.Context(), r.keys.stream("a topic"), "x", 0)
			check(t, publish(r.Backend), ErrWrongType)
			if _, err := r.Read(t.Context(), "a topic", "", 1); !errors.Is(err, ErrWrongType) {
				t.Errorf("Read: %v", err)
			}
			if _, _, err := r.Follow(t.Context(), "a topic", &recorder{}); !errors.Is(err, ErrWrongType) {
				t.Errorf("Follow: %v", err)
			}
		})
	})
	t.Run("nobody listens", func(t *testing.T) {
		r := newRig(t, "127.0.0.1:"+freePort(t), Options{})
		check(t, publish(r.Backend), ErrUnreachable)
		if _, err := r.Read(t.Context(), "a topic", "", 1); !errors.Is(err, ErrUnreachable) {
			t.Errorf("Read: %v", err)
		} else {
			noSecrets(t, err)
		}
		if _, _, err := r.Follow(t.Context(), "a topic", &recorder{}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("Follow: %v", err)
		} else {
			noSecrets(t, err)
		}
	})
}

func TestUserWithoutRights(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	if err := s.Do(ctx, "ACL", "SETUSER", "narrow", "on", ">pw", "~headrace:*", "resetchannels", "-@all", "+@stream", "+eval", "+evalsha", "+hget", "+hmget", "+hset", "+hlen", "+rename",
		"+exists", "+pexpire", "+time", "+publish", "+subscribe", "+unsubscribe", "+ping").Err(); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	client := redis.NewClient(&redis.Options{Addr: s.addr, Username: "narrow", Password: "pw"})
	defer client.Close()
	b, err := New(client, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()

	// Without the right to the channel a message is appended, once, and the operator is told, once.
	for i := range 3 {
		mustPublish(t, b, "t", itoa(i))
	}
	if p := mustRead(t, b, "t", ""); len(p.Messages) != 3 {
		t.Errorf("%d messages, want 3", len(p.Messages))
	}
	if out := log.String(); strings.Count(out, "PUBLISH") != 1 || !strings.Contains(out, "denies access") || strings.Contains(out, "narrow") {
		t.Errorf("logged: %s", out)
	}
	if _, _, err := b.Follow(ctx, "t", &recorder{}); !errors.Is(err, ErrDenied) {
		t.Errorf("Follow: %v, want ErrDenied", err)
	}

	// With it, and without CLIENT, CONFIG and INFO, everything works.
	if err := s.Do(ctx, "ACL", "SETUSER", "narrow", "&headrace:*").Err(); err != nil {
		t.Fatal(err)
	}
	r, _, _ := mustFollow(t, b, "t")
	mustPublish(t, b, "t", "live")
	waitFor(t, "a live message", func() bool { return r.has("live") })

	// Without those for deleting and erasing nothing is changed, and an ID that is not there is a
	// gap.
	all := everything(t, b, "t")
	if err := b.Erase(ctx, "t", all[1].ID); !errors.Is(err, ErrDenied) {
		t.Errorf("Erase: %v, want ErrDenied", err)
	}
	if err := b.Delete(ctx, "t"); !errors.Is(err, ErrDenied) {
		t.Errorf("Delete: %v, want ErrDenied", err)
	}
	for _, after := range []hub.ID{"", "1-1"} {
		wantPage(t, b, "t", after, after != "", idsOf(all)...)
	}

	// A right that is taken away and given back: the followers are told.
	s.Do(ctx, "ACL", "SETUSER", "narrow", "resetchannels")
	waitFor(t, "Broken", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.broken) > 0 })
	s.Do(ctx, "ACL", "SETUSER", "narrow", "&headrace:*")
	waitFor(t, "Restored", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.restored > 0 })
	mustPublish(t, b, "t", "live again")
	waitFor(t, "a live message", func() bool { return r.has("live again") })
}

func TestPublishReturnsWithItsContext(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{})
	mustPublish(t, r, "t", "warm")
	s.freeze()
	defer s.thaw()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := r.gate.sent.Load()
	returned := make(chan error, 1)
	go func() {
		_, err := r.Publish(ctx, "t", hub.Message{Data: []byte("x")})
		returned <- err
	}()
	waitFor(t, "the command to be sent", func() bool { return r.gate.sent.Load() > before })
	cancel()
	// If it waited for the server, it would say that it did not answer in time.
	if err := <-returned; !errors.Is(err, hub.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want an unknown outcome", err)
	}
	s.thaw()
	mustPublish(t, r, "t", "after")
}

// TestImpatientPublishers: whoever may not wait gives up his own call and nobody else's.
func TestImpatientPublishers(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{MaxMessages: 1 << 20})
	mustPublish(t, r, "t", "warm")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var gaveUp atomic.Int64
	for g := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration((i*37+g*11)%200)*time.Microsecond)
				_, err := r.Publish(ctx, "t", hub.Message{Data: []byte("hasty")})
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnreachable) {
					t.Errorf("a hasty publisher: %v", err)
					return
				}
				if err != nil {
					gaveUp.Add(1)
				}
			}
		})
	}
	for i := range 2000 {
		if _, err := r.Publish(t.Context(), "t", hub.Message{Data: []byte(itoa(i))}); err != nil {
			t.Errorf("a patient publisher: %v", err)
			break
		}
	}
	close(stop)
	wg.Wait()
	if gaveUp.Load() == 0 {
		t.Error("nobody gave up: the test shows nothing")
	}
	i := 0
	for _, m := range everything(t, r, "t") {
		if string(m.Data) == itoa(i) {
			i++
		}
	}
	if i != 2000 {
		t.Errorf("of the patient publisher's messages the first %d are there in order, want 2000", i)
	}
}
