package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// live lives through one step, when what was before is whole again and its time has come. Steps
// that come too late then are left out.
func (w *world) live(s step) {
	w.rest(s.at)
	if w.now() > w.faultsUntil() {
		return
	}
	w.note(func() { w.settled = append(w.settled, w.now()) })
	var ends []func()
	moves, back := false, time.Duration(0)
	for _, f := range s.faults {
		w.happens("begins: %v", f)
		k := kindOf(f.kind)
		ends = append(ends, k.begin(w.site, f))
		moves, back = moves || k.moves, max(back, k.back)
		w.swallowed = w.swallowed || k.swallows
	}
	if moves && w.swallowed {
		back += oneTimeout
	}
	until := w.now() + s.lasts
	if moves {
		// It is over for those who find the new master, whatever is with the old one.
		pause(w.t.Context(), down/2)
		ctx, cancel := context.WithTimeout(w.t.Context(), until-w.now())
		for w.moved(ctx) != nil && pause(ctx, pollEvery) {
		}
		cancel()
		if from := w.now(); from < until {
			w.happens("the new master takes writes")
			pause(w.t.Context(), until-w.now())
			w.wasCalm(from, back)
		}
	} else {
		pause(w.t.Context(), until-w.now())
	}
	for i, end := range ends {
		end()
		w.happens("ends: %v", s.faults[i])
		if w.topology == "cluster" && s.faults[i].kind == "master frozen" {
			// It answers what it was sent before it hears that it was replaced, and nobody else can
			// tell its clients.
			w.note(func() { w.switches = append(w.switches, change{w.now(), s.faults[i].shard}) })
		}
	}
	w.back = back
}

// moved returns nil when there was a change of masters in the step that is under way, and all of
// them take writes.
func (w *world) moved(ctx context.Context) error {
	var last change
	w.note(func() {
		if n := len(w.switches); n > 0 {
			last = w.switches[n-1]
		}
	})
	if last.at < w.settled[len(w.settled)-1] {
		return errors.New("there is no other master")
	}
	return w.takesWrites(ctx)
}

// rest waits until Redis takes writes, all is whole and the time has come.
func (w *world) rest(until time.Duration) {
	ctx := w.t.Context()
	testenv.Eventually(w.t, "the servers", func() error { return w.takesWrites(ctx) })
	from := w.now()
	w.happens("takes writes")
	testenv.Eventually(w.t, "the servers", func() error { return w.isWhole(ctx) })
	w.happens("is whole")
	pause(ctx, until-w.now())
	w.wasCalm(from, w.back)
}

// wasCalm notes a calm that ends now. Who had to be back at some time after an earlier step still
// has until then.
func (w *world) wasCalm(from, back time.Duration) {
	w.due = max(w.due, from+back*time.Duration(w.slack))
	w.calms = append(w.calms, calm{from: from, to: w.now(), back: w.due - from})
}

// finish publishes a last message to each topic and returns their IDs.
func (w *world) finish() map[string]hub.ID {
	last := make(map[string]hub.ID)
	p := &publisher{world: w, hub: w.hubs[0], name: "last", random: w.made[0].random}
	for _, topic := range w.topics {
		for w.t.Context().Err() == nil && last[topic] == "" {
			p.count++
			text := fmt.Sprint("last/", p.count)
			if id, outcome := p.publish(w.t.Context(), topic, text, "key-"+text); outcome == acknowledged {
				last[topic] = id
			}
		}
	}
	w.lasts = p.made
	w.happens("the end is published")
	return last
}

// endPatience is how long readers have to get to the end. It decides only about those who never do.
const endPatience = 45 * time.Second

// catchUp waits until all readers are at the end, and lets new ones read everything.
func (w *world) catchUp(last map[string]hub.ID) {
	ctx, cancel := context.WithTimeout(w.t.Context(), endPatience)
	defer cancel()
	behind := func(r *reading) bool {
		newest := r.newest.Load()
		return newest == nil || *newest != last[r.topic]
	}
	for slices.ContainsFunc(w.readers, behind) && pause(ctx, 10*time.Millisecond) {
	}
	w.happens("readers are at the end, or never will be")
	for i, h := range w.hubs {
		for _, topic := range w.topics {
			w.readAll(i, h, topic, last[topic])
		}
	}
}

// readAll is a new reader, who gets all there is.
func (w *world) readAll(i int, h *hub.Hub, topic string, last hub.ID) {
	r := &reading{reader: &reader{name: fmt.Sprintf("new%d", i), topic: topic}, world: w, hub: h, errors: make(map[string]int)}
	w.readers = append(w.readers, r)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	sub, err := h.Subscribe(ctx, topic, hub.Earliest(), hub.MarkGaps())
	if err != nil {
		w.t.Errorf("a new reader of %s: %v", topic, err)
		return
	}
	defer sub.Close()
	r.note(item{kind: joined})
	for m, err := range sub.All() {
		if err != nil {
			r.errors[err.Error()]++
			return
		}
		if m.Gap {
			r.note(item{kind: gap})
		}
		if r.take(&m); m.ID == last {
			return
		}
	}
}

// history is all that was recorded. Nobody is at work any more.
func (w *world) history() *history {
	h := &history{logs: make(map[string][]entry), erased: w.erased, lossy: w.lossy}
	for _, c := range w.calms {
		// It is none from where a busy machine made servers think that a master is gone.
		for _, s := range w.switches {
			if c.from < s.at {
				c.to = min(c.to, s.at-down)
			}
		}
		h.calms = append(h.calms, c)
	}
	for _, p := range w.made {
		h.attempts = append(h.attempts, p.made...)
	}
	h.attempts = append(h.attempts, w.lasts...)
	for _, r := range w.readers {
		h.readers = append(h.readers, r.reader)
	}
	for _, topic := range w.sorted() {
		testenv.Eventually(w.t, "the log", func() (err error) {
			h.logs[topic], err = w.site.log(w.t.Context(), topic)
			return err
		})
	}
	for _, s := range w.switches {
		l := loss{topics: make(map[string]bool), until: s.at + afterSwitch*time.Duration(w.slack)}
		for topic, shard := range w.site.topics {
			if shard == s.shard {
				l.topics[topic] = true
			}
		}
		for _, at := range w.settled {
			if at <= s.at {
				l.from = at - afterSwitch // what a replica lacks at any time
			}
		}
		h.losses = append(h.losses, l)
	}
	return h
}

// afterSwitch is how long after it was replaced an old master may acknowledge what is lost.
const afterSwitch = time.Second
