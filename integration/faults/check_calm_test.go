package faults

import (
	"fmt"
	"time"

	"github.com/headrace/headrace/hub"
)

// checkCalms: some time after Redis takes writes again, everybody publishes and reads again.
func (c *checker) checkCalms() {
	for _, calm := range c.calms {
		if calm.back <= 0 {
			continue
		}
		from := calm.from + calm.back
		published := make(map[string][]*attempt)
		for i := range c.history.attempts {
			a := &c.history.attempts[i]
			if a.outcome == acknowledged && a.ended >= from && a.ended+calm.back < calm.to {
				published[a.topic] = append(published[a.topic], a)
			}
			due := max(a.began, calm.from) + calm.back
			if a.began >= from && a.ended < calm.to && a.outcome != acknowledged && !a.hasty || a.ended > due && due < calm.to {
				c.fail(violation{
					rule: "publishers are back", topic: a.topic, at: a.ended, texts: []string{a.text},
					what: fmt.Sprintf("%q, begun at %v, is %v, and Redis takes writes since %v: %v", a.text, ms(a.began), a.outcome, ms(calm.from), a.err),
				})
			}
		}
		for _, r := range c.readers {
			c.checkBack(r, calm, published[r.topic])
		}
	}
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// checkBack: a reader that is there gets what was published in the calm.
func (c *checker) checkBack(r *reader, calm calm, published []*attempt) {
	got := make(map[hub.ID]time.Duration)
	since := time.Duration(-1)
	type visit struct{ from, to time.Duration }
	var visits []visit
	for _, it := range r.items {
		switch it.kind {
		case joined:
			since = it.at
		case message:
			if _, before := got[it.id]; !before {
				got[it.id] = it.at
			}
		case left:
			visits = append(visits, visit{since, it.at})
			since = -1
		}
	}
	if since >= 0 {
		visits = append(visits, visit{since, 1 << 62})
	}
	for _, a := range published {
		for _, v := range visits {
			due := max(a.ended, v.from) + calm.back
			at, ok := got[a.id]
			_, kept := c.index[topicID{r.topic, a.id}]
			if due >= calm.to || v.to <= due || c.gone(r.topic, a.id) || !kept && c.lossy || ok && at <= due {
				continue
			}
			c.fail(violation{
				rule: "readers are back", topic: r.topic, at: due, ids: []hub.ID{a.id}, texts: []string{a.text}, reader: r, item: at2item(r, due),
				what: fmt.Sprintf("%s, acknowledged at %v, came at %v, and Redis takes writes since %v", a.id, ms(a.ended), ms(at), ms(calm.from)),
			})
			return
		}
	}
}

// at2item returns the reader's last item until a time.
func at2item(r *reader, at time.Duration) int {
	last := -1
	for i, it := range r.items {
		if it.at <= at {
			last = i
		}
	}
	return last
}
