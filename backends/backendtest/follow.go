package backendtest

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/headrace/headrace/hub"
)

func exactlyAfterTail(s *suite) {
	topic := s.topic()
	first, _ := s.follow(s.b, topic)
	old := s.publishN(s.b, topic, 5)
	s.delivered(first, old...)
	type followed struct {
		b    hub.Backend
		r    *recorder
		tail hub.ID
	}
	var all []followed
	add := func(b hub.Backend) {
		s.Helper()
		r, tail := s.follow(b, topic)
		all = append(all, followed{b, r, tail})
	}
	// On a quiet topic, and across publishers that are running: the tail must fit what is
	// delivered wherever it falls.
	add(s.b)
	p := s.startPublishers(topic, 4, 40)
	for i := range 12 {
		s.until(first, "messages of running publishers", func(r *recorder) bool { return len(r.messages) >= len(old)+10*i })
		add(s.instance(i + 1))
	}
	p.wait(s)
	rest := s.publishN(s.instance(1), topic, 10)
	fence := rest[len(rest)-1]
	everything := ids(s.delivered(first, rest...))
	for _, f := range all {
		got := ids(s.delivered(f.r, rest...))
		if unique := slices.Compact(slices.Sorted(slices.Values(got))); len(unique) != len(got) {
			s.Fatalf("a follower got %d messages, of which %d are different: %s", len(got), len(unique), list(got))
		}
		if s.traits.Replay {
			ms, gap := s.readAll(f.b, topic, f.tail)
			want := ids(ms)
			if gap || s.traits.Ordered && !slices.Equal(got, want) || !sameSet(got, want) {
				s.Fatalf("after the tail %q are %s (gap: %v), delivered: %s", f.tail, list(want), gap, list(got))
			}
		} else if s.traits.Ordered && len(got) <= len(everything) && !slices.Equal(got, everything[len(everything)-len(got):]) {
			s.Fatalf("a follower got %s, which is not how the list of an earlier one ends: %s", list(got), list(everything))
		}
		for _, id := range old {
			if slices.Contains(got, id) {
				s.Fatalf("message %q is delivered, and was appended before Follow", id)
			}
		}
	}
	if s.traits.Ordered && everything[len(everything)-1] != fence {
		s.Fatalf("the last message delivered is %q, the last one published %q", everything[len(everything)-1], fence)
	}
}

func deliveryHasBegun(s *suite) {
	for i := range 40 {
		topic := s.topic()
		if i%2 == 1 {
			s.publish(s.b, topic, text("before"))
		}
		r, _ := s.follow(s.instance(i), topic)
		id := s.publish(s.instance(i/2), topic, text("right after"))
		s.delivered(r, id)
	}
}

func tailIsReadable(s *suite) {
	check := func(when, topic string) (tail hub.ID) {
		s.Helper()
		_, tail = s.follow(s.b, topic)
		if !tail.Valid() {
			s.Fatalf("%s: the tail is %q, which is no valid ID", when, tail)
		}
		if s.traits.Replay {
			for _, b := range s.instances {
				p := s.read(b, topic, tail, 100)
				if p.Gap || len(p.Messages) > 0 {
					s.Fatalf("%s: Read after the tail %q: gap: %v, %d messages, want neither", when, tail, p.Gap, len(p.Messages))
				}
			}
		}
		return tail
	}
	topic := s.topic()
	tail := check("a topic that never existed", topic)
	check("the same again", topic)
	s.publish(s.b, s.topic(), text("another topic"))
	id := s.publish(s.b, topic, text("the first"))
	if s.traits.Replay {
		for _, b := range s.instances {
			s.exactly(b, topic, tail, id)
		}
	}
	tail = check("a topic with a message", topic)
	id = s.publish(s.b, topic, text("the second"))
	if s.traits.Replay {
		s.exactly(s.b, topic, tail, id)
	}
	if s.c.Trim != nil {
		s.trim(topic)
		check("a topic whose messages were removed", topic)
	}
}

func sinkCallsAreSerial(s *suite) {
	topic := s.topic()
	r := newRecorder()
	r.spin = 20
	s.followWith(s.ctx, s.b, topic, r)
	s.startPublishers(topic, 8, 25).wait(s)
	s.fence(s.b, topic, r)
	if s.c.Break != nil {
		// Broken and Restored are calls too.
		restore := s.c.Break(s.TB, s.b, topic)
		p := s.startPublishers(topic, 4, 25)
		restore()
		s.until(r, "Restored", func(r *recorder) bool { return len(r.restored) > 0 })
		p.wait(s)
		s.fence(s.b, topic, r)
	}
	if r.overlap.Load() {
		s.Fatal("a call into the sink began while another was running")
	}
}

func stopIsImmediate(s *suite) {
	topic := s.topic()
	quiet := func(r *recorder, most int) {
		s.Helper()
		after, _ := s.follow(s.b, topic)
		s.publishN(s.b, topic, 10)
		s.fence(s.b, topic, after)
		if got := r.begun(); got > most {
			s.Fatalf("%d calls into the sink by the time stop returned, %d later", most, got)
		}
	}

	r := newRecorder()
	_, stop := s.followWith(s.ctx, s.b, topic, r)
	s.fence(s.b, topic, r)
	s.bounded("stop", stop)
	quiet(r, r.begun())
	s.bounded("a second stop", stop)

	// While publishers are running. A call that was decided on before stop returned counts as
	// running.
	r = newRecorder()
	_, stop = s.followWith(s.ctx, s.b, topic, r)
	p := s.startPublishers(topic, 4, 25)
	s.until(r, "messages of running publishers", func(r *recorder) bool { return len(r.messages) >= 10 })
	s.bounded("stop beside publishers", stop)
	begun := r.begun()
	p.wait(s)
	quiet(r, begun+1)

	// From within the sink, and while the sink is held up: the hub may hold in stop a lock that
	// its sink waits for.
	r = newRecorder()
	stopped := make(chan struct{})
	release := make(chan struct{})
	var once, let sync.Once
	defer let.Do(func() { close(release) })
	var stopInside func()
	r.onDeliver = func([]hub.Message) {
		once.Do(func() {
			stopInside()
			close(stopped)
			<-release
		})
	}
	ready := make(chan struct{})
	sink := &gatedSink{Sink: r, ready: ready}
	_, stopInside = s.followWith(s.ctx, s.b, topic, sink)
	close(ready)
	published := make(chan struct{})
	go func() {
		defer close(published)
		_, _ = s.b.Publish(s.ctx, topic, text("held up"))
	}()
	s.await(stopped, "stop, called by the sink, did not return")
	s.bounded("stop while the sink is running", stopInside)
	let.Do(func() { close(release) })
	s.await(published, "Publish did not return")
	quiet(r, 1)

	if s.c.Outage == nil {
		s.Log("Config.Outage is not set: stop is not tested while the store is unreachable")
		return
	}
	_, stop = s.followWith(s.ctx, s.b, topic, newRecorder())
	restore := s.c.Outage(s.TB, s.b)
	defer restore()
	s.bounded("stop while the store is unreachable", stop)
}

// gatedSink holds deliveries up until the test is ready for them.
type gatedSink struct {
	hub.Sink
	ready <-chan struct{}
}

func (g *gatedSink) Deliver(ms ...hub.Message) {
	<-g.ready
	g.Sink.Deliver(ms...)
}

func contextBoundsEstablishing(s *suite) {
	for _, b := range s.instances {
		followPastContext(s, b)
	}
}

func followPastContext(s *suite, b hub.Backend) {
	topic := s.topic()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	timed, cancelTimed := context.WithTimeout(s.ctx, s.c.Timeout)
	defer cancelTimed()
	r, r2 := newRecorder(), newRecorder()
	s.followWith(ctx, b, topic, r)
	s.followWith(timed, b, topic, r2)
	s.fence(s.b, topic, r, r2)
	cancel()
	cancelTimed()
	// What watches the context has to act on it first, and may need a while.
	for range 1000 {
		runtime.Gosched()
	}
	for range 20 {
		s.fence(s.b, topic, r, r2)
	}
}

func followsAreIndependent(s *suite) {
	topic, other := s.topic(), s.topic()
	a, b, c, d := newRecorder(), newRecorder(), newRecorder(), newRecorder()
	_, stopA := s.followWith(s.ctx, s.b, topic, a)
	_, stopB := s.followWith(s.ctx, s.b, topic, b)
	_, _ = s.followWith(s.ctx, s.b, topic, c)
	_, stopD := s.followWith(s.ctx, s.b, other, d)
	s.fence(s.b, topic, a, b, c)
	s.fence(s.b, other, d)
	s.bounded("stop", stopA)
	s.bounded("a second stop", stopA) // must not be counted twice
	s.fence(s.b, topic, b, c)
	s.fence(s.b, other, d)
	s.bounded("stop", stopD)
	s.fence(s.b, topic, b, c)
	s.bounded("stop", stopB)
	s.fence(s.b, topic, c)
	// Gone and back.
	e, _ := s.follow(s.b, other)
	s.fence(s.b, other, e)
	if got := len(c.got()); got != 4 {
		s.Fatalf("a follower that was never stopped got %d messages, want 4", got)
	}
}

func liveMessagesAreChained(s *suite) {
	if !s.traits.Chained {
		s.Skip("Traits.Chained is false")
	}
	chain := func(when string, r *recorder, tail hub.ID) {
		s.Helper()
		last := tail
		for i, m := range r.got() {
			if m.Prev != last {
				s.Fatalf("%s: message %d, %q, has Prev %q, want %q", when, i, m.ID, m.Prev, last)
			}
			last = m.ID
		}
	}
	for _, b := range s.instances {
		topic := s.topic()
		empty, tail := s.follow(b, topic)
		s.publish(s.b, s.topic(), text("another topic"))
		s.fence(s.instance(1), topic, empty)
		p := s.startPublishers(topic, 3, 20)
		s.until(empty, "messages of running publishers", func(r *recorder) bool { return len(r.messages) >= 10 })
		running, runningTail := s.follow(b, topic)
		p.wait(s)
		s.fence(s.b, topic, empty, running)
		chain("from the topic's first message on", empty, tail)
		chain("from among running publishers on", running, runningTail)
		if s.c.Trim != nil {
			s.trim(topic)
			trimmed, tail := s.follow(b, topic)
			s.fence(s.b, topic, trimmed)
			s.fence(s.b, topic, trimmed)
			chain("after removal", trimmed, tail)
		}
	}
}

func brokenPathIsRestored(s *suite) {
	if s.c.Break == nil {
		s.Skip("Config.Break is not set")
	}
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	before := s.fence(s.b, topic, r)
	for round := 1; round <= 3; round++ {
		restore := s.c.Break(s.TB, s.b, topic)
		missed := s.publishN(s.instance(1), topic, 5)
		restore()
		s.until(r, "Restored after a break", func(r *recorder) bool { return len(r.restored) >= round })
		r.mu.Lock()
		mark := r.restored[len(r.restored)-1]
		r.mu.Unlock()
		after := s.publishN(s.b, topic, 5)
		got := ids(s.delivered(r, after...))
		if s.traits.Ordered && !slices.Equal(got[len(got)-len(after):], after) {
			s.Fatalf("delivered: %s, want %s at the end", list(got), list(after))
		}
		if s.traits.Replay {
			ms, gap := s.readAll(s.b, topic, before)
			if want := slices.Concat(missed, after); gap || !slices.Equal(ids(ms), want) {
				s.Fatalf("Read after the message before the break: %s (gap: %v), want %s", list(ids(ms)), gap, list(want))
			}
			if mark.tail != "" {
				// The tail is where the live path goes on: all that Read has after it was
				// delivered.
				ms, gap := s.readAll(s.b, topic, mark.tail)
				if gap {
					s.Fatalf("Read after the tail %q of Restored: gap", mark.tail)
				}
				for _, m := range ms {
					if !slices.Contains(got, m.ID) {
						s.Fatalf("message %q comes after the tail %q of Restored and is not delivered", m.ID, mark.tail)
					}
				}
			}
		}
		before = after[len(after)-1]
	}
}
