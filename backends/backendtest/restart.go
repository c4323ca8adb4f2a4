package backendtest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/headrace/headrace/hub"
)

func instancesShare(s *suite) {
	if !s.traits.Shared {
		s.Skip("Traits.Shared is false")
	}
	for i, b := range s.instances {
		other := s.instance(i + 1)
		topic := s.topic()
		r, tail := s.follow(other, topic)
		want := s.publishN(b, topic, 5)
		for n, m := range s.delivered(r, want...) {
			if s.traits.Ordered && m.ID != want[n] {
				s.Fatalf("message %d is %q at the instance that published it, and %q at another", n, want[n], m.ID)
			}
			s.same("at another instance", m, text("message %d", slices.Index(want, m.ID)))
		}
		if !s.traits.Replay {
			continue
		}
		s.exactly(other, topic, tail, want...)
		for n, id := range want {
			s.exactly(other, topic, id, want[n+1:]...)
		}
	}
}

// remembered is a topic, and what Read has to say of it after a restart.
type remembered struct {
	topic string
	tail  hub.ID // before the first message
	ms    []hub.Message
	final bool
}

func messagesSurvive(s *suite) {
	if !s.traits.Durable {
		s.Skip("Traits.Durable is false")
	}
	s.needReplay()
	if s.c.Reopen == nil {
		s.Fatal("Traits.Durable is true, and Config.Reopen is not set: nobody has seen a restart")
	}
	keep := func(fill func(topic string, r *recorder)) *remembered {
		s.Helper()
		k := &remembered{topic: s.topic()}
		r, tail := s.follow(s.b, k.topic)
		k.tail = tail
		fill(k.topic, r)
		k.ms, _ = s.readAll(s.b, k.topic, "")
		k.final = len(k.ms) > 0 && k.ms[len(k.ms)-1].Final
		return k
	}
	keyed := text("keyed")
	if s.traits.Keys == hub.KeysStored {
		keyed.Key = "key"
	}
	var first hub.ID
	full := keep(func(topic string, _ *recorder) {
		first = s.publish(s.b, topic, keyed)
		s.publish(s.b, topic, hub.Message{Type: "größe", Data: bytes.Repeat([]byte("\x00\n\xff"), 5000), Binary: true,
			Headers: map[string]string{"a": "1", "b": ""}})
		s.publishN(s.b, topic, 20)
	})
	all := []*remembered{
		full,
		keep(func(string, *recorder) {}),
		keep(func(topic string, _ *recorder) {
			s.publish(s.b, topic, text("before"))
			s.publish(s.b, topic, hub.Message{Type: "close", Final: true})
		}),
	}
	var dead []hub.ID // IDs of before a deletion
	if s.traits.Deletes {
		all = append(all,
			keep(func(topic string, r *recorder) {
				m := s.publishN(s.b, topic, 4)
				erased(s, s.b, topic, m[1], r)
				erased(s, s.b, topic, m[3], r)
			}),
			keep(func(topic string, r *recorder) {
				dead = s.publishN(s.b, topic, 3)
				s.delete(s.b, topic)
				begun(s, r, 0)
				s.publish(s.b, topic, text("again"))
			}))
	}
	b := s.b
	for range 2 {
		old := b
		b = s.open(func(t testing.TB) hub.Backend { return s.c.Reopen(t, old) })
		for _, k := range all {
			survives(s, b, k)
		}
		if s.traits.Deletes {
			for _, id := range dead {
				if p := s.read(b, all[4].topic, id, 10); !p.Gap {
					s.Fatalf("after a restart: Read after %q, an ID of before the deletion: no gap", id)
				}
			}
		}
		if keyed.Key != "" {
			if id := s.publish(b, full.topic, keyed); id != first {
				s.Fatalf("after a restart: Publish with a known key returned %q, want %q", id, first)
			}
		}
		goesOn(s, b, all[:2])
	}
}

// survives ends the test unless all that is remembered of a topic is there after a restart.
func survives(s *suite, b hub.Backend, k *remembered) {
	s.Helper()
	got, gap := s.readAll(b, k.topic, "")
	want := ids(k.ms)
	if gap || !slices.Equal(ids(got), want) {
		s.Fatalf("after a restart: Read from the beginning: %s (gap: %v), before it: %s", list(ids(got)), gap, list(want))
	}
	for n, m := range got {
		s.same("after a restart", m, k.ms[n])
		if !m.Time.Equal(k.ms[n].Time) || m.Erases != k.ms[n].Erases || m.Deleted != k.ms[n].Deleted {
			s.Fatalf("after a restart message %q is %+v, before it: %+v", m.ID, m, k.ms[n])
		}
		s.exactly(b, k.topic, m.ID, want[n+1:]...)
	}
	if len(k.ms) == 0 || !k.ms[0].Deleted {
		s.exactly(b, k.topic, k.tail, want...)
	}
	_, tail := s.follow(b, k.topic)
	s.exactly(b, k.topic, tail)
	if !k.final {
		return
	}
	if p := s.read(b, k.topic, want[len(want)-1], 10); !p.Final {
		s.Fatal("after a restart: Read after the final message: not Final")
	}
	if s.traits.Ends {
		refusesEnded(s, "Publish after a restart", func() error {
			_, err := b.Publish(s.ctx, k.topic, text("behind the end"))
			return err
		})
	}
}

// goesOn publishes after a restart to what there was before.
func goesOn(s *suite, b hub.Backend, all []*remembered) {
	s.Helper()
	for _, k := range all {
		r, tail := s.follow(b, k.topic)
		id := s.publish(b, k.topic, text("after the restart"))
		if _, ok := find(k.ms, id); ok || id == k.tail {
			s.Fatalf("after a restart the ID %q is given again", id)
		}
		m, _ := find(s.delivered(r, id), id)
		if s.traits.Chained && m.Prev != tail {
			s.Fatalf("after a restart: Prev is %q, want the tail %q", m.Prev, tail)
		}
		s.exactly(b, k.topic, tail, id)
		m.Prev = ""
		k.ms = append(k.ms, m)
	}
}
