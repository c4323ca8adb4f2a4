package redisstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// pipe returns a connection of a backend and its other end.
func pipe(t *testing.T, cs *connections) (ours, other net.Conn) {
	t.Helper()
	inner, other := net.Pipe()
	ours, err := cs.add(inner, "server", false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ours, other
}

// TestProgress: a deadline is for silence. What keeps coming may take longer, but not for ever.
func TestProgress(t *testing.T) {
	const timeout = 5 * time.Second
	for _, test := range []struct {
		name  string
		bytes int // each second
		whole bool
		least time.Duration // until it fails
		most  time.Duration
	}{
		{"fast enough", leastProgress, true, 0, 0},
		{"too long", leastProgress / 4, false, longestReply - timeout, longestReply + time.Second},
		{"a trickle", leastProgress / 16, false, timeout, 2 * timeout},
		{"silence", 0, false, timeout, timeout},
	} {
		t.Run("read, "+test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, other := pipe(t, newConnections())
				var sender sync.WaitGroup
				defer sender.Wait()
				defer ours.Close()
				const total = 20 * leastProgress
				sender.Go(func() {
					defer other.Close()
					for range total / max(test.bytes, leastProgress/16) {
						time.Sleep(time.Second)
						if test.bytes == 0 {
							continue
						}
						if _, err := other.Write(make([]byte, test.bytes)); err != nil {
							return
						}
					}
				})
				began := time.Now()
				_ = ours.SetReadDeadline(began.Add(timeout))
				_, err := io.ReadFull(ours, make([]byte, total))
				if test.whole && err != nil || !test.whole && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); !test.whole && (took < test.least || took > test.most) {
					t.Errorf("it took %v, want %v to %v", took, test.least, test.most)
				}
			})
		})
	}
	t.Run("write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ours, other := pipe(t, newConnections())
			defer other.Close() // nobody reads any more
			var reader sync.WaitGroup
			defer reader.Wait()
			defer ours.Close()
			reader.Go(func() {
				for range 20 {
					time.Sleep(time.Second)
					if _, err := io.ReadFull(other, make([]byte, writeChunk)); err != nil {
						return
					}
				}
			})
			_ = ours.SetWriteDeadline(time.Now().Add(timeout))
			if _, err := ours.Write(make([]byte, 20*writeChunk)); err != nil {
				t.Errorf("a long command: %v", err)
			}
			_ = ours.SetWriteDeadline(time.Now().Add(timeout))
			if _, err := ours.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("nobody reads: %v", err)
			}
		})
	})
}

// TestOneTimeoutForADeadPath: a timeout ends the connections that were as silent, and no others.
func TestOneTimeoutForADeadPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cs := newConnections()
		waiting, other := pipe(t, cs)
		defer other.Close()
		idle, other2 := pipe(t, cs)
		defer other2.Close()
		alive, other3 := pipe(t, cs)
		defer other3.Close()
		time.Sleep(time.Second)
		_ = waiting.SetReadDeadline(time.Now().Add(5 * time.Second))
		go func() {
			time.Sleep(2 * time.Second)
			_, _ = other3.Write([]byte("x"))
		}()
		if _, err := alive.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection that was silent too: %v", err)
		}
		go func() { _, _ = other3.Write([]byte("x")) }()
		if _, err := alive.Read(make([]byte, 1)); err != nil {
			t.Errorf("the connection that is alive: %v", err)
		}
		if len(cs.open) != 2 {
			t.Errorf("%d connections are open, want those that nobody closed", len(cs.open))
		}
	})
}

// TestSlowIsNotDead: a reply that comes too slowly says nothing about other connections.
func TestSlowIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cs := newConnections()
		slow, other := pipe(t, cs)
		idle, other2 := pipe(t, cs)
		defer other2.Close()
		defer idle.Close()
		var sender sync.WaitGroup
		defer sender.Wait()
		defer other.Close()
		time.Sleep(time.Second)
		_ = slow.SetReadDeadline(time.Now().Add(5 * time.Second))
		sender.Go(func() {
			for range 10 {
				time.Sleep(time.Second)
				if _, err := other.Write([]byte("x")); err != nil {
					return
				}
			}
		})
		if _, err := io.ReadFull(slow, make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if len(cs.open) != 2 {
			t.Error("a connection was closed that nobody waited at")
		}
	})
}

// TestIdleConnections: connections that lie in the pools are closed. Nothing is rejected or
// unknown.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	work := func(t *testing.T, b *Backend) {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				if _, err := b.Publish(t.Context(), "t"+itoa(i), hub.Message{Data: []byte("x")}); err != nil {
					t.Error(err)
				}
				if _, err := b.Read(t.Context(), "t"+itoa(i), "", 1); err != nil {
					t.Error(err)
				}
				if err := b.Erase(t.Context(), "t"+itoa(i), "1-1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		mustPublish(t, b, "alone", "x")
	}
	// go-redis looks at these before it uses them, for our sake.
	t.Run("TLS, by the server", func(t *testing.T) {
		s, port, made := startTLS(t, "127.0.0.1")
		client := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:" + port, Password: nodePassword,
			TLSConfig: &tls.Config{RootCAs: trust(made), MinVersion: tls.VersionTLS12},
		})
		defer client.Close()
		b := must(New(client, Options{}))
		defer b.Close()
		for range testenv.Sized(3, 10) {
			work(t, b)
			// As the server's timeout does, but at once.
			if err := s.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
				t.Fatal(err)
			}
			mustPublish(t, b, "alone", "x")
			_ = s.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err()
		}
		work(t, b)
	})
	// It cannot look at these: the command fails when it is written.
	t.Run("by this side", func(t *testing.T) {
		var mu sync.Mutex
		var conns []net.Conn
		client := redis.NewClient(&redis.Options{
			Addr: startServer(t).addr,
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				var d net.Dialer
				conn, err := d.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, conn)
				return struct{ net.Conn }{conn}, nil
			},
		})
		defer client.Close()
		b := must(New(client, Options{}))
		defer b.Close()
		closeAll := func() {
			mu.Lock()
			defer mu.Unlock()
			for _, c := range conns {
				_ = c.Close()
			}
			conns = nil
		}
		for range testenv.Sized(3, 10) {
			work(t, b)
			closeAll()
			mustPublish(t, b, "alone", "x")
			closeAll()
		}
		work(t, b)
	})
	t.Run("timeout", func(t *testing.T) {
		testenv.Long(t)
		s, port, made := startTLS(t, "127.0.0.1")
		s.ConfigSet(t.Context(), "timeout", "2")
		client := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:" + port, Password: nodePassword,
			TLSConfig: &tls.Config{RootCAs: trust(made), MinVersion: tls.VersionTLS12},
		})
		defer client.Close()
		b := must(New(client, Options{}))
		defer b.Close()
		for range 5 {
			mustPublish(t, b, "t", "x")
			waitFor(t, "the end of idle connections", func() bool {
				list, err := s.ClientList(t.Context()).Result()
				return err == nil && strings.Count(list, "\n") <= 2 // this one's, and what is pinged
			})
		}
	})
}

// TestSwallowed: a network forgets all connections, as a NAT does. The publisher who is alone has
// one unknown outcome, and everybody is back after about one timeout.
func TestSwallowed(t *testing.T) {
	t.Parallel()
	testenv.Long(t) // a timeout is five seconds
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		relay := testenv.NewRelay(t, startServer(t).addr)
		client := redis.NewClient(&redis.Options{Addr: relay.Addr})
		defer client.Close()
		b := must(New(client, o))
		defer b.Close()
		a := attend(t, newHub(t, b), "t", hub.Latest())
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() { mustRead(t, b, "t"+itoa(i), "") })
			wg.Go(func() { mustPublish(t, b, "t"+itoa(i), "x") })
		}
		wg.Wait()
		mustPublish(t, b, "t", "before")
		waitFor(t, "the message before", func() bool { return a.all() == "before" })

		relay.Swallow()
		began := time.Now()
		unknown := 0
		for {
			_, err := b.Publish(t.Context(), "t", hub.Message{Data: []byte("after")})
			if err == nil {
				break
			}
			if !errors.Is(err, hub.ErrUnknown) || unknown > 5 {
				t.Fatal(err)
			}
			unknown++
		}
		back := time.Since(began)
		waitFor(t, "the message after", func() bool { return strings.HasSuffix(a.all(), " after") })
		t.Logf("%d unknown outcomes, the publisher was back after %v, the reader after %v", unknown, back, time.Since(began))
		if unknown > 1 || back > 6*time.Second || time.Since(began) > 6*time.Second {
			t.Error("it took more than one unknown outcome, or more than 6 s")
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
