package watermill

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/headrace/headrace/hub"
)

const (
	probePace = 100 * time.Millisecond // while a proof is wanted
	probeWait = 10 * time.Second       // for a probe to come back
)

// subscription is one opened at the broker. Everything in it belongs to topic.run.
type subscription struct {
	*topic
	messages <-chan *message.Message
	again    bool   // not the topic's first: its followers may have missed messages
	since    uint64 // the number of the last probe that was sent before
	proven   bool   // a probe came back: from here on nothing is old
	origins  origins

	timer    *time.Timer
	pace     time.Duration // until the next probe
	probing  *outgoing     // a probe that is being published
	number   uint64        // its number
	answered uint64        // the highest number that came back
	asked    time.Time     // when the oldest probe that has not come back was published; zero if there is none
}

// subscribe opens a subscription and serves the topic's followers from it. It returns why it ended.
func (t *topic) subscribe(again bool) error {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	messages, err := t.open(ctx)
	if err != nil {
		return err
	}
	t.note(nil)
	s := &subscription{topic: t, messages: messages, again: again, since: t.lastProbe(), origins: make(origins), pace: probePace}
	defer func() { go drain(messages) }()
	return s.serve()
}

func (s *subscription) serve() error {
	s.timer = time.NewTimer(0)
	defer s.timer.Stop()
	if s.b.opts.NoProbes {
		s.prove(0, hub.ID(uuid.NewString()))
	}
	for {
		var published chan struct{}
		if s.probing != nil {
			published = s.probing.done
		}
		select {
		case m, ok := <-s.messages:
			if !ok {
				return ErrEnded
			}
			s.receive(m)
			m.Ack()
		case <-published:
			s.published()
		case <-s.poke:
			if s.b.opts.NoProbes {
				s.prove(0, hub.ID(uuid.NewString()))
				continue
			}
			s.pace = probePace
			s.probe()
		case <-s.timer.C:
			if !s.asked.IsZero() && time.Since(s.asked) >= probeWait {
				return ErrSilent
			}
			s.probe()
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// probe publishes a probe, unless one is being published, and sets the timer for what is next.
func (s *subscription) probe() {
	if s.b.opts.NoProbes {
		return
	}
	if _, waiting := s.snapshot(); s.proven && !waiting {
		s.pace = probePace
		next := s.b.opts.ProbeEvery
		if !s.asked.IsZero() {
			next = min(next, max(probeWait-time.Since(s.asked), 0))
		}
		defer s.timer.Reset(next)
		if !s.asked.IsZero() {
			return // one is on its way
		}
	} else {
		s.timer.Reset(s.pace)
		s.pace = min(s.pace*5/4, longestWait) // a broker that does not answer is asked less and less
	}
	if s.probing == nil {
		s.probing, s.number = s.sendProbe()
	}
}

// published notes that a probe is at the broker, or that it could not be published: that proves nothing either.
func (s *subscription) published() {
	err := s.probing.err
	s.probing = nil
	s.note(err)
	if s.asked.IsZero() && s.number > s.answered { // it may have come back before the Publisher returned
		s.asked = time.Now()
		if s.proven {
			s.timer.Reset(min(s.b.opts.ProbeEvery, probeWait))
		}
	}
}

// sendProbe queues the topic's next probe. It returns nil when the backend is closed.
func (t *topic) sendProbe() (o *outgoing, n uint64) {
	t.mu.Lock()
	t.sent++
	n = t.sent
	t.mu.Unlock()
	o = &outgoing{envelope: envelope{probe: t.b.instance + "." + strconv.FormatUint(n, 10)}, done: make(chan struct{})}
	o.ID, o.Time = hub.ID(uuid.NewString()), time.Now()
	if !t.b.send(t.name, o) {
		return nil, n
	}
	return o, n
}

func (t *topic) lastProbe() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

// receive takes one message from the broker.
func (s *subscription) receive(m *message.Message) {
	if !enveloped(m) {
		if s.proven {
			s.foreign(m)
		}
		return
	}
	e, err := unwrap(m)
	if number, own := s.ownProbe(e.probe); own && number > s.since { // some brokers begin with what is old
		s.came(number, e.ID)
	}
	if !s.proven {
		return // from before, or nobody knows: a gap is said when it is over
	}
	if s.b.opts.OrderedByPublisher && e.origin != "" {
		v, lost := s.origins.judge(e.origin, e.seq)
		switch v {
		case late:
			if e.probe == "" {
				s.b.counters.late.Add(1)
			}
			return
		case afterLoss:
			s.b.counters.lost.Add(lost)
			s.b.opts.Logger.Warn("watermill: messages were lost, or come out of order; readers are told of a gap", "topic", s.shown, "count", lost)
			s.each(func(sink hub.Sink) { sink.Restored("") })
		}
	}
	switch {
	case e.probe != "":
	case err != nil:
		s.skip()
	default:
		s.deliver(e.Message)
	}
}

// foreign shows a message of another program.
func (s *subscription) foreign(m *message.Message) {
	got, err := s.decode(m)
	if err != nil || !got.ID.Valid() {
		s.skip()
		return
	}
	got.Prev, got.Gap, got.Key = "", false, ""
	if got.Time.IsZero() {
		got.Time = time.Now()
	}
	s.deliver(got)
}

// decode calls Options.Decode. A panic in it must not stop the topic.
func (s *subscription) decode(m *message.Message) (got hub.Message, err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return s.b.opts.Decode(m)
}

func (s *subscription) skip() { s.b.counters.skipped.Add(1) }

func (s *subscription) deliver(m hub.Message) {
	s.each(func(sink hub.Sink) { sink.Deliver(m) })
}

// ownProbe returns the number of a probe of this backend's.
func (s *subscription) ownProbe(token string) (n uint64, own bool) {
	instance, digits, ok := strings.Cut(token, ".")
	if !ok || instance != s.b.instance {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// came notes that a probe came back.
func (s *subscription) came(number uint64, id hub.ID) {
	s.asked, s.answered = time.Time{}, max(s.answered, number)
	s.mu.Lock()
	for _, c := range s.checks {
		c.see(number)
	}
	s.mu.Unlock()
	s.prove(number, id)
	if _, waiting := s.snapshot(); !waiting {
		s.timer.Reset(s.b.opts.ProbeEvery)
	}
}

// prove makes followers active that a probe with this number proves it for. The first proof of a subscription that was opened again ends what may have been missed.
func (s *subscription) prove(number uint64, tail hub.ID) {
	if !s.proven {
		s.proven = true
		if s.again {
			s.each(func(sink hub.Sink) { sink.Restored("") })
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.followers {
		if !f.active && f.err == nil && (number > f.after || s.b.opts.NoProbes) {
			f.active, f.tail = true, tail
			close(f.ready)
		}
	}
	s.sort()
}
