package redisstream

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// live is the live path: which topics are followed, by whom, and over which node's Pub/Sub
// connection. The stream is the truth; what is lost here is noticed by its place in the chain, or
// said by Restored, and read from there.
type live struct {
	nodes
	ctx     context.Context
	decode  *decoder
	spawn   func(func()) bool
	sharded bool
	path    *outage
	denied  *refusals
	changed chan struct{} // the masters are to be looked up

	// Guards everything below, and the fields of nodes, topics and sessions that say so; never
	// held during a call into a sink.
	mu        sync.RWMutex
	closed    bool
	topics    map[string]*liveTopic // by channel
	byClient  map[*redis.Client]*node
	homeless  map[*liveTopic]bool // in a cluster: topics whose node is to be found again
	searching bool                // a goroutine looks for nodes
}

// liveTopic is a topic that is followed. Its fields are guarded by live.mu.
type liveTopic struct {
	channel   string
	stream    string
	node      *node       // nil while it is homeless
	followers []*follower // replaced, never modified
	sent      bool        // the subscription was sent on the node's session
	whole     bool        // … and confirmed
	refused   error       // the server refuses the subscription
	changed   chan struct{}
}

// notify wakes those who wait for the topic. live.mu is held.
func (t *liveTopic) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// established returns the followers that know their tail already. live.mu is held.
func (t *liveTopic) established() (fs []*follower) {
	for _, f := range t.followers {
		if f.established {
			fs = append(fs, f)
		}
	}
	return fs
}

func newLive(ctx context.Context, n nodes, d *decoder, spawn func(func()) bool, path *outage) *live {
	return &live{
		nodes: n, ctx: ctx, decode: d, spawn: spawn, sharded: n.cluster != nil,
		path: path, denied: &refusals{logger: path.logger}, changed: make(chan struct{}, 1),
		topics: make(map[string]*liveTopic), byClient: make(map[*redis.Client]*node), homeless: make(map[*liveTopic]bool),
	}
}

// add adds a follower to a topic, subscribing to its channel if nobody did.
func (l *live) add(ctx context.Context, stream, channel string, f *follower) (*liveTopic, error) {
	client, err := l.of(ctx, stream)
	if err != nil {
		return nil, callError(ctx, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, hub.ErrClosed
	}
	t := l.topics[channel]
	if t == nil {
		t = &liveTopic{channel: channel, stream: stream, changed: make(chan struct{})}
		l.topics[channel] = t
		l.settle(t, client)
	}
	t.followers = append(slices.Clip(t.followers), f)
	return t, nil
}

// settle puts a topic on the connection of a server. live.mu is held.
func (l *live) settle(t *liveTopic, client *redis.Client) {
	n := l.nodeOf(client)
	t.node = n
	n.topics[t.channel] = t
	n.look(t.channel)
}

// nodeOf returns the node of a server. live.mu is held.
func (l *live) nodeOf(client *redis.Client) *node {
	n := l.byClient[client]
	if n == nil {
		n = newNode(l, client)
		l.byClient[client] = n
	}
	return n
}

// remove takes a follower away. Of the last one's going the server is told in the background.
func (l *live) remove(t *liveTopic, f *follower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := make([]*follower, 0, len(t.followers))
	for _, g := range t.followers {
		if g != f {
			left = append(left, g)
		}
	}
	t.followers = left
	if t.node != nil {
		delete(t.node.fresh, f)
	}
	if len(left) > 0 || l.topics[t.channel] != t {
		return
	}
	delete(l.topics, t.channel)
	delete(l.homeless, t)
	if t.node != nil {
		// From here on the name is free: a new topic's subscription is sent after this one's end,
		// by the same goroutine.
		delete(t.node.topics, t.channel)
		if t.sent {
			t.node.look(t.channel)
		}
	}
}

// await waits until a topic's subscription is confirmed, and returns the session that it belongs
// to.
func (l *live) await(ctx context.Context, t *liveTopic) (*session, error) {
	failures := -1
	for {
		l.mu.RLock()
		changed, closed, whole, err := t.changed, l.closed, t.whole, t.refused
		var s *session
		var failed <-chan struct{}
		if n := t.node; n != nil {
			s, failed = n.session, n.failed
			if failures < 0 {
				failures = n.failures
			}
			// One failure may be of an attempt that began before the caller came.
			if n.failures-failures >= 2 && err == nil {
				err = n.err
			}
		}
		l.mu.RUnlock()
		switch {
		case closed:
			return nil, hub.ErrClosed
		case whole:
			return s, nil
		case err != nil:
			return nil, err
		}
		select {
		case <-changed:
		case <-failed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-l.ctx.Done():
			return nil, hub.ErrClosed
		}
	}
}

// establish makes f one of those who are told of breaks. It reports false when the subscription
// is no longer the one whose confirmation came before the tail was read: then something may be
// missing after the tail.
func (l *live) establish(t *liveTopic, f *follower, s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !t.whole || t.node == nil || t.node.session != s {
		return false
	}
	f.established = true
	t.node.fresh[f] = s.pings
	return true
}

// restored tells followers that their live path is whole again.
func restored(fs []*follower) {
	for _, f := range fs {
		f.call(func(sink hub.Sink) { sink.Restored("") })
	}
}

func broken(fs []*follower, err error) {
	for _, f := range fs {
		f.call(func(sink hub.Sink) { sink.Broken(err) })
	}
}

// settled tells followers that nothing from before their tail can arrive any more.
func settled(fs []*follower) {
	for _, f := range fs {
		f.call(func(hub.Sink) { f.fresh = false })
	}
}

// searchPace spaces the search for the nodes of homeless topics.
const searchPace = 100 * time.Millisecond

// search finds the nodes of topics that a server no longer serves, until none is left.
func (l *live) search() {
	for wait := searchPace; ; wait = min(2*wait, 10*searchPace) {
		l.topology.doubt()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-l.ctx.Done():
			t.Stop()
			return
		}
		l.mu.Lock()
		lost := make([]*liveTopic, 0, len(l.homeless))
		for t := range l.homeless {
			lost = append(lost, t)
		}
		l.mu.Unlock()
		for _, t := range lost {
			client, err := l.of(l.ctx, t.stream)
			if err != nil {
				break
			}
			l.mu.Lock()
			if l.homeless[t] {
				delete(l.homeless, t)
				l.settle(t, client)
			}
			l.mu.Unlock()
		}
		l.mu.Lock()
		if len(l.homeless) == 0 {
			l.searching = false
			l.mu.Unlock()
			l.path.whole(&l.homeless)
			return
		}
		l.mu.Unlock()
	}
}

// unsettle takes topics off their node and has a new one searched. live.mu is held.
func (l *live) unsettle(ts ...*liveTopic) {
	for _, t := range ts {
		if t.node != nil {
			delete(t.node.topics, t.channel)
		}
		t.node, t.sent, t.whole = nil, false, false
		l.homeless[t] = true
	}
	if len(l.homeless) > 0 && !l.searching {
		l.path.hold(&l.homeless)
		l.searching = l.spawn(l.search)
	}
}

// close ends all deliveries. The sessions end with the context.
func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, t := range l.topics {
		for _, f := range t.followers {
			f.stopped.Store(true)
		}
	}
}
