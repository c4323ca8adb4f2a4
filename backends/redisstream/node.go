package redisstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

var errIdle = errors.New("redisstream: nothing to follow")

const (
	// pingEvery is how often a Pub/Sub connection is asked for a sign of life, and patience how
	// long one may be waited for.
	pingEvery = time.Second
	patience  = 5 * time.Second
	// pingSoon is how soon a server is asked again that is not ready.
	pingSoon = 100 * time.Millisecond
	// subscribeAtOnce is how many channels one SUBSCRIBE names.
	subscribeAtOnce = 256
	// retriesAtOnce is how many refused subscriptions are tried again with each ping.
	retriesAtOnce = 8
	reconnectMin  = 50 * time.Millisecond
	reconnectMax  = time.Second
)

// node is a server and the one Pub/Sub connection to it. A goroutine keeps the connection while
// there are topics or the node is kept. The fields are guarded by live.mu.
type node struct {
	live   *live
	client *redis.Client

	topics  map[string]*liveTopic
	looks   []string // channels whose subscription has to begin or to end
	wake    chan struct{}
	running bool
	kept    bool     // also without topics, see live.watch
	session *session // nil while there is no connection
	// Those that still compare IDs with their tail, by the pings sent before they were
	// established.
	fresh    map[*follower]uint64
	failures int           // of connecting
	err      error         // the latest one
	failed   chan struct{} // closed at the next one
}

func newNode(l *live, client *redis.Client) *node {
	return &node{
		live: l, client: client,
		topics: make(map[string]*liveTopic), fresh: make(map[*follower]uint64),
		wake: make(chan struct{}, 1), failed: make(chan struct{}),
	}
}

// look has the subscription of a channel looked at. live.mu is held.
func (n *node) look(channel string) {
	n.looks = append(n.looks, channel)
	n.awaken()
}

// awaken has the node's goroutine look around. live.mu is held.
func (n *node) awaken() {
	if !n.running {
		n.running = n.live.spawn(n.run)
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// idle reports whether there is nothing to keep a connection for. live.mu is held.
func (n *node) idle() bool { return len(n.topics) == 0 && !n.kept }

// run keeps a connection while there is something to keep it for.
func (n *node) run() {
	wait := reconnectMin
	for {
		n.live.mu.Lock()
		if n.idle() || n.live.closed {
			n.running, n.looks = false, nil
			// A cluster's servers come and go.
			delete(n.live.byClient, n.client)
			n.live.mu.Unlock()
			n.live.path.whole(n)
			return
		}
		n.live.mu.Unlock()
		began := time.Now()
		if !n.connect() {
			continue
		}
		if time.Since(began) > patience {
			wait = reconnectMin
		}
		t := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-t.C:
		case <-n.live.ctx.Done():
			t.Stop()
		}
		wait = min(2*wait, reconnectMax)
	}
}

// connect opens a connection, subscribes to all topics and serves until the connection fails. It
// reports false when the connection was given up because there was nothing to keep it for.
func (n *node) connect() (failed bool) {
	l := n.live
	// A PubSub dials by itself when it has no connection; this one may do so once, here.
	ps := n.client.Subscribe(l.ctx)
	defer ps.Close()
	stop := context.AfterFunc(l.ctx, func() { _ = ps.Close() })
	defer stop()
	s := &session{
		node: n, ps: ps, done: make(chan struct{}), soon: make(chan struct{}, 1),
		begun: make(map[string]int), ended: make(map[string]int),
	}
	ctx, cancel := context.WithTimeout(l.ctx, dialTimeout+followTimeout)
	defer cancel()
	if err := ps.Ping(ctx); err != nil {
		n.down(nil, err)
		return true
	}
	l.mu.Lock()
	s.pings = 1
	n.session = s
	n.looks = n.looks[:0]
	for channel := range n.topics {
		n.looks = append(n.looks, channel)
	}
	l.mu.Unlock()
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.write()
	}()
	err := s.receive()
	close(s.done)
	l.mu.Lock()
	idle := n.idle()
	if s.err != nil {
		err = s.err
	}
	l.mu.Unlock()
	n.down(s, err)
	_ = ps.Close()
	<-written
	return !idle
}

// down notes that a connection failed, or could not be opened, and tells the followers.
func (n *node) down(s *session, err error) {
	l := n.live
	l.topology.doubt()
	err = closedCause(err)
	var told []*follower
	l.mu.Lock()
	n.session, n.err = nil, err
	fresh := make([]*follower, 0, len(n.fresh))
	for f := range n.fresh {
		fresh = append(fresh, f)
	}
	clear(n.fresh)
	if s == nil || s.pongs == 0 {
		// A server that refuses everything, or everybody, does so after the connection is there.
		n.failures++
		close(n.failed)
		n.failed = make(chan struct{})
	}
	all := make([]*liveTopic, 0, len(n.topics))
	for _, t := range n.topics {
		if s != nil {
			told = append(told, t.established()...)
		}
		t.sent, t.whole, t.refused = false, false, nil
		all = append(all, t)
	}
	if l.sharded && !l.closed {
		// Another server may have the topics by now, and this one be gone for good.
		l.unsettle(all...)
	}
	closed, idle := l.closed, n.idle()
	l.mu.Unlock()
	if !closed && !idle {
		l.path.broken(n, err)
		l.lookSoon()
	}
	settled(fresh)
	if !closed {
		broken(told, err)
	}
}

// deliver hands a message to the followers of its topic. What is not a message of ours is
// somebody's mistake and left alone.
func (n *node) deliver(got *redis.Message) {
	n.live.mu.RLock()
	var fs []*follower
	if t := n.topics[got.Channel]; t != nil {
		fs = t.followers
	}
	n.live.mu.RUnlock()
	if len(fs) == 0 {
		return
	}
	m, err := n.live.decode.announcement(got.Payload)
	if err != nil {
		return
	}
	for _, f := range fs {
		f.deliver(m)
	}
}
