package backendtest

import (
	"bytes"
	"crypto/rand"
	"maps"
	"slices"
	"strings"

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

func beginningIsNoGap(s *suite) {
	s.needReplay()
	topic := s.topic()
	check := func(when string) []hub.ID {
		s.Helper()
		var got []hub.ID
		for _, b := range s.instances {
			ms, gap := s.readAll(b, topic, "")
			if gap {
				s.Fatalf("%s: Read from the beginning: gap", when)
			}
			got = ids(ms)
		}
		return got
	}
	check("a topic that never existed")
	want := s.publishN(s.b, topic, 3)
	if got := check("a topic with messages"); !slices.Equal(got, want) {
		s.Fatalf("Read from the beginning: %s, want %s", list(got), list(want))
	}
	if s.c.Trim == nil {
		s.Log("Config.Trim is not set: not tested after removal")
		return
	}
	s.trim(topic)
	check("a topic whose messages were removed")
	want = s.publishN(s.b, topic, 3)
	if got := check("a topic whose first messages were removed"); len(got) < 3 || !slices.Equal(got[len(got)-3:], want) {
		s.Fatalf("Read from the beginning: %s, want %s at the end", list(got), list(want))
	}
}

func removedIsGap(s *suite) {
	s.needReplay()
	topic := s.topic()
	_, tail := s.follow(s.b, topic)
	old := s.publishN(s.b, topic, 10)
	// What follows a retained message is proven to be all: readers would be told of losses that never were.
	for i, id := range old {
		s.exactly(s.b, topic, id, old[i+1:]...)
	}
	if s.c.Trim == nil {
		s.Skip("Config.Trim is not set")
	}
	s.trim(topic)
	check := func(when string) {
		s.Helper()
		for _, b := range s.instances {
			retained, _ := s.readAll(b, topic, "")
			for _, id := range slices.Concat([]hub.ID{tail}, old[:9]) {
				if _, gap := s.readAll(b, topic, id); !gap {
					s.Fatalf("%s: Read after %q: no gap, and the message after it is gone", when, id)
				}
				got, want := ids(s.read(b, topic, id, 3).Messages), ids(retained)
				if !slices.Equal(got, want[:min(len(got), len(want))]) || len(got) == 0 && len(want) > 0 {
					s.Fatalf("%s: Read after %q: %s, want the oldest retained: %s", when, id, list(got), list(want))
				}
			}
			// The place after the last removed message may or may not be provable, but if it is, nothing is missing there.
			if ms, gap := s.readAll(b, topic, old[9]); !gap && !slices.Equal(ids(ms), ids(retained)) {
				s.Fatalf("%s: Read after %q: %s and no gap, retained: %s", when, old[9], list(ids(ms)), list(ids(retained)))
			}
		}
	}
	check("after removal")
	s.publishN(s.b, topic, 3)
	check("after removal and new messages")
}

func suffix(part, whole []hub.ID) bool {
	return len(part) <= len(whole) && slices.Equal(part, whole[len(whole)-len(part):])
}

func unknownIsGap(s *suite) {
	s.needReplay()
	topic, other, empty := s.topic(), s.topic(), s.topic()
	own := s.publishN(s.b, topic, 5)
	foreign := s.publishN(s.b, other, 5)

	// Whatever the answer, it is made of the topic's own newest messages and has a place to go on from.
	sound := func(b hub.Backend, after hub.ID) hub.Page {
		s.Helper()
		p := s.read(b, topic, after, 100)
		got := ids(p.Messages)
		switch {
		case !suffix(got, own):
			s.Fatalf("Read after %.40q: %s, the topic has %s", after, list(got), list(own))
		case p.Gap && len(got) != len(own):
			s.Fatalf("Read after %.40q: a gap and %s, want what is retained: %s", after, list(got), list(own))
		case !p.Next.Valid():
			s.Fatalf("Read after %.40q: Next is %q, which is no valid ID", after, p.Next)
		}
		return p
	}

	// IDs that are nobody's.
	nobodys := []hub.ID{
		hub.ID("backendtest~" + rand.Text()), hub.ID(strings.Repeat("z", hub.MaxID)), "-", "~", ".", "_", "...",
		" ", "\x00", "a\nb", "a b", "$", "*", "+", "%s", "ü", "\xff", hub.ID(strings.Repeat("9", 10_000)), own[0] + " ", " " + own[0], own[0] + "\n",
	}
	// IDs that may look like the backend's own: it may know the place, as long as it tells no lies about it.
	likely := []hub.ID{
		"0", "1", "0-0", "0-1", "-1", "1-", "00", "18446744073709551615", "18446744073709551616", "18446744073709551615-18446744073709551615", "9999999999999-0",
		own[0][:len(own[0])-1] + "~", own[0][:len(own[0])-1], own[0] + "0", "0" + own[0], own[0] + "-" + own[0], own[4] + "-0",
	}
	likely = append(likely, foreign...)
	for _, b := range s.instances {
		for _, id := range nobodys {
			if p := sound(b, id); !p.Gap {
				s.Fatalf("Read after %.40q, an ID that was never given: no gap", id)
			}
			if p := s.read(b, empty, id, 10); !p.Gap || len(p.Messages) > 0 || !p.Next.Valid() {
				s.Fatalf("Read after %.40q of a topic that never existed: gap: %v, %d messages, next %q", id, p.Gap, len(p.Messages), p.Next)
			}
		}
		for _, id := range likely {
			if id != "" {
				sound(b, id)
			}
		}
	}

	if s.traits.Durable || s.traits.Shared {
		return
	}
	// Nothing survives the backend, so another one is a new life of it.
	next := s.open(s.c.New)
	for i := range 10 {
		s.publish(next, topic, text("of a new life %d", i))
	}
	for _, id := range own {
		if p := s.read(next, topic, id, 100); !p.Gap || len(p.Messages) != 10 {
			s.Fatalf("Read after %q, an ID of a former life: gap: %v, %d messages, want a gap and 10", id, p.Gap, len(p.Messages))
		}
	}
}

func newestIsNoGap(s *suite) {
	s.needReplay()
	check := func(when, topic string, id hub.ID) {
		s.Helper()
		for _, b := range s.instances {
			for _, limit := range []int{1, 10} {
				if p := s.read(b, topic, id, limit); p.Gap || len(p.Messages) > 0 {
					s.Fatalf("%s: Read after %q: gap: %v, %d messages, want neither", when, id, p.Gap, len(p.Messages))
				}
			}
		}
	}
	topic, quiet := s.topic(), s.topic()
	_, tail := s.follow(s.b, quiet)
	gone := newRecorder()
	goneTopic := s.topic()
	goneTail, stop := s.followWith(s.ctx, s.b, goneTopic, gone)
	s.bounded("stop", stop)
	for range 5 {
		newest := s.publish(s.b, topic, text("newest"))
		check("the newest message", topic, newest)
		check("the tail of an empty topic", quiet, tail)
		check("the tail of an empty topic that is no longer followed", goneTopic, goneTail)
	}
	_, tail = s.follow(s.b, topic)
	check("the tail of a topic with messages", topic, tail)
	if s.c.Trim != nil {
		s.trim(topic)
		if ms, _ := s.readAll(s.b, topic, ""); len(ms) > 0 {
			tail = ms[len(ms)-1].ID
		}
		check("the newest message when all were removed", topic, tail)
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
			// Asked more than once: the place must hold while nothing happens here, and something does elsewhere.
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
