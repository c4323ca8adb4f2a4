package watermill

import (
	"context"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

const (
	probePace  = 100 * time.Millisecond // while a proof is wanted
	probeAgain = time.Second            // between probes while one has not come back
	probeWait  = 10 * time.Second       // for a probe to come back
	// maxStrikes is how many probes may be overtaken, each within strikeTime of the one before,
	// until somebody else is believed to get them. One can be lost.
	maxStrikes = 3
	strikeTime = 10 * time.Minute
	// backlogWait is for one that may stand behind messages that still come.
	backlogWait = time.Minute
)

// subscription is one opened at the broker. Everything in it belongs to topic.run.
type subscription struct {
	*topic
	messages <-chan *message.Message
	again    bool   // not the topic's first: its followers may have missed messages
	since    uint64 // the number of the last probe that was sent before
	proven   bool   // a probe came back: from here on nothing is old
	origins  origins

	timer   *time.Timer
	pace    time.Duration // until the next probe
	probing *outgoing     // a probe that is at the Publisher
	// Since when no probe has come back though one was sent; zero if none is missing.
	asked   time.Time
	strikes int       // how many probes others overtook
	struck  time.Time // when the last of them was noticed
	heard   time.Time // when the last message came
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
	s := &subscription{topic: t, messages: messages, again: again, since: t.b.probes.Load(), origins: newOrigins(), pace: probePace}
	defer func() { go drain(messages) }()
	return s.serve()
}

func (s *subscription) serve() error {
	s.timer = time.NewTimer(0)
	defer s.timer.Stop()
	if s.b.opts.NoProbes {
		s.prove(0, hub.ID(wm.NewUUID()))
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
			s.heard = time.Now()
			if m == nil {
				s.skip()
				continue
			}
			s.receive(m)
			m.Ack()
			if s.strikes >= maxStrikes {
				return ErrCompeting
			}
		case <-published:
			if s.note(s.probing.err); s.probing.err != nil {
				s.probes.answer(s.probing.probe) // it need not come
			}
			s.probing = nil
		case <-s.poke:
			if s.b.opts.NoProbes {
				s.prove(0, hub.ID(wm.NewUUID()))
				continue
			}
			s.pace = probePace
			if s.silent() {
				return ErrSilent
			}
			s.probe()
		case <-s.timer.C:
			if s.silent() {
				return ErrSilent
			}
			s.probe()
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// silent reports whether a probe should have come back by now. One that cannot be published
// proves nothing either, and one behind a backlog may take longer.
func (s *subscription) silent() bool {
	if s.asked.IsZero() {
		return false
	}
	quiet := s.asked
	if s.heard.After(quiet) {
		quiet = s.heard
	}
	return time.Since(quiet) >= probeWait || s.proven && time.Since(s.asked) >= backlogWait
}

// probe sends a probe, unless the last one is still at the Publisher, and sets the timer for the
// next one.
func (s *subscription) probe() {
	if s.b.opts.NoProbes {
		return
	}
	if s.probing == nil {
		s.probing = s.sendProbe(nil)
	}
	if s.asked.IsZero() {
		s.asked = time.Now()
	}
	if _, waiting := s.snapshot(); s.proven && !waiting {
		s.timer.Reset(probeAgain)
		return
	}
	s.timer.Reset(s.pace)
	s.pace = min(s.pace*5/4, longestWait) // a broker that does not answer is asked less and less
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
	if number, own := s.probes.answer(e.probe); own && number > s.since {
		s.proof(number, e.ID)
	}
	if !s.proven {
		return // from before, or nobody knows: a gap is said when it is over
	}
	if s.b.opts.OrderedByPublisher && e.origin != "" {
		v, lost := s.origins.judge(e.origin, e.seq)
		switch v {
		case late, missed:
			if e.probe == "" {
				s.b.counters.late.Add(1)
			}
			if v == missed {
				s.each(func(sink hub.Sink) { sink.Restored("") })
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

// proof takes note of a probe that came back.
func (s *subscription) proof(number uint64, id hub.ID) {
	s.asked = time.Time{}
	overtaken := s.probes.passed(number, s.b.opts.OrderedByPublisher, s.proven, s.since)
	if overtaken > 0 {
		if time.Since(s.struck) > strikeTime {
			s.strikes = 0
		}
		s.strikes, s.struck = s.strikes+overtaken, time.Now()
	}
	s.prove(number, id)
	if _, waiting := s.snapshot(); !waiting {
		next := s.b.opts.ProbeEvery
		if time.Since(s.struck) < probeWait {
			next = min(next, probeAgain) // whether that was an accident shows soon
		}
		s.timer.Reset(next)
	}
}

// prove makes followers active that a probe with this number proves it for. The first proof of a
// subscription that was opened again ends what may have been missed.
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
