package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// story makes histories without a fault, to plant faults in. It is one topic that some publish to
// and some read, "plain", and one that is deleted in the middle, "deleted". Where the topology may
// lose something, a master that is replaced takes the end of its log with it.
type story struct {
	*history
	random *rand.Rand
	now    time.Duration
	count  int
	topic  string
	log    []entry
	// lost is what only the old master had, from the index branch of the log on.
	lost   []entry
	branch int
}

func newStory(seed uint64, lossy bool) *story {
	s := &story{random: rand.New(rand.NewPCG(seed, 0))}
	s.history = &history{logs: make(map[string][]entry), erased: make(map[string]map[hub.ID]bool), lossy: lossy}
	for _, topic := range []string{"plain", "deleted"} {
		s.topic, s.log, s.lost, s.erased[topic] = topic, nil, nil, make(map[hub.ID]bool)
		s.publishSome(20)
		s.branch = len(s.log)
		if lossy {
			// The old one goes on for less than a second, and the new one has the common part.
			from := s.now
			s.publishSome(10)
			s.losses = append(s.losses, loss{from: from, until: s.now + time.Second})
			s.log, s.lost = s.log[:s.branch:s.branch], s.log[s.branch:]
		}
		before := s.log
		if topic == "deleted" {
			s.now += 10 * time.Millisecond
			s.log = []entry{{id: s.nextID(), deleted: true}}
			s.now += 10 * time.Millisecond
		}
		s.publishSome(20)
		s.attempt("p1", "last", acknowledged, false, s.nextID())
		s.eraseSome()
		for i := range 6 {
			s.read(fmt.Sprintf("r%d", i), before)
		}
		var log []entry
		for _, e := range s.log {
			if !s.erased[topic][e.id] {
				log = append(log, e)
			}
		}
		s.logs[topic] = log
	}
	s.calms = []calm{{from: 0, to: s.now + time.Hour, back: time.Minute}}
	return s
}

func (s *story) nextID() hub.ID {
	return hub.ID(fmt.Sprintf("%d-%d", 1_700_000_000_000+s.now.Milliseconds(), s.random.IntN(1000)))
}

// attempt notes a call, and appends what it appended.
func (s *story) attempt(publisher, text string, o outcome, keyed bool, id hub.ID) {
	a := attempt{publisher: publisher, topic: s.topic, text: text, keyed: keyed, began: s.now, ended: s.now + time.Millisecond, outcome: o}
	s.now += 2 * time.Millisecond
	if o != acknowledged {
		a.err = errors.New("planted")
		// In a calm nothing of the kind happens.
		a.ended = a.began
		a.began -= time.Minute
	} else {
		a.id = id
	}
	s.attempts = append(s.attempts, a)
	if id != "" && (len(s.log) == 0 || s.log[len(s.log)-1].id != id) {
		s.log = append(s.log, entry{id: id, text: text})
	}
}

func (s *story) publishSome(n int) {
	for range n {
		s.count++
		publisher, text := fmt.Sprintf("p%d", s.random.IntN(3)), fmt.Sprintf("m%d", s.count)
		switch s.random.IntN(10) {
		case 0:
			s.attempt(publisher, text, rejected, false, "")
		case 1:
			s.attempt(publisher, text, unknown, false, "")
		case 2:
			s.attempt(publisher, text, unknown, false, s.nextID())
		case 3:
			id := s.nextID()
			s.attempt(publisher, text, unknown, true, id)
			s.attempt(publisher, text, acknowledged, true, id)
		case 4:
			batch := text
			for i := range 3 {
				s.attempt(publisher, fmt.Sprint(text, "/", i), acknowledged, false, s.nextID())
				s.attempts[len(s.attempts)-1].batch = batch
			}
		default:
			s.attempt(publisher, text, acknowledged, false, s.nextID())
		}
	}
}

// eraseSome erases messages, but neither the last one nor those of batches.
func (s *story) eraseSome() {
	for _, e := range s.log[:len(s.log)-1] {
		if !e.deleted && !strings.Contains(e.text, "/") && s.random.IntN(10) == 0 {
			s.erased[s.topic][e.id] = true
		}
	}
}

// read lets somebody read what there was before the topic was deleted, and then what is there.
func (s *story) read(name string, before []entry) {
	r := &reader{name: name, topic: s.topic, items: []item{{kind: joined}}}
	last, at := hub.ID(""), time.Duration(0)
	step := func(e entry) {
		if s.erased[s.topic][e.id] && s.random.IntN(2) == 0 {
			return
		}
		at += time.Millisecond
		if s.random.IntN(8) == 0 {
			r.items = append(r.items, item{kind: left, at: at}, item{kind: joined, at: at, id: last})
		}
		r.items = append(r.items, item{kind: message, at: at, id: e.id, text: e.text})
		last = e.id
	}
	tell := func() {
		g := item{kind: gap, at: at}
		if s.random.IntN(2) == 0 && s.topic == "plain" && s.branch > 0 {
			g.id = s.log[s.branch-1].id
			last = g.id
		}
		r.items = append(r.items, g)
	}
	var rest []entry
	if s.topic == "deleted" {
		for _, e := range before {
			step(e)
		}
		rest = s.log[1:]
	} else {
		for _, e := range s.log[:s.branch] {
			step(e)
		}
		rest = s.log[s.branch:]
	}
	n := 0
	if len(s.lost) > 0 {
		n = s.random.IntN(len(s.lost) + 1)
	}
	for _, e := range s.lost[:n] {
		step(e)
	}
	if n > 0 || s.topic == "deleted" {
		tell()
	}
	for _, e := range rest {
		step(e)
	}
	s.readers = append(s.readers, r)
}
