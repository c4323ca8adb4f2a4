package redisstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

func TestPing(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		for range 2 {
			if err := r.Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Ping(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Ping with a context that is done: %v", err)
		}
		if n := len(everything(t, r, "t")); n != 0 {
			t.Errorf("Ping left %d messages", n)
		}
		_ = r.Close()
		if err := r.Ping(t.Context()); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("Ping after Close: %v", err)
		}
	})
}

// answering is the address of a server that gives the same answer to every command.
func answering(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if line := lines.Text(); line != "" && line[0] == '*' {
						_, _ = io.WriteString(c, answer+"\r\n")
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

func TestPingSaysWhy(t *testing.T) {
	t.Parallel()
	full := startServer(t)
	full.ConfigSet(t.Context(), "maxmemory", "1")
	narrow := startServer(t)
	for _, rights := range []string{"-xadd", "-@all"} {
		if err := narrow.Do(t.Context(), "ACL", "SETUSER", "default", rights).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		addr string
		want error
	}{
		"replica":          {startServer(t, "--replicaof", "127.0.0.1 "+freePort(t)).addr, ErrReadOnly},
		"too few replicas": {startServer(t, "--min-replicas-to-write", "1").addr, ErrNotReady},
		"no password":      {startServer(t, "--requirepass", "secret").addr, ErrDenied},
		"no right":         {narrow.addr, ErrDenied},
		"no memory":        {full.addr, ErrFull},
		"loading":          {answering(t, "-LOADING Redis is loading the dataset in memory"), ErrNotReady},
		"nobody there":     {"127.0.0.1:" + freePort(t), ErrUnreachable},
	} {
		r := newRig(t, test.addr, Options{})
		for range 2 {
			err := r.Ping(t.Context())
			if !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", name, err, test.want)
			}
			if err != nil {
				noSecrets(t, err, "secret", test.addr)
			}
		}
	}
}

// TestLifeOfFrozenServer: calls return with their context although the server does not answer, and
// work again when it does.
func TestLifeOfFrozenServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := newRig(t, s.addr, Options{})
	id := mustPublish(t, r, "t", "x")
	calls := map[string]func(ctx context.Context) error{
		"Ping": r.Ping,
		"Seek": func(ctx context.Context) error { _, err := r.Seek(ctx, "t", hub.Seek{Messages: 1}); return err },
		"Info": func(ctx context.Context) error { _, err := r.Info(ctx, "t"); return err },
		// Nothing that would change the topic when the server goes on.
		"Delete": func(ctx context.Context) error { return r.Delete(ctx, "never") },
		"Erase":  func(ctx context.Context) error { return r.Erase(ctx, "never", id) },
	}
	for range 2 { // a connection that is there, and none
		s.freeze()
		var wg sync.WaitGroup
		for name, call := range calls {
			for range 20 {
				wg.Go(func() {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					timer := time.AfterFunc(100*time.Millisecond, cancel)
					defer timer.Stop()
					// A call that waited for the server would say that it did not answer in time.
					if err := call(ctx); !errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v, want that of its context", name, err)
					}
				})
			}
		}
		wg.Wait()
		s.thaw()
		for name, call := range calls {
			waitFor(t, name+" to work again", func() bool { return call(t.Context()) == nil })
		}
	}
	// Without an end of the context it is the server that is to blame.
	s.freeze()
	defer s.thaw()
	if err := r.Ping(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Ping of a frozen server: %v", err)
	}
}

func TestIsID(t *testing.T) {
	r := newRig(t, startMini(t).Addr(), Options{})
	_, place, _ := mustFollow(t, r, "t")
	for id, want := range map[hub.ID]bool{
		place: true, mustPublish(t, r, "t", "x"): true, "1700000000000-65535": true, "0-1700000000000": true,
		"": false, "x": false, "1700000000000": false, "01-1": false, "1-1-1": false, "1-1 ": false, "18446744073709551616-0": false,
	} {
		if got := r.IsID(id); got != want {
			t.Errorf("IsID(%q): %v", id, got)
		}
	}
}
