package faults

import (
	"fmt"
	"slices"
	"time"

	"github.com/headrace/headrace/hub"
)

// violation is something that must not happen, and where it is seen.
type violation struct {
	rule, what string
	topic      string
	at         time.Duration
	ids        []hub.ID // of the messages that it is about
	texts      []string
	reader     *reader // nil where it is about the log
	item       int
}

func (v violation) String() string {
	who := ""
	if v.reader != nil {
		who = " " + v.reader.name
	}
	return fmt.Sprintf("%s: %s%s, at %v: %s", v.rule, v.topic, who, v.at.Round(time.Millisecond), v.what)
}

// topicID names an entry of a topic, over all histories of it.
type topicID struct {
	topic string
	id    hub.ID
}

// content is a message that somebody wanted to publish.
type content struct{ topic, text string }

// checker is a history with what is looked up in it.
type checker struct {
	*history
	found []violation

	index    map[topicID]int // of the log's entries
	began    map[string]hub.ID
	attempts map[content][]*attempt
	texts    map[topicID]string
	ids      map[content][]hub.ID
}

// check returns what is wrong with a history.
func check(h *history) []violation {
	c := &checker{
		history: h, index: make(map[topicID]int), began: make(map[string]hub.ID),
		attempts: make(map[content][]*attempt), texts: make(map[topicID]string), ids: make(map[content][]hub.ID),
	}
	for i := range h.attempts {
		a := &h.attempts[i]
		c.attempts[content{a.topic, a.text}] = append(c.attempts[content{a.topic, a.text}], a)
	}
	for topic, log := range h.logs {
		for i, e := range log {
			c.index[topicID{topic, e.id}] = i
			if e.deleted {
				c.began[topic] = e.id
			}
		}
	}
	c.identities()
	c.checkLogs()
	c.checkAcknowledged()
	c.checkPublishers()
	c.checkBatches()
	for _, r := range h.readers {
		c.checkReader(r)
	}
	c.compareReaders()
	c.checkCalms()
	slices.SortStableFunc(c.found, func(a, b violation) int { return int(a.at - b.at) })
	return c.found
}

func (c *checker) fail(v violation) { c.found = append(c.found, v) }

// gone reports whether a message need not be in the log: it was erased, or the topic was deleted
// behind it.
func (c *checker) gone(topic string, id hub.ID) bool {
	return c.erased[topic][id] || c.deleted(topic, id)
}

func (c *checker) deleted(topic string, id hub.ID) bool {
	began, ok := c.began[topic]
	return ok && compareIDs(id, began) < 0
}

// identities: an ID never has two contents, in no history of the topic; and a message is appended
// once, whatever its outcome. Only one with a key, which is published again when the new master has
// lost it with its key, has another ID there.
func (c *checker) identities() {
	sighted := func(topic string, id hub.ID, text string, at time.Duration, r *reader, i int) {
		p, m := topicID{topic, id}, content{topic, text}
		if before, ok := c.texts[p]; ok && before != text {
			c.fail(violation{
				rule: "one ID, two contents", what: fmt.Sprintf("%s is %q and %q", id, before, text),
				topic: topic, at: at, ids: []hub.ID{id}, texts: []string{before, text}, reader: r, item: i,
			})
			return
		}
		c.texts[p] = text
		if slices.Contains(c.ids[m], id) {
			return
		}
		c.ids[m] = append(c.ids[m], id)
		if len(c.ids[m]) == 1 {
			return
		}
		kept := 0
		for _, other := range c.ids[m] {
			if _, ok := c.index[topicID{topic, other}]; ok || c.gone(topic, other) {
				kept++
			}
		}
		if list := c.attempts[m]; kept > 1 || !c.lossy || len(list) > 0 && !list[0].keyed {
			c.fail(violation{
				rule: "appended twice", what: fmt.Sprintf("%q has the IDs %s", text, c.ids[m]),
				topic: topic, at: at, ids: c.ids[m], texts: []string{text}, reader: r, item: i,
			})
		}
	}
	for topic, log := range c.logs {
		for _, e := range log {
			if !e.deleted {
				sighted(topic, e.id, e.text, 0, nil, 0)
			}
		}
	}
	for i := range c.history.attempts {
		if a := &c.history.attempts[i]; a.outcome == acknowledged {
			sighted(a.topic, a.id, a.text, a.ended, nil, 0)
		}
	}
	for _, r := range c.readers {
		for i, it := range r.items {
			if it.kind == message {
				c.published(r.topic, it.text, it.at, r, i)
				sighted(r.topic, it.id, it.text, it.at, r, i)
			}
		}
	}
}

// published: nobody sees what nobody has published, or what was rejected.
func (c *checker) published(topic, text string, at time.Duration, r *reader, i int) {
	list := c.attempts[content{topic, text}]
	if len(list) == 0 {
		c.fail(violation{
			rule: "forged", what: fmt.Sprintf("%q was never published", text),
			topic: topic, at: at, texts: []string{text}, reader: r, item: i,
		})
		return
	}
	if !slices.ContainsFunc(list, func(a *attempt) bool { return a.outcome != rejected }) {
		c.fail(violation{
			rule: "rejected and there", what: fmt.Sprintf("%q was rejected", text),
			topic: topic, at: at, texts: []string{text}, reader: r, item: i,
		})
	}
}

// checkLogs: the log is in the order of its IDs.
func (c *checker) checkLogs() {
	for topic, log := range c.logs {
		for i, e := range log {
			if i > 0 && compareIDs(log[i-1].id, e.id) >= 0 {
				c.fail(violation{rule: "log", what: "IDs do not grow", topic: topic, ids: []hub.ID{log[i-1].id, e.id}})
			}
			if !e.deleted {
				c.published(topic, e.text, 0, nil, 0)
			}
		}
	}
}

// checkAcknowledged: what was acknowledged is there, or in what the topology may lose.
func (c *checker) checkAcknowledged() {
	for i := range c.history.attempts {
		a := &c.history.attempts[i]
		if _, there := c.index[topicID{a.topic, a.id}]; a.outcome != acknowledged || there || c.gone(a.topic, a.id) {
			continue
		}
		if c.lossy && slices.ContainsFunc(c.losses, func(l loss) bool { return l.covers(a.topic, a.ended) }) {
			continue
		}
		c.fail(violation{
			rule: "acknowledged and lost", what: fmt.Sprintf("%s %q is not in the log", a.id, a.text),
			topic: a.topic, at: a.ended, ids: []hub.ID{a.id}, texts: []string{a.text},
		})
	}
}

// checkPublishers: what a publisher publishes one after the other is in this order.
func (c *checker) checkPublishers() {
	type line struct{ publisher, topic string }
	last := make(map[line]*attempt)
	for i := range c.history.attempts {
		a := &c.history.attempts[i]
		at, there := c.index[topicID{a.topic, a.id}]
		if a.outcome != acknowledged || !there {
			continue
		}
		l := line{a.publisher, a.topic}
		if before := last[l]; before != nil && c.index[topicID{a.topic, before.id}] >= at && before.text != a.text {
			c.fail(violation{
				rule: "a publisher's order", what: fmt.Sprintf("%q came after %q", a.text, before.text),
				topic: a.topic, at: a.ended, ids: []hub.ID{before.id, a.id}, texts: []string{before.text, a.text},
			})
		}
		last[l] = a
	}
}

// checkBatches: what was published together is there together, or not at all.
func (c *checker) checkBatches() {
	batches := make(map[string][]*attempt)
	for i := range c.history.attempts {
		if a := &c.history.attempts[i]; a.batch != "" {
			batches[a.batch] = append(batches[a.batch], a)
		}
	}
	at := make(map[content]int)
	for topic, log := range c.logs {
		for i, e := range log {
			at[content{topic, e.text}] = i + 1
		}
	}
	for _, list := range batches {
		first, missing, apart := 0, 0, false
		for i, a := range list {
			n := at[content{a.topic, a.text}]
			switch {
			case n == 0:
				missing++
			case first == 0:
				first = n - i
			case n != first+i:
				apart = true
			}
		}
		erased := slices.ContainsFunc(list, func(a *attempt) bool {
			return slices.ContainsFunc(c.ids[content{a.topic, a.text}], func(id hub.ID) bool { return c.gone(a.topic, id) })
		})
		if !erased && (apart || missing > 0 && missing < len(list)) {
			c.fail(violation{
				rule: "a batch", what: fmt.Sprintf("%d of %d messages are missing, or they are apart", missing, len(list)),
				topic: list[0].topic, at: list[0].ended, texts: []string{list[0].text},
			})
		}
	}
}
