package redisstream

import (
	"context"
	"errors"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/internal/retry"
)

const (
	// reloadEvery is the shortest time between two questions for the masters.
	reloadEvery = time.Second
	// lookEvery is how often they are asked for without any reason: a server that is cut off from
	// the others gives none.
	lookEvery = 3 * time.Second
	// uneasy is how long after a sign they are asked for in every reloadEvery: the servers may not
	// have chosen another master yet, and who waits for the former one gives no sign.
	uneasy = commandTimeout
)

// topology asks who the masters are: at any sign that it is another server, at most once in
// reloadEvery, and from time to time. A nil topology is that of one server.
type topology struct {
	reload func(context.Context)
	// listen waits for more signs, if it is set.
	listen func(context.Context, *topology)
	signs  chan struct{}
}

func newTopology(reload func(context.Context)) *topology {
	return &topology{reload: reload, signs: make(chan struct{}, 1)}
}

// doubt is called at such a sign: a network error, a connection that was closed, a server that says
// it is no master or has no cluster around it.
func (t *topology) doubt() {
	if t == nil {
		return
	}
	select {
	case t.signs <- struct{}{}:
	default: // one is due
	}
}

// doubtAt calls doubt if the error of a command is such a sign.
func (t *topology) doubtAt(err error) {
	if t == nil || err == nil {
		return
	}
	if isReply(err) {
		for _, code := range []string{"READONLY", "CLUSTERDOWN", "MASTERDOWN"} {
			if redis.HasErrorPrefix(err, code) {
				t.doubt()
			}
		}
		return
	}
	if !errors.Is(err, redis.Nil) {
		t.doubt()
	}
}

func (t *topology) run(ctx context.Context) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	var calm time.Time
	for {
		select {
		case <-t.signs:
			calm = time.Now().Add(uneasy)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		t.reload(ctx)
		retry.Sleep(ctx, reloadEvery)
		next := lookEvery - reloadEvery
		if time.Now().Before(calm) {
			next = 0
		}
		timer.Reset(next)
	}
}

// slotsTimeout is how long one node is waited for that is asked for the layout: another one knows
// it too. After one that did not answer in that time, the next one is waited for twice as long, at
// most for commandTimeout: the way may be a long one.
const slotsTimeout = 500 * time.Millisecond

// moveTimeout is how long the clients have to learn of another master, and the old one to answer
// what it was asked, before the connections to it are closed.
const moveTimeout = time.Second

// layout is which nodes of a cluster are the masters of what. The clients of a backend share the
// answers, which they would ask for one by one, and connections to nodes that are masters no more
// are closed.
type layout struct {
	conns    *connections
	clusters []*redis.ClusterClient
	due      atomic.Bool // a node is to be asked, however new the answer is that there is

	mu      sync.Mutex // held while one is asked: the others then have its answer
	slots   []redis.ClusterSlot
	at      time.Time
	masters map[string]bool
	timeout time.Duration        // of the next question, if it is not slotsTimeout
	silent  map[string]time.Time // nodes that did not answer in time, and since when
}

// renew has the clients ask for the layout.
func (l *layout) renew(ctx context.Context) {
	l.due.Store(true)
	l.share(ctx)
}

// share has the clients take the layout from each other, or ask for it if it is not new.
func (l *layout) share(ctx context.Context) {
	for _, c := range l.clusters {
		c.ReloadState(ctx) // in the background
	}
}

// ask returns the layout: the answer of the last second, or that of a node. A node that was silent
// a moment ago is passed over, or each client would wait for it in its turn.
func (l *layout) ask(ctx context.Context, origin string, next redis.ProcessHook) ([]redis.ClusterSlot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.due.Swap(false) // here: whoever wants it renewed while a node is asked gets a newer answer
	if !due && !l.at.IsZero() && time.Since(l.at) < reloadEvery {
		return l.slots, nil
	}
	slots, err := l.askNode(ctx, origin, next)
	if err != nil {
		l.due.Store(true)
		return nil, err
	}
	l.slots, l.at = slots, time.Now()
	masters, nodes := mastersOf(slots)
	l.compare(masters, nodes)
	return slots, nil
}

// askNode returns the layout that a node knows. mu is held.
func (l *layout) askNode(ctx context.Context, origin string, next redis.ProcessHook) ([]redis.ClusterSlot, error) {
	if since, ok := l.silent[origin]; ok && time.Since(since) < lookEvery {
		return nil, &failure{ErrUnreachable, "timeout"}
	}
	cmd := redis.NewClusterSlotsCmd(ctx, "cluster", "slots")
	if err := l.within(origin, func() error { return next(ctx, cmd) }); err != nil {
		return nil, err
	}
	slots := reachable(cmd.Val(), origin)
	if masters, _ := mastersOf(slots); l.masters != nil && !maps.Equal(masters, l.masters) {
		// A node that is cut off from the others, or has just come back, does not know better. It
		// has found out that it may not serve; of others nothing new is to be learned while none
		// may.
		info := redis.NewStringCmd(ctx, "cluster", "info")
		err := l.within(origin, func() error { return next(ctx, info) })
		if err != nil && !isReply(err) {
			return nil, err
		}
		if err == nil && strings.Contains(info.Val(), "cluster_state:fail") {
			return nil, &failure{ErrNotReady, "CLUSTERDOWN"}
		}
	}
	return slots, nil
}

// within waits for a node's answer, for as long as one is waited for. mu is held.
func (l *layout) within(origin string, ask func() error) error {
	patience := max(l.timeout, slotsTimeout)
	answered := make(chan error, 1)
	began := time.Now()
	go func() { answered <- ask() }()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case err := <-answered:
		l.timeout = min(2*time.Since(began), commandTimeout)
		delete(l.silent, origin)
		return err
	case <-timeout.C:
		l.timeout = min(2*patience, commandTimeout)
		if l.silent == nil {
			l.silent = make(map[string]time.Time)
		}
		maps.DeleteFunc(l.silent, func(_ string, since time.Time) bool { return time.Since(since) > lookEvery })
		l.silent[origin] = time.Now()
		return &failure{ErrUnreachable, "timeout"}
	}
}

// mastersOf returns the addresses of the masters of a layout, and those of all its nodes.
func mastersOf(slots []redis.ClusterSlot) (masters, nodes map[string]bool) {
	masters, nodes = make(map[string]bool), make(map[string]bool)
	for _, s := range slots {
		for i, n := range s.Nodes {
			nodes[n.Addr] = true
			if i == 0 {
				masters[n.Addr] = true
			}
		}
	}
	return masters, nodes
}

// compare closes the connections to nodes that were masters in the former layout. What a node has
// been asked is answered within a moment if it lives, and then the answer is better than none. mu
// is held.
func (l *layout) compare(masters, nodes map[string]bool) {
	gone := make(map[string]bool)
	for addr := range l.masters {
		if !masters[addr] {
			gone[addr] = true
		}
	}
	promoted := func(addr string) bool { return masters[addr] && !l.masters[addr] }
	if l.masters != nil {
		// While nobody used them the network may have forgotten these: that would cost a timeout
		// now.
		idle := now() - int64(moveTimeout)
		l.conns.closeThose(func(c *connection) bool { return promoted(c.addr) && !c.live && c.heard.Load() < idle })
	}
	l.masters = masters
	l.conns.refuse(gone, masters, nodes)
	if len(gone) == 0 {
		return
	}
	since := now()
	l.share(context.Background()) // each client needs the new layout before it connects anew
	l.conns.closeThose(func(c *connection) bool { return gone[c.addr] && c.live })
	time.AfterFunc(moveTimeout, func() {
		l.conns.closeThose(func(c *connection) bool { return gone[c.addr] && c.heard.Load() < since })
	})
}

// reachable fills in what a node does not know of itself, as go-redis does, with the address that
// it was asked at: its host, and its port where that is one for TLS only.
func reachable(slots []redis.ClusterSlot, origin string) []redis.ClusterSlot {
	host, port, err := net.SplitHostPort(origin)
	if err != nil {
		return slots
	}
	for _, s := range slots {
		for i := range s.Nodes {
			h, p, err := net.SplitHostPort(s.Nodes[i].Addr)
			if err != nil {
				continue
			}
			if h == "" || net.ParseIP(h).IsLoopback() && host != "localhost" && !net.ParseIP(host).IsLoopback() {
				h = host
			}
			if p == "0" {
				p = port
			}
			s.Nodes[i].Addr = net.JoinHostPort(h, p)
		}
	}
	return slots
}

// slotsHook lets the client of a node answer CLUSTER SLOTS as the layout does.
type slotsHook struct {
	passing

	layout *layout
	origin string
}

// ProcessHook implements redis.Hook.
func (h slotsHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c, ok := cmd.(*redis.ClusterSlotsCmd)
		if !ok {
			return next(ctx, cmd)
		}
		slots, err := h.layout.ask(ctx, h.origin, next)
		if err != nil {
			c.SetErr(err)
			return err
		}
		c.SetVal(slots)
		return nil
	}
}
