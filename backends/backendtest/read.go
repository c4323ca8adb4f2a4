package backendtest

import (
	"bytes"
	"maps"
	"slices"

	"github.com/headrace/headrace/hub"
)

func pagesAreComplete(s *suite) {
	s.needReplay()
	topic := s.topic()
	want := s.publishN(s.b, topic, 25)
	for _, b := range s.instances {
		for _, limit := range []int{1, 2, 7, 25, 100} {
			for _, start := range []int{0, 4, 24} { // how many messages are read already
				after := hub.ID("")
				if start > 0 {
					after = want[start-1]
				}
				got := slices.Clone(want[:start])
				for {
					p := s.read(b, topic, after, limit)
					if len(p.Messages) > limit {
						s.Fatalf("Read with limit %d: %d messages", limit, len(p.Messages))
					}
					if len(p.Messages) == 0 || p.Gap {
						break
					}
					got = append(got, ids(p.Messages)...)
					after = got[len(got)-1]
				}
				if !slices.Equal(got, want) {
					s.Fatalf("pages of %d after %d messages: %s, want %s", limit, start, list(got), list(want))
				}
			}
		}
	}
	// A page that is ended by its size has a message nevertheless.
	topic = s.topic()
	want = nil
	for range 3 {
		want = append(want, s.publish(s.b, topic, hub.Message{Data: bytes.Repeat([]byte("x"), 600<<10)}))
	}
	for _, b := range s.instances {
		if ms, _ := s.readAll(b, topic, ""); !slices.Equal(ids(ms), want) {
			s.Fatalf("of three large messages: %s, want %s", list(ids(ms)), list(want))
		}
	}
}

func nextGoesOn(s *suite) {
	s.needReplay()
	hold := func(when, topic string, after hub.ID) {
		s.Helper()
		for i, b := range s.instances {
			p := s.read(b, topic, after, 100)
			switch {
			case len(p.Messages) > 0:
				s.Fatalf("%s: %d messages, want none", when, len(p.Messages))
			case !p.Next.Valid():
				s.Fatalf("%s: Next is %q, which is no valid ID", when, p.Next)
			}
			// Asked more than once: the position must hold while nothing happens here, and
			// something does elsewhere.
			s.publish(s.b, s.topic(), text("another topic"))
			again := s.read(b, topic, p.Next, 100)
			if again.Gap || len(again.Messages) > 0 || !again.Next.Valid() {
				s.Fatalf("%s: Read after Next %q: gap: %v, %d messages, next %q", when, p.Next, again.Gap, len(again.Messages), again.Next)
			}
			id := s.publish(s.instance(i+1), topic, text("goes on"))
			s.exactly(b, topic, p.Next, id)
			after = id
		}
	}
	hold("a topic that never existed, from the beginning", s.topic(), "")
	hold("a topic that never existed, after an unknown ID", s.topic(), "backendtest~unknown")
	topic := s.topic()
	_, tail := s.follow(s.b, topic)
	hold("an empty topic, after its tail", topic, tail)

	topic = s.topic()
	want := s.publishN(s.b, topic, 10)
	for _, b := range s.instances {
		var got []hub.ID
		for after := hub.ID(""); len(got) < len(want); {
			p := s.read(b, topic, after, 3)
			if len(p.Messages) == 0 {
				break
			}
			got = append(got, ids(p.Messages)...)
			if p.Next != got[len(got)-1] {
				s.Fatalf("Next is %q, the page's last message %q", p.Next, got[len(got)-1])
			}
			after = p.Next
		}
		if !slices.Equal(got, want) {
			s.Fatalf("reading from Next to Next: %s, want %s", list(got), list(want))
		}
	}
	hold("after the newest message", topic, want[len(want)-1])
	if s.c.Trim != nil {
		s.trim(topic)
		if ms, _ := s.readAll(s.b, topic, ""); len(ms) == 0 {
			hold("when all messages were removed, from the beginning", topic, "")
		}
	}
}

func readSeesDelivered(s *suite) {
	s.needReplay()
	sees := func(b hub.Backend, when, topic string, after, id hub.ID) {
		s.Helper()
		p := s.read(b, topic, after, 100)
		if _, ok := find(p.Messages, id); !ok && !p.Gap {
			s.Fatalf("%s: Read after %q does not see %q and says no gap", when, after, id)
		}
	}
	for i, b := range s.instances {
		topic := s.topic()
		r, last := s.follow(b, topic)
		for n := range 30 {
			// The page was empty a moment ago: an answer that was kept would be wrong now.
			s.read(b, topic, last, 100)
			id := s.publish(s.instance(i+n), topic, text("message %d", n))
			sees(s.instance(i+n), "after Publish returned", topic, last, id)
			s.delivered(r, id)
			sees(b, "after delivery", topic, last, id)
			last = id
		}
	}

	// Read begins at once when the sink is called, whether Publish returned or not.
	topic := s.topic()
	seen := make(chan hub.ID, 1000)
	r := newRecorder()
	r.onDeliver = func(ms []hub.Message) {
		for _, m := range ms {
			seen <- m.ID
		}
	}
	tail, _ := s.followWith(s.ctx, s.b, topic, r)
	p := s.startPublishers(topic, 2, 25)
	for range 50 {
		var id hub.ID
		s.bounded("delivery of messages of running publishers", func() {
			select {
			case id = <-seen:
			case <-s.ctx.Done():
			}
		})
		sees(s.b, "while it is delivered", topic, tail, id)
	}
	p.wait(s)
}

func finalMarksEnd(s *suite) {
	s.needReplay()
	topic := s.topic()
	_, tail := s.follow(s.b, topic)
	before := s.publish(s.b, topic, text("before"))
	final := s.publish(s.b, topic, hub.Message{Type: "close", Final: true})
	for _, b := range s.instances {
		if p := s.read(b, topic, final, 10); !p.Final || p.Gap || len(p.Messages) > 0 {
			s.Fatalf("Read after the final message: Final %v, gap: %v, %d messages, want Final only", p.Final, p.Gap, len(p.Messages))
		}
		for _, after := range []hub.ID{"", tail, before, "backendtest~unknown"} {
			p := s.read(b, topic, after, 10)
			if p.Final {
				s.Fatalf("Read after %q: Final, and the final message is %q", after, final)
			}
			if m, ok := find(p.Messages, final); !ok || !m.Final {
				s.Fatalf("Read after %q: the final message is there: %v, and Final: %v", after, ok, m.Final)
			}
		}
	}
	if s.traits.Deletes {
		other := s.topic()
		r, _ := s.follow(s.b, other)
		first, second := s.publish(s.b, other, text("first")), s.publish(s.b, other, text("second"))
		early := erased(s, s.b, other, first, r)
		s.publish(s.b, other, hub.Message{Type: "close", Final: true})
		late := erased(s, s.b, other, second, r)
		for _, b := range s.instances {
			if p := s.read(b, other, early, 10); p.Final {
				s.Fatal("Read after an erasure that was before the final message: Final")
			}
			if p := s.read(b, other, late, 10); !p.Final || p.Gap || len(p.Messages) > 0 {
				s.Fatalf("Read after an erasure behind the final message: Final %v, gap: %v, %d messages, want Final only",
					p.Final, p.Gap, len(p.Messages))
			}
		}
		meant := text("meant")
		meant.AfterEnd = true
		s.publish(s.b, other, meant)
		if p := s.read(s.b, other, erased(s, s.b, other, s.publish(s.b, other, meant), r), 10); p.Final {
			s.Fatal("Read after an erasure in a topic that went on behind its end: Final")
		}
	}
	if s.c.Trim != nil {
		s.trim(topic)
		if ms, _ := s.readAll(s.b, topic, ""); len(ms) == 0 || ms[0].ID != final {
			if p := s.read(s.b, topic, final, 10); p.Final {
				s.Fatal("Read after the final message, which is removed: Final")
			}
		}
	}
}

func pagesStay(s *suite) {
	s.needReplay()
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	var last hub.ID
	for i := range 20 {
		m := text("message %d", i)
		m.Headers = map[string]string{"n": string(m.Data)}
		last = s.publish(s.b, topic, m)
	}
	live := s.delivered(r, last)
	pages := [][]hub.Message{live}
	for _, limit := range []int{7, 20} {
		pages = append(pages, s.read(s.b, topic, "", limit).Messages)
	}
	var copies [][]hub.Message
	for _, page := range pages {
		c := slices.Clone(page)
		for i, m := range c {
			c[i].Data, c[i].Headers = bytes.Clone(m.Data), maps.Clone(m.Headers)
		}
		copies = append(copies, c)
	}
	check := func() {
		s.Helper()
		for i, page := range pages {
			for j, m := range page {
				want := copies[i][j]
				if m.ID != want.ID || !m.Time.Equal(want.Time) {
					s.Fatalf("a message that was %q is %q now", want.ID, m.ID)
				}
				s.same("a message that was given before", m, want)
			}
		}
	}
	// After each step, since the last one may put everything back where it was.
	for i := range 20 {
		s.publish(s.b, topic, text("later %d", i))
		s.read(s.b, topic, last, 7)
		check()
	}
	s.readAll(s.b, topic, "")
	s.fence(s.b, topic, r)
	check()
	if s.c.Trim != nil {
		s.trim(topic)
		s.readAll(s.b, topic, "")
		check()
	}
}
