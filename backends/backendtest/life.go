package backendtest

import (
	"crypto/rand"
	"slices"

	"github.com/headrace/headrace/hub"
)

func deletedBeginsAnew(s *suite) {
	s.needDeletes()
	for i, b := range s.instances {
		deleteAndUseAgain(s, b, s.instance(i+1))
		deleteNothing(s, b)
	}
	deleteAmongPublishers(s)
	if s.traits.Ends {
		topic := s.topic()
		s.publish(s.b, topic, hub.Message{Type: "close", Final: true})
		s.delete(s.instance(1), topic)
		s.publish(s.b, topic, text("again"))
	}
}

// begun waits for the entry with which a deleted topic begins anew, and returns its ID.
func begun(s *suite, r *recorder, after int) (id hub.ID) {
	s.Helper()
	s.until(r, "the entry with Deleted", func(r *recorder) bool {
		for _, m := range r.messages[min(after, len(r.messages)):] {
			if m.Deleted {
				id = m.ID
			}
		}
		return id != ""
	})
	return id
}

func deleteAndUseAgain(s *suite, b, other hub.Backend) {
	topic := s.topic()
	var rs []*recorder
	var former []hub.ID // IDs that must be gaps
	for _, on := range s.instances {
		r, tail := s.follow(on, topic)
		rs, former = append(rs, r), append(former, tail)
	}
	keyed := text("keyed")
	if s.traits.Keys == hub.KeysStored {
		keyed.Key = "key"
	}
	want := append(s.publishN(other, topic, 4), s.publish(b, topic, keyed))
	// check looks at the topic from outside: begin and then retained are there, and nothing else.
	check := func(when string, begin hub.ID, retained ...hub.ID) {
		s.Helper()
		all := append([]hub.ID{begin}, retained...)
		for _, reader := range s.instances {
			ms, gap := s.readAll(reader, topic, "")
			if gap || !slices.Equal(ids(ms), all) || !ms[0].Deleted {
				s.Fatalf("%s: Read from the beginning: %s (gap: %v), want %s, the first with Deleted", when, list(ids(ms)), gap, list(all))
			}
			for _, id := range former {
				if ms, gap := s.readAll(reader, topic, id); !gap || !slices.Equal(ids(ms), all) {
					s.Fatalf("%s: Read after %q, an ID of before: %s (gap: %v), want a gap and %s", when, id, list(ids(ms)), gap, list(all))
				}
			}
			for n, id := range all {
				if p := s.read(reader, topic, id, 100); p.Gap || p.Deleted != (n == 0) || !slices.Equal(ids(p.Messages), all[n+1:]) {
					s.Fatalf("%s: Read after %q: %s, gap: %v, Deleted: %v, want %s, no gap, Deleted: %v",
						when, id, list(ids(p.Messages)), p.Gap, p.Deleted, list(all[n+1:]), n == 0)
				}
			}
			if p := s.read(reader, topic, "", 100); p.Deleted {
				s.Fatalf("%s: Read from the beginning: Page.Deleted", when)
			}
			if info := s.info(reader, topic); info.Exists != (len(retained) > 0) {
				s.Fatalf("%s: Info says that the topic exists: %v, and it has %d messages", when, info.Exists, len(retained))
			}
		}
	}
	for round := range 2 {
		former = append(former, want...)
		for _, r := range rs {
			s.delivered(r, want...)
		}
		seen := len(rs[0].got())
		s.delete(b, topic)
		begin := begun(s, rs[0], seen)
		for _, r := range rs[1:] {
			if got := begun(s, r, seen); got != begin {
				s.Fatalf("the topic begins anew with %q at one instance, and %q at another", begin, got)
			}
		}
		if !begin.Valid() || slices.Contains(former, begin) {
			s.Fatalf("the entry with Deleted has the ID %q: it is malformed, or was given before", begin)
		}
		check("after Delete", begin)
		s.delete(other, topic)
		check("after Delete of a topic that was deleted", begin)
		again := s.publish(other, topic, keyed)
		if slices.Contains(former, again) {
			s.Fatalf("round %d: a message of the new topic has the ID %q of the old one", round, again)
		}
		check("when the name is used again", begin, again)
		_, tail := s.follow(other, topic)
		s.exactly(b, topic, tail)
		want = []hub.ID{again, s.publish(b, topic, text("goes on"))}
		check("when the new topic goes on", begin, want...)
		for _, r := range rs {
			s.delivered(r, want...)
			live := ids(r.got()[seen:])
			if all := append([]hub.ID{begin}, want...); s.traits.Ordered && !slices.Equal(live, all) {
				s.Fatalf("delivered from Delete on: %s, want %s", list(live), list(all))
			}
		}
		former = append(former, begin)
	}
}

func deleteNothing(s *suite, b hub.Backend) {
	topic := s.topic()
	s.delete(b, topic)
	s.exactly(s.b, topic, "")
	r, tail := s.follow(s.b, topic)
	s.delete(b, topic)
	fence := s.fence(s.b, topic, r)
	if got := ids(r.got()); len(got) != 1 {
		s.Fatalf("Delete of a topic without messages: delivered: %s, want only %q", list(got), fence)
	}
	s.exactly(b, topic, tail, fence)
}

// deleteAmongPublishers deletes a topic while others publish to it.
func deleteAmongPublishers(s *suite) {
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	p := s.startPublishers(topic, 4, 25)
	s.until(r, "messages of running publishers", func(r *recorder) bool { return len(r.messages) >= 20 })
	s.delete(s.instance(1), topic)
	p.wait(s)
	begin := begun(s, r, 0)
	s.fence(s.b, topic, r)
	live := r.got()
	want := ids(live[slices.IndexFunc(live, func(m hub.Message) bool { return m.ID == begin }):])
	for _, b := range s.instances {
		ms, gap := s.readAll(b, topic, "")
		if got := ids(ms); gap || s.traits.Ordered && !slices.Equal(got, want) || !sameSet(got, want) {
			s.Fatalf("Read of a topic that was deleted: %s (gap: %v), delivered from then on: %s", list(got), gap, list(want))
		}
	}
}

func erasedIsGone(s *suite) {
	s.needDeletes()
	for i, b := range s.instances {
		eraseHere(s, b, s.instance(i+1))
		eraseNewest(s, b, s.instance(i+1))
	}
}

// erased erases a message and returns the ID of the entry that says so.
func erased(s *suite, b hub.Backend, topic string, id hub.ID, rs ...*recorder) (entry hub.ID) {
	s.Helper()
	s.erase(b, topic, id)
	for _, r := range rs {
		s.until(r, "the entry of an erasure", func(r *recorder) bool {
			i := slices.IndexFunc(r.messages, func(m hub.Message) bool { return m.Erases == id })
			if i >= 0 {
				entry = r.messages[i].ID
			}
			return i >= 0
		})
	}
	return entry
}

func eraseHere(s *suite, b, other hub.Backend) {
	topic := s.topic()
	var rs []*recorder
	var tails []hub.ID // of an empty topic: an instance may have its own
	for _, on := range s.instances {
		r, tail := s.follow(on, topic)
		rs, tails = append(rs, r), append(tails, tail)
	}
	m := s.publishN(b, topic, 6)
	for _, r := range rs {
		s.delivered(r, m...) // who has not had a message does not get it when it is erased
	}
	live := slices.Clone(m)
	left := slices.Clone(m)
	gone := make(map[hub.ID]bool)
	look := func() {
		s.Helper()
		for _, reader := range s.instances {
			s.exactly(reader, topic, "", left...)
			for _, tail := range tails {
				s.exactly(reader, topic, tail, left...)
			}
			// Before, at and after what was erased.
			for n, id := range m {
				rest := slices.DeleteFunc(slices.Clone(left), func(id hub.ID) bool { return slices.Contains(m[:n+1], id) })
				s.exactly(reader, topic, id, rest...)
			}
			var pages []hub.ID
			for after := hub.ID(""); ; {
				p := s.read(reader, topic, after, 1)
				if p.Gap || len(p.Messages) != 1 {
					break
				}
				pages, after = append(pages, p.Messages[0].ID), p.Next
			}
			if !slices.Equal(pages, left) {
				s.Fatalf("pages of one message: %s, want %s", list(pages), list(left))
			}
		}
	}
	// One from the middle, two beside each other, and the first.
	for _, n := range []int{2, 4, 3, 0} {
		entry := erased(s, other, topic, m[n], rs...)
		if entry == "" || !entry.Valid() || slices.Contains(live, entry) {
			s.Fatalf("the entry of an erasure has the ID %q: it is malformed, or was given before", entry)
		}
		gone[m[n]] = true
		live, left = append(live, entry), append(left, entry)
		left = slices.DeleteFunc(left, func(id hub.ID) bool { return gone[id] })
		look()
	}
	foreign := s.publish(b, s.topic(), text("another topic"))
	for _, id := range []hub.ID{m[2], m[0], tails[0], live[len(live)-1], foreign, hub.ID("backendtest~" + rand.Text())} {
		s.erase(other, topic, id) // nothing is there
	}
	look()
	next := s.publish(b, topic, text("goes on"))
	live, left = append(live, next), append(left, next)
	look()
	for n, r := range rs {
		s.delivered(r, next)
		chainOf(s, r, tails[n], live)
	}
	if s.c.Trim != nil {
		s.trim(topic)
		before, _ := s.readAll(b, topic, "")
		s.erase(b, topic, m[1])
		if after, _ := s.readAll(b, topic, ""); !slices.Equal(ids(after), ids(before)) {
			s.Fatalf("Erase of a message that is removed: %s, before: %s", list(ids(after)), list(ids(before)))
		}
	}
}

func eraseNewest(s *suite, b, other hub.Backend) {
	topic := s.topic()
	r, tail := s.follow(other, topic)
	m := s.publishN(b, topic, 2)
	s.delivered(r, m...)
	entry := erased(s, other, topic, m[1], r)
	var late []*recorder
	for _, reader := range s.instances {
		s.exactly(reader, topic, m[0], entry)
		s.exactly(reader, topic, m[1], entry)
		s.exactly(reader, topic, entry)
		l, lateTail := s.follow(reader, topic)
		late = append(late, l)
		s.exactly(reader, topic, lateTail)
	}
	last := erased(s, b, topic, m[0], append(late, r)...)
	for _, reader := range s.instances {
		if info := s.info(reader, topic); info.Exists {
			s.Fatalf("all messages were erased, and Info is %+v", info)
		}
		for _, id := range []hub.ID{"", tail, m[0], m[1]} {
			s.exactly(reader, topic, id, entry, last)
		}
	}
	chainOf(s, r, tail, append(m, entry, last))
}

// chainOf ends the test unless a follower got these messages, and each names the one before.
func chainOf(s *suite, r *recorder, tail hub.ID, want []hub.ID) {
	s.Helper()
	ms := r.got()
	if got := ids(ms); s.traits.Ordered && !slices.Equal(got, want) {
		s.Fatalf("delivered: %s, want %s", list(got), list(want))
	}
	for n, m := range ms {
		if s.traits.Chained && m.Prev != tail {
			s.Fatalf("message %d, %q, has Prev %q, want %q", n, m.ID, m.Prev, tail)
		}
		tail = m.ID
	}
}
