package redisstream

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// session is the life of one connection.
type session struct {
	node *node
	ps   *redis.PubSub
	done chan struct{}
	soon chan struct{} // the next ping is to be sent soon

	// Guarded by live.mu.
	pings, pongs uint64
	whole        bool
	// Subscriptions, and their ends, that were sent and are not confirmed, by channel.
	begun, ended map[string]int
	batches      []batch // SUBSCRIBE commands without a complete answer, oldest first
	err          error   // why the session's writer ended it
}

// batch is what one SUBSCRIBE named.
type batch struct {
	channels []string
	left     int // not confirmed yet
}

// write sends subscriptions, their ends and pings, one after the other: so a channel that is let
// go and followed again at once is subscribed to last.
func (s *session) write() {
	ctx := withoutDial(s.node.live.ctx)
	ping := time.NewTimer(pingEvery)
	defer ping.Stop()
	for first := true; ; first = false {
		begin, end := s.due()
		err := s.send(ctx, begin, end)
		if err == nil && first {
			err = s.ping(ctx)
		}
		if err == nil {
			select {
			case <-s.node.wake:
				continue
			case <-s.soon:
				ping.Reset(pingSoon)
				continue
			case <-ping.C:
				ping.Reset(pingEvery)
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
			// The channel may have been let go before it was taken again. Then its end need not
			// be sent: subscribing twice does no harm.
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
	idle := n.idle()
	// Subscriptions that were refused are tried again, few at a time: somebody may have given the
	// right.
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

// receive hands on what arrives, until the connection fails. A connection that is silent for
// longer than patience has failed: there should have been pongs. It is not read from again, for
// the silence may have been in the middle of a message.
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
			s.pong(true)
		default:
			if err == nil {
				continue
			}
			switch {
			case !isReply(err), redis.HasErrorPrefix(err, "NOAUTH"):
				return err
			case s.notReady(err):
			default:
				s.refused(err)
			}
		}
	}
}

// confirmed notes that a subscription has begun. With an earlier one of the same channel still
// unconfirmed this may be that one's, which has ended since.
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
	again := t.refused != nil
	if again {
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
	if again {
		l.denied.allowed()
	}
	restored(fs)
}

// unsubscribed notes that a subscription has ended: because it was let go, or, in a cluster,
// because the server no longer has the slot.
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

// refused handles an error reply, which can only be that to the oldest SUBSCRIBE. All its
// channels are refused, be it for the sake of one: they are tried again one by one.
func (s *session) refused(err error) {
	l := s.node.live
	l.mu.Lock()
	if len(s.batches) == 0 {
		l.mu.Unlock()
		s.pong(true) // a user who may not ping has an answer too
		return
	}
	b := s.batches[0]
	s.batches = s.batches[1:]
	var told []*follower
	denied := false
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
			denied = true
		}
	}
	l.mu.Unlock()
	if denied {
		l.denied.refused(cause(err))
	}
	broken(told, cause(err))
}

// pong ends the comparing of IDs for followers that were established before the ping was sent:
// what was published before their tail was read has arrived before the answer.
//
// The second one comes behind the answers to all subscriptions that the session began with: if the
// server is ready then, the session is whole.
func (s *session) pong(ready bool) {
	l := s.node.live
	var fs []*follower
	l.mu.Lock()
	s.pongs++
	began := ready && s.pongs >= 2 && !s.whole
	s.whole = ready && (s.whole || began)
	for f, pings := range s.node.fresh {
		if pings < s.pongs {
			fs = append(fs, f)
			delete(s.node.fresh, f)
		}
	}
	l.mu.Unlock()
	if began {
		l.path.whole(s.node)
	}
	settled(fs)
}

// notReady reports whether an error is the reply to a ping of a server that is not ready. Then the
// session is not whole yet, and pings again soon.
func (s *session) notReady(err error) bool {
	l := s.node.live
	l.mu.RLock()
	// A server that loads its data takes subscriptions.
	ping := redis.HasErrorPrefix(err, "LOADING") || len(s.batches) == 0 && notReady(err)
	l.mu.RUnlock()
	if ping {
		l.path.broken(s.node, cause(err))
		s.pong(false)
		select {
		case s.soon <- struct{}{}:
		default:
		}
	}
	return ping
}
