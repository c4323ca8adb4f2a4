package faults

import (
	"fmt"
	"slices"

	"github.com/headrace/headrace/hub"
)

// walk is a reader's way through its topic.
type walk struct {
	*checker
	r *reader

	at     hub.ID // where it stands
	from   hub.ID // after what nothing may be missing
	first  bool   // it has had nothing yet
	placed bool   // a gap has put it there: perhaps at an entry that is no message, such as an erasure
	said   bool   // a gap was said whose end only the next message tells
	seen   map[hub.ID]bool
	newest int // the log's index of the newest message that it has had, -1 for none
}

// checkReader: the messages of a topic come in its order, none twice, and nothing is missing
// without a gap. In the end the reader has the newest message.
func (c *checker) checkReader(r *reader) {
	w := &walk{checker: c, r: r, first: true, seen: make(map[hub.ID]bool), newest: -1}
	again := false // it has come back, and had nothing yet
	for i, it := range r.items {
		switch it.kind {
		case joined:
			if w.first {
				w.at, w.from = it.id, it.id
			} else if it.id != w.at {
				w.fail(i, "the test itself", fmt.Sprintf("the reader comes back after %q", it.id), it.id)
			}
			again = true
		case gap:
			// Who comes back to a history that does not have its message gets what is retained.
			if again && c.lossy {
				w.seen, w.newest = make(map[hub.ID]bool), -1
			}
			again = false
			if w.said = it.id == ""; !w.said {
				w.at, w.from, w.placed = it.id, it.id, true
			}
		case message:
			w.take(i, it)
			again = false
		}
	}
	log := c.logs[r.topic]
	for _, e := range slices.Backward(log) {
		if !e.deleted && !c.erased[r.topic][e.id] {
			if e.id != w.at {
				w.fail(len(r.items)-1, "not at the end", fmt.Sprintf("the newest message is %s %q", e.id, e.text), e.id)
			}
			return
		}
	}
}

func (w *walk) fail(i int, rule, what string, ids ...hub.ID) {
	v := violation{rule: rule, what: what, topic: w.r.topic, ids: ids, reader: w.r, item: i}
	if i >= 0 {
		v.at = w.r.items[i].at
		v.texts = append(v.texts, w.r.items[i].text)
	}
	w.checker.fail(v)
}

func (w *walk) take(i int, it item) {
	index, there := w.index[topicID{w.r.topic, it.id}]
	if w.seen[it.id] {
		w.fail(i, "twice", fmt.Sprintf("%s came before", it.id), it.id)
	}
	if !there && !w.lossy && !w.gone(w.r.topic, it.id) {
		w.fail(i, "seen and lost", fmt.Sprintf("%s is not in the log", it.id), it.id)
	}
	if there && index <= w.newest && !w.seen[it.id] {
		w.fail(i, "order", fmt.Sprintf("%s comes late", it.id), it.id)
	}
	w.seen[it.id], w.at = true, it.id
	if !there && w.lossy && w.erased[w.r.topic][it.id] && !w.deleted(w.r.topic, it.id) {
		return // erased or lost, nobody knows: the next one shows what is missing
	}
	if !w.said {
		w.follows(i, it.id)
	}
	if there {
		w.newest = index
	}
	w.from, w.first, w.said, w.placed = it.id, false, false, false
}

// follows: nothing is between the reader's position and the message that it gets.
func (w *walk) follows(i int, id hub.ID) {
	topic, log := w.r.topic, w.logs[w.r.topic]
	to, there := w.index[topicID{topic, id}]
	from, known := w.index[topicID{topic, w.from}]
	start := w.from == "" || isPosition(w.from)
	if !start && compareIDs(w.from, id) >= 0 {
		w.fail(i, "order", fmt.Sprintf("%s comes after %s", id, w.from), w.from, id)
		return
	}
	kept := known || start || w.placed || w.gone(topic, w.from)
	switch {
	case !there && !w.gone(topic, id):
		return // compareReaders looks at what was lost
	case !kept && w.first:
		return // it began at the end of what was lost
	case !kept:
		w.fail(i, "silent loss", fmt.Sprintf("%s, which it had, is not in the log, and no gap was said", w.from), w.from, id)
		return
	case start:
		from = -1
	}
	// What was erased is ordered by its ID.
	if !known && !start {
		for from = -1; from+1 < len(log) && compareIDs(log[from+1].id, w.from) <= 0; {
			from++
		}
	}
	for k := from + 1; k < len(log) && (there && k < to || !there && compareIDs(log[k].id, id) < 0); k++ {
		switch e := log[k]; {
		case e.deleted && w.from != "":
			w.fail(i, "silent loss", fmt.Sprintf("the topic was deleted between %s and %s, and no gap was said", w.from, id), w.from, id)
			return
		case !e.deleted && !w.erased[topic][e.id]:
			w.fail(i, "silent loss", fmt.Sprintf("%s %q is between %q and %s, and no gap was said", e.id, e.text, w.from, id), w.from, e.id, id)
			return
		}
	}
}

// sight is a message's number in a stretch, of a reader, without a gap.
type sight struct{ stretch, at int }

// compareReaders: of messages that the log has lost, the readers themselves are the witnesses. What
// one of them has had without a gap is not missing in between for another.
func (c *checker) compareReaders() {
	var stretches [][]sighted
	where := make(map[topicID][]sight)
	for _, r := range c.readers {
		stretches = append(stretches, nil)
		for i, it := range r.items {
			switch it.kind {
			case gap:
				stretches = append(stretches, nil)
			case message:
				n := len(stretches) - 1
				p := topicID{r.topic, it.id}
				where[p] = append(where[p], sight{n, len(stretches[n])})
				stretches[n] = append(stretches[n], sighted{r, i, it})
			}
		}
	}
	for _, list := range stretches {
		for i := 1; i < len(list); i++ {
			c.compare(stretches, where, list[i-1], list[i])
		}
	}
}

// sighted is an item of a reader.
type sighted struct {
	r  *reader
	at int
	item
}

func (c *checker) compare(stretches [][]sighted, where map[topicID][]sight, a, b sighted) {
	topic := a.r.topic
	_, kept := c.index[topicID{topic, a.id}]
	if _, both := c.index[topicID{topic, b.id}]; kept && both {
		return // checkReader has the log
	}
	for _, from := range where[topicID{topic, a.id}] {
		for _, to := range where[topicID{topic, b.id}] {
			if from.stretch != to.stretch {
				continue
			}
			for k := from.at + 1; k < to.at; k++ {
				if x := stretches[from.stretch][k]; !c.erased[topic][x.id] {
					c.fail(violation{
						rule: "silent loss", what: fmt.Sprintf("%s %q, which %s had, is between %s and %s, and no gap was said", x.id, x.text, x.r.name, a.id, b.id),
						topic: topic, at: b.item.at, ids: []hub.ID{a.id, x.id, b.id}, texts: []string{x.text}, reader: b.r, item: b.at,
					})
					return
				}
			}
		}
	}
}
