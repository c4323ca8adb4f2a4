package backendtest

import (
	"crypto/rand"
	"slices"
	"strings"

	"github.com/headrace/headrace/hub"
)

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
	// What follows a retained message is proven to be all: readers would be told of losses that
	// never were.
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
			// The position after the last removed message may or may not be provable, but if it is,
			// nothing is missing there.
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

	// Whatever the answer, it is made of the topic's own newest messages and has an ID to go on
	// from.
	sound := func(b hub.Backend, after hub.ID) hub.Page {
		s.Helper()
		p := s.read(b, topic, after, 100)
		got := ids(p.Messages)
		switch {
		case !suffix(got, own):
			s.Fatalf("Read after %.40q: %s, the topic has %s", after, list(got), list(own))
		case p.Gap && len(got) != len(own) && !b.IsID(after):
			// Only of an ID that looks like its own a backend can tell what is newer.
			s.Fatalf("Read after %.40q: a gap and %s, want what is retained: %s", after, list(got), list(own))
		case !p.Next.Valid():
			s.Fatalf("Read after %.40q: Next is %q, which is no valid ID", after, p.Next)
		}
		if len(got) == 0 {
			// Nothing is newer than the ID, and so nothing comes after Next.
			s.exactly(b, topic, p.Next)
		}
		return p
	}

	// IDs that are nobody's.
	nobodys := []hub.ID{
		hub.ID("backendtest~" + rand.Text()), hub.ID(strings.Repeat("z", hub.MaxID)), "-", "~", ".", "_", "...",
		" ", "\x00", "a\nb", "a b", "$", "*", "+", "%s", "ü", "\xff", hub.ID(strings.Repeat("9", 10_000)), own[0] + " ", " " + own[0], own[0] + "\n",
	}
	// IDs that may look like the backend's own: it may know the position, as long as it tells no
	// lies about it.
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
