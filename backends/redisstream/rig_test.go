package redisstream

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// gate is the dialer of a backend, by which its connections are cut and kept from coming back.
type gate struct {
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
	dials atomic.Int64
	sent  atomic.Int64 // commands, those of the handshake too
	// instead is an address to dial instead of any other.
	instead atomic.Pointer[string]
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g.dials.Add(1)
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	if other := g.instead.Load(); other != nil {
		addr = *other
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		_ = c.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	g.conns[c] = true
	if tcp, ok := c.(*net.TCPConn); ok {
		c = &counted{tcp, &g.sent}
	}
	return c, nil
}

// counted is a connection that counts the commands written to it.
type counted struct {
	*net.TCPConn // and not a net.Conn: go-redis asks it for the file descriptor
	sent         *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n := bytes.Count(p, []byte("\r\n*"))
	if len(p) > 0 && p[0] == '*' {
		n++
	}
	c.sent.Add(int64(n))
	return c.TCPConn.Write(p)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for c := range g.conns {
		_ = c.Close()
	}
	clear(g.conns)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// rig is a backend with the means to disturb it.
type rig struct {
	*Backend
	gate     *gate
	liveShut atomic.Bool // no connection of the live path is dialed
	refused  atomic.Int64

	mu      sync.Mutex
	waiting []*redis.Client // those of FollowXRead
}

// DialHook implements redis.Hook.
func (r *rig) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if r.liveShut.Load() {
			r.refused.Add(1)
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return next(ctx, network, addr)
	}
}

// ProcessHook implements redis.Hook.
func (r *rig) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (r *rig) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func newRig(t testing.TB, addr string, o Options) *rig {
	t.Helper()
	g := &gate{conns: make(map[net.Conn]bool)}
	return rigOver(t, redis.NewClient(&redis.Options{Addr: addr, Dialer: g.dial, DisableIdentity: true}), g, o)
}

func newClusterRig(t testing.TB, addr string, o Options) *rig {
	t.Helper()
	g := &gate{conns: make(map[net.Conn]bool)}
	return rigOver(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}, Dialer: g.dial, DisableIdentity: true}), g, o)
}

func rigOver(t testing.TB, client redis.UniversalClient, g *gate, o Options) *rig {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b, err := New(client, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Backend: b, gate: g}
	if n := b.clients[following]; n.cluster != nil {
		n.cluster.OnNewNode(func(node *redis.Client) { node.AddHook(r) })
	} else {
		n.single.AddHook(r)
	}
	if x := b.xreaders; x != nil {
		open := x.open
		x.open = func(stream string) (*redis.Client, error) {
			c, err := open(stream)
			if err == nil {
				c.AddHook(r)
				r.mu.Lock()
				r.waiting = append(r.waiting, c)
				r.mu.Unlock()
			}
			return c, err
		}
	}
	t.Cleanup(func() {
		_ = b.Close()
		_ = client.Close()
	})
	return r
}

// breakLive cuts the connections of the live path and keeps it from coming back until restore is
// called.
func (r *rig) breakLive(t testing.TB) (restore func()) {
	t.Helper()
	r.liveShut.Store(true)
	if r.xreaders != nil {
		r.mu.Lock()
		for _, c := range r.waiting {
			_ = c.Close()
		}
		r.mu.Unlock()
		before := r.refused.Load()
		waitFor(t, "the end of the live path", func() bool { return r.refused.Load() > before })
	}
	waitFor(t, "the end of the live path", func() bool {
		sessions := r.sessions()
		for _, s := range sessions { // one may have been dialed a moment before
			_ = s.ps.Close()
		}
		return len(sessions) == 0
	})
	return func() { r.liveShut.Store(false) }
}

// awaitLive waits until all topics that are followed are subscribed to.
func (r *rig) awaitLive(t testing.TB) {
	t.Helper()
	waitFor(t, "the live path", func() bool {
		r.live.mu.RLock()
		defer r.live.mu.RUnlock()
		for _, topic := range r.live.topics {
			if !topic.whole && !r.live.closed {
				return false
			}
		}
		return true
	})
}

func (r *rig) sessions() (ss []*session) {
	r.live.mu.RLock()
	defer r.live.mu.RUnlock()
	for _, n := range r.live.byClient {
		if n.session != nil {
			ss = append(ss, n.session)
		}
	}
	return ss
}
