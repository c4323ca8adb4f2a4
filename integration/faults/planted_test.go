package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

const stories = 30

// TestGoodHistories: there is nothing to say against histories without a fault.
func TestGoodHistories(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		for seed := range uint64(stories) {
			for _, v := range check(newStory(seed, lossy).history) {
				t.Errorf("lossy %v, seed %d: %v", lossy, seed, v)
			}
		}
	}
}

// planted are faults. Each is put into a good history at a random place. Where there is no such
// place it reports false.
var planted = []struct {
	name string
	// lossy: only where the topology may lose something.
	lossy bool
	plant func(s *story) bool
}{
	{"a message is dropped", false, func(s *story) bool {
		r, i := s.someItem(func(r *reader, i int) bool {
			return s.inLog(r.topic, r.items[i]) && r.items[i+1].kind == message && r.items[i-1].kind != gap
		})
		return r != nil && s.cut(r, i)
	}},
	{"two messages are swapped", false, func(s *story) bool {
		r, i := s.someItem(func(r *reader, i int) bool { return r.items[i-1].kind == message })
		if r == nil {
			return false
		}
		r.items[i], r.items[i-1] = r.items[i-1], r.items[i]
		s.mendJoins(r)
		return true
	}},
	{"a message comes twice", false, func(s *story) bool {
		r, i := s.someItem(func(*reader, int) bool { return true })
		if r == nil {
			return false
		}
		later := i + 1 + s.random.IntN(len(r.items)-i)
		for later < len(r.items) && r.items[later].kind != message {
			later++
		}
		// Who comes back to a master that does not know its message gets everything again.
		if s.lossy && slices.ContainsFunc(r.items[i:min(later+1, len(r.items))], func(it item) bool { return it.kind == gap }) {
			return false
		}
		r.items = slices.Insert(r.items, later, r.items[i])
		s.mendJoins(r)
		return true
	}},
	{"a forged ID", false, func(s *story) bool {
		r, i := s.someItem(func(r *reader, i int) bool { return s.inLog(r.topic, r.items[i]) })
		if r == nil {
			return false
		}
		r.items[i].id = s.nextID()
		s.mendJoins(r)
		return true
	}},
	{"a forged message", false, func(s *story) bool {
		r, i := s.someItem(func(*reader, int) bool { return true })
		if r == nil {
			return false
		}
		r.items[i].text = "forged"
		return true
	}},
	{"a forged message under an ID of its own", false, func(s *story) bool {
		r, i := s.someItem(func(*reader, int) bool { return true })
		if r == nil {
			return false
		}
		r.items[i].text, r.items[i].id = "forged", s.nextID()
		s.mendJoins(r)
		return true
	}},
	{"an ID with the contents of another one", false, func(s *story) bool {
		r, i := s.someItem(func(r *reader, i int) bool { return r.items[i-1].kind == message })
		if r == nil {
			return false
		}
		r.items[i].text = r.items[i-1].text
		return true
	}},
	{"a gap is not said", false, func(s *story) bool {
		for _, k := range s.random.Perm(len(s.readers)) {
			r := s.readers[k]
			at := slices.IndexFunc(r.items, func(it item) bool { return it.kind == gap })
			// Who had nothing before it does not know of what is gone, and what was erased may be.
			if at < 0 || !s.hadLast(r, r.items[:at]) {
				continue
			}
			r.items = slices.Delete(r.items, at, at+1)
			s.mendJoins(r)
			return true
		}
		return false
	}},
	{"what was lost is missing for one who had the rest of it", true, func(s *story) bool {
		for _, k := range s.random.Perm(len(s.readers)) {
			r := s.readers[k]
			for i := 1; i+1 < len(r.items); i++ {
				if r.items[i-1].kind == message && r.items[i].kind == message && r.items[i+1].kind == message &&
					!s.inLog(r.topic, r.items[i]) && !s.inLog(r.topic, r.items[i+1]) &&
					!s.erased[r.topic][r.items[i].id] && !s.deletedBefore(r, i+1) && s.witness(r, r.items[i-1:i+2]) {
					return s.cut(r, i)
				}
			}
		}
		return false
	}},
	{"an acknowledged message is lost", false, func(s *story) bool {
		a := s.someAttempt(func(a *attempt) bool { return a.outcome == acknowledged && s.inLog(a.topic, item{id: a.id}) })
		a.ended = s.safeTime(a) // after the switch
		s.forget(a.topic, a.id)
		return true
	}},
	{"an acknowledgement after the switch is lost", true, func(s *story) bool {
		a := s.someAttempt(func(a *attempt) bool {
			return a.topic == "plain" && a.outcome == acknowledged && !s.inLog(a.topic, item{id: a.id}) && !s.erased[a.topic][a.id]
		})
		if a == nil {
			return false
		}
		a.ended = s.losses[0].until + time.Second
		return true
	}},
	{"a rejected message is there", false, func(s *story) bool {
		for i := range s.attempts {
			if a := &s.attempts[i]; a.outcome == unknown && !a.keyed && slices.ContainsFunc(s.logs[a.topic], func(e entry) bool { return e.text == a.text }) {
				a.outcome = rejected
				return true
			}
		}
		return false
	}},
	{"a message is appended twice", false, func(s *story) bool {
		a := s.someAttempt(func(a *attempt) bool { return a.outcome == unknown && s.inText(a) })
		if a == nil {
			return false
		}
		log := s.logs[a.topic]
		last := log[len(log)-1]
		s.now += time.Second
		again := entry{id: s.nextID(), text: a.text}
		s.logs[a.topic] = append(log, again)
		for _, r := range s.readers {
			if r.topic == a.topic && r.items[len(r.items)-1].id == last.id {
				r.items = append(r.items, item{kind: message, at: s.now, id: again.id, text: again.text})
			}
		}
		return true
	}},
	{"the last message does not come", false, func(s *story) bool {
		r := s.readers[s.random.IntN(len(s.readers))]
		r.items = r.items[:len(r.items)-1]
		return true
	}},
	{"a publisher's messages change places", false, func(s *story) bool {
		for i := range s.attempts {
			for k := i + 1; k < len(s.attempts); k++ {
				a, b := &s.attempts[i], &s.attempts[k]
				if a.publisher == b.publisher && a.topic == b.topic && a.outcome == acknowledged && b.outcome == acknowledged && !a.keyed && !b.keyed &&
					s.inLog(a.topic, item{id: a.id}) && s.inLog(b.topic, item{id: b.id}) {
					s.attempts[i], s.attempts[k] = *b, *a
					return true
				}
			}
		}
		return false
	}},
	{"a batch is not whole", false, func(s *story) bool {
		a := s.someAttempt(func(a *attempt) bool { return a.batch != "" && s.inLog(a.topic, item{id: a.id}) })
		if a == nil {
			return false
		}
		for i := range s.attempts {
			if b := &s.attempts[i]; b.batch == a.batch {
				b.outcome, b.began = unknown, b.began-time.Minute
			}
		}
		s.forget(a.topic, a.id)
		return true
	}},
	{"a publisher is not back", false, func(s *story) bool {
		a := s.someAttempt(func(a *attempt) bool { return a.outcome == acknowledged })
		a.ended = a.began + 2*time.Minute
		s.losses = []loss{{until: time.Hour}}
		return true
	}},
	{"a reader is not back", false, func(s *story) bool {
		r, i := s.someItem(func(r *reader, i int) bool {
			return s.inLog(r.topic, r.items[i]) && slices.ContainsFunc(s.attempts, func(a attempt) bool { return a.id == r.items[i].id && a.ended > 0 })
		})
		if r == nil {
			return false
		}
		for k := i; k < len(r.items); k++ {
			r.items[k].at += 10 * time.Minute
		}
		for k := range s.attempts {
			if s.attempts[k].id == r.items[i].id {
				s.attempts[k].ended += time.Minute
			}
		}
		s.losses = []loss{{until: time.Hour}}
		return true
	}},
}

// TestPlantedFaults: each kind of fault is found, wherever it is.
func TestPlantedFaults(t *testing.T) {
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			n := 0
			for seed := range uint64(stories) {
				for _, lossy := range []bool{false, true} {
					if p.lossy && !lossy {
						continue
					}
					s := newStory(seed, lossy)
					if !p.plant(s) {
						continue
					}
					if n++; len(check(s.history)) == 0 {
						t.Errorf("lossy %v, seed %d: it is not found", lossy, seed)
					}
				}
			}
			if n < stories/4 {
				t.Errorf("planted in %d histories only", n)
			}
		})
	}
}

// someItem returns a message of a reader that has something before and behind it.
func (s *story) someItem(fits func(r *reader, i int) bool) (*reader, int) {
	for range 1000 {
		r := s.readers[s.random.IntN(len(s.readers))]
		i := 1 + s.random.IntN(len(r.items)-2)
		if r.items[i].kind == message && !s.erased[r.topic][r.items[i].id] && !s.erased[r.topic][r.items[i-1].id] && fits(r, i) {
			return r, i
		}
	}
	return nil, 0
}

func (s *story) someAttempt(fits func(a *attempt) bool) *attempt {
	for _, i := range s.random.Perm(len(s.attempts)) {
		if fits(&s.attempts[i]) {
			return &s.attempts[i]
		}
	}
	return nil
}

func (s *story) inLog(topic string, it item) bool {
	return slices.ContainsFunc(s.logs[topic], func(e entry) bool { return e.id == it.id })
}

// hadLast reports whether the last message of some items was not erased.
func (s *story) hadLast(r *reader, items []item) bool {
	for _, it := range slices.Backward(items) {
		if it.kind == message {
			return !s.erased[r.topic][it.id]
		}
	}
	return false
}

func (s *story) inText(a *attempt) bool {
	return slices.ContainsFunc(s.logs[a.topic], func(e entry) bool { return e.text == a.text })
}

// safeTime returns a time at which nothing may be lost, near to that of an attempt.
func (s *story) safeTime(a *attempt) time.Duration {
	at := a.ended
	for _, l := range s.losses {
		if l.covers(a.topic, at) {
			at = l.until + time.Millisecond
		}
	}
	return at
}

// forget makes that nobody has ever had a message.
func (s *story) forget(topic string, id hub.ID) {
	s.logs[topic] = slices.DeleteFunc(slices.Clone(s.logs[topic]), func(e entry) bool { return e.id == id })
	for _, r := range s.readers {
		if r.topic == topic {
			r.items = slices.DeleteFunc(slices.Clone(r.items), func(it item) bool { return it.kind == message && it.id == id })
			s.mendJoins(r)
		}
	}
}

func (s *story) cut(r *reader, i int) bool {
	r.items = slices.Delete(slices.Clone(r.items), i, i+1)
	s.mendJoins(r)
	return true
}

// mendJoins makes a reader come back after what it had last.
func (s *story) mendJoins(r *reader) {
	var last hub.ID
	for i := range r.items {
		switch it := &r.items[i]; {
		case it.kind == joined:
			it.id = last
		case it.id != "":
			last = it.id
		}
	}
}

func (s *story) deletedBefore(r *reader, i int) bool {
	log := s.logs[r.topic]
	return len(log) > 0 && log[0].deleted && compareIDs(r.items[i].id, log[0].id) < 0
}

// witness reports whether another reader has had these messages without a gap.
func (s *story) witness(r *reader, items []item) bool {
	for _, other := range s.readers {
		if other == r || other.topic != r.topic {
			continue
		}
		n := 0
		for _, it := range other.items {
			switch {
			case it.kind == message && n < len(items) && it.id == items[n].id:
				n++
			case it.kind == gap && n < len(items):
				n = 0
			}
		}
		if n == len(items) {
			return true
		}
	}
	return false
}
