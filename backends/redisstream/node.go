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
	// pingEvery is how often a Pub/Sub connection is asked for a sign of life, and patience how long one may be waited for.
	pingEvery = 3 * time.Second
	patience  = 8 * time.Second
	// subscribeAtOnce is how many channels one SUBSCRIBE names.
	subscribeAtOnce = 256
	// retriesAtOnce is how many refused subscriptions are tried again with each ping.
	retriesAtOnce = 8
	reconnectMin  = 50 * time.Millisecond
	reconnectMax  = time.Second
)

// node is a server and the one Pub/Sub connection to it. A goroutine keeps the connection while there are topics. The fields are guarded by live.mu.
type node struct {
	live   *live
	client *redis.Client

	topics   map[string]*liveTopic
	looks    []string // channels whose subscription has to begin or to end
	wake     chan struct{}
	running  bool
	session  *session             // nil while there is no connection
	fresh    map[*follower]uint64 // those that still compare IDs with their tail, by the pings sent before they were established
	failures int                  // of connecting
	err      error                // the latest one
	failed   chan struct{}        // closed at the next one
}

// session is the life of one connection.
type session struct {
	node *node
	ps   *redis.PubSub
	done chan struct{}

	// Guarded by live.mu.
	pings, pongs uint64
	begun, ended map[string]int // subscriptions, and their ends, that were sent and are not confirmed, by channel
	batches      []batch        // SUBSCRIBE commands without a complete answer, oldest first
	err          error          // why the session's writer ended it
}

// batch is what one SUBSCRIBE named.
type batch struct {
	channels []string
	left     int // not confirmed yet
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
	if !n.running {
		n.running = n.live.spawn(n.run)
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run keeps a connection while there are topics.
func (n *node) run() {
	wait := reconnectMin
	for {
		n.live.mu.Lock()
		if len(n.topics) == 0 || n.live.closed {
			n.running, n.looks = false, nil
			n.live.mu.Unlock()
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

// connect opens a connection, subscribes to all topics and serves until the connection fails. It reports false when the connection was given up because there was no topic any more.
func (n *node) connect() (failed bool) {
	l := n.live
	// A PubSub dials by itself when it has no connection; this one may do so once, here.
	ps := n.client.Subscribe(l.ctx)
	defer ps.Close()
	stop := context.AfterFunc(l.ctx, func() { _ = ps.Close() })
	defer stop()
	s := &session{node: n, ps: ps, done: make(chan struct{}), begun: make(map[string]int), ended: make(map[string]int)}
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
	idle := len(n.topics) == 0
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
	err = cause(err)
	var told []*follower
	l.mu.Lock()
	n.session, n.err = nil, err
	fresh := make([]*follower, 0, len(n.fresh))
	for f := range n.fresh {
		fresh = append(fresh, f)
	}
	clear(n.fresh)
	if s == nil {
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
	closed := l.closed
	l.mu.Unlock()
	settled(fresh)
	if !closed {
		broken(told, err)
	}
}

// write sends subscriptions, their ends and pings, one after the other: so a channel that is let go and followed again at once is subscribed to last.
func (s *session) write() {
	ctx := withoutDial(s.node.live.ctx)
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		begin, end := s.due()
		err := s.send(ctx, begin, end)
		if err == nil {
			select {
			case <-s.node.wake:
				continue
			case <-ping.C:
				if err = s.ping(ctx); err == nil {
					continue
				}
			case <-s.done:
				return
			}
		}
		s.node.live.mu.Lock()
		if s.err == nil {
			s.err = err
		}
		s.node.live.mu.Unlock()
		_ = s.ps.Close() // ends receive
		return
	}
}

// due returns the channels to subscribe to and those to let go.
func (s *session) due() (begin, end []string) {
	n := s.node
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	for _, channel := range n.looks {
		t := n.topics[channel]
		switch {
		case t != nil && !t.sent:
			t.sent = true
			s.begun[channel]++
			begin = append(begin, channel)
			// The channel may have been let go before it was taken again. Then its end need not be sent: subscribing twice does no harm.
		case t == nil:
			s.ended[channel]++
			end = append(end, channel)
		}
	}
	n.looks = n.looks[:0]
	return begin, end
}

func (s *session) send(ctx context.Context, begin, end []string) error {
	subscribe, unsubscribe, most := s.ps.Subscribe, s.ps.Unsubscribe, subscribeAtOnce
	if s.node.live.sharded {
		// One command may name channels of one slot only.
		subscribe, unsubscribe, most = s.ps.SSubscribe, s.ps.SUnsubscribe, 1
	}
	for len(end) > 0 {
		k := min(most, len(end))
		if err := unsubscribe(ctx, end[:k]...); err != nil {
			return err
		}
		end = end[k:]
	}
	for len(begin) > 0 {
		k := min(most, len(begin))
		s.node.live.mu.Lock()
		s.batches = append(s.batches, batch{channels: begin[:k:k], left: k})
		s.node.live.mu.Unlock()
		if err := subscribe(ctx, begin[:k]...); err != nil {
			return err
		}
		begin = begin[k:]
	}
	return nil
}

func (s *session) ping(ctx context.Context) error {
	n := s.node
	n.live.mu.Lock()
	s.pings++
	idle := len(n.topics) == 0
	// Subscriptions that were refused are tried again, few at a time: somebody may have given the right.
	again := make([]string, 0, retriesAtOnce)
	for _, t := range n.topics {
		if t.refused != nil && len(again) < retriesAtOnce {
			again = append(again, t.channel)
			s.begun[t.channel]++
		}
	}
	n.live.mu.Unlock()
	if idle {
		return errIdle
	}
	for _, channel := range again {
		if err := s.send(ctx, []string{channel}, nil); err != nil {
			return err
		}
	}
	return s.ps.Ping(ctx)
}

// receive hands on what arrives, until the connection fails. A connection that is silent for longer than patience has failed: there should have been pongs.
// It is not read from again, for the silence may have been in the middle of a message.
func (s *session) receive() error {
	ctx := withoutDial(s.node.live.ctx)
	for {
		got, err := s.ps.ReceiveTimeout(ctx, patience)
		switch got := got.(type) {
		case *redis.Message:
			s.node.deliver(got)
		case *redis.Subscription:
			switch got.Kind {
			case "subscribe", "ssubscribe":
				s.confirmed(got.Channel)
			case "unsubscribe", "sunsubscribe":
				s.unsubscribed(got.Channel)
			}
		case *redis.Pong:
			s.pong()
		default:
			if err == nil {
				continue
			}
			if !isReply(err) {
				return err
			}
			s.refused(err)
		}
	}
}

// deliver hands a message to the followers of its topic. What is not a message of ours is somebody's mistake and left alone.
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

// confirmed notes that a subscription has begun. With an earlier one of the same channel still unconfirmed this may be that one's, which has ended since.
func (s *session) confirmed(channel string) {
	l := s.node.live
	l.mu.Lock()
	if s.begun[channel]--; s.begun[channel] <= 0 {
		delete(s.begun, channel)
	}
	if len(s.batches) > 0 {
		if s.batches[0].left--; s.batches[0].left == 0 {
			s.batches = s.batches[1:]
		}
	}
	t := s.node.topics[channel]
	if t == nil || !t.sent || t.whole || s.begun[channel] > 0 {
		l.mu.Unlock()
		return
	}
	if t.refused != nil {
		// The right was given, perhaps for all the others too.
		for _, other := range s.node.topics {
			if other.refused != nil && other != t {
				other.refused, other.sent = nil, false
				s.node.look(other.channel)
			}
		}
	}
	t.whole, t.refused = true, nil
	t.notify()
	fs := t.established()
	l.mu.Unlock()
	restored(fs)
}

// unsubscribed notes that a subscription has ended: because it was let go, or, in a cluster, because the server no longer has the slot.
func (s *session) unsubscribed(channel string) {
	l := s.node.live
	l.mu.Lock()
	if s.ended[channel] > 0 {
		if s.ended[channel]--; s.ended[channel] == 0 {
			delete(s.ended, channel)
		}
		l.mu.Unlock()
		return
	}
	t := s.node.topics[channel]
	if t == nil || !l.sharded {
		l.mu.Unlock()
		return
	}
	fs := t.established()
	l.unsettle(t)
	l.mu.Unlock()
	broken(fs, &failure{ErrNotReady, "slot moved"})
}

// refused handles an error reply, which can only be that to the oldest SUBSCRIBE. All its channels are refused, be it for the sake of one: they are tried again one by one.
func (s *session) refused(err error) {
	l := s.node.live
	l.mu.Lock()
	if len(s.batches) == 0 {
		l.mu.Unlock()
		return
	}
	b := s.batches[0]
	s.batches = s.batches[1:]
	var told []*follower
	for _, channel := range b.channels {
		if s.begun[channel]--; s.begun[channel] <= 0 {
			delete(s.begun, channel)
		}
		t := s.node.topics[channel]
		switch {
		case t == nil || !t.sent:
		case redirected(err):
			told = append(told, t.established()...)
			l.unsettle(t)
		default:
			if t.refused == nil {
				told = append(told, t.established()...)
			}
			t.refused = cause(err)
			t.notify()
		}
	}
	l.mu.Unlock()
	broken(told, cause(err))
}

// pong ends the comparing of IDs for followers that were established before the ping was sent: what was published before their tail was
// read has arrived before the answer.
func (s *session) pong() {
	l := s.node.live
	var fs []*follower
	l.mu.Lock()
	s.pongs++
	for f, pings := range s.node.fresh {
		if pings < s.pongs {
			fs = append(fs, f)
			delete(s.node.fresh, f)
		}
	}
	l.mu.Unlock()
	settled(fs)
}
