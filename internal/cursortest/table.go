package cursortest

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// state is what a client states.
type state struct {
	name string
	// several is set for states that only a feed of several topics has.
	several bool
	// kind says what the topics bring, of which the first may be another one than the last.
	first, kind kind
	cursor      func(c *cell, f filled) string
}

// kind says what a topic brings.
type kind uint8

const (
	fresh     kind = iota // what it brings without a cursor
	malformed             // a gap, and then the same
	unknown               // a gap, and then the newest messages within the bound
	whole                 // a gap, and then all that is retained: nobody shares the bound
	deleted               // a gap, and then nothing
	anew                  // a gap, and then what was published since
	middle                // what is behind known
	tail                  // nothing
)

func (k kind) gap() bool { return malformed <= k && k <= anew }

// states are the states of the table. A single topic has the kind of the first.
var states = []state{
	{"nothing", false, fresh, fresh, func(*cell, filled) string { return "" }},
	{"no position", false, fresh, fresh, func(*cell, filled) string { return "v1.AAA" }},
	{"known", false, middle, middle, func(_ *cell, f filled) string { return f.cursors[known] }},
	{"tail", false, tail, tail, func(_ *cell, f filled) string { return f.cursors[published] }},
	{"trimmed", false, unknown, unknown, func(_ *cell, f filled) string { return f.cursors[trimmed] }},
	{"one trimmed", true, whole, tail, func(_ *cell, f filled) string { return f.cursors[trimmed] }},
	{"fewer topics", true, middle, fresh, func(_ *cell, f filled) string { return f.fewer[known] }},
	{"deleted", false, deleted, deleted, func(_ *cell, f filled) string { return f.cursors[known] }},
	{"former history", false, anew, anew, func(_ *cell, f filled) string { return f.cursors[published] }},
	{"foreign store", false, unknown, unknown, func(c *cell, _ filled) string {
		return fill(c.t, c.world.Other, c.topics, nil).cursors[known]
	}},
	{"foreign topics", true, unknown, unknown, func(c *cell, _ filled) string {
		return fill(c.t, c.world.Writer, []string{c.topics[0] + "/other", c.topics[1] + "/other"}, nil).cursors[known]
	}},
	{"plain", true, malformed, malformed, func(c *cell, _ filled) string {
		return clientOf(c.t, c.world.Writer, c.topics[:1]).cursor
	}},
	{"malformed", false, malformed, malformed, func(*cell, filled) string { return "not an ID" }},
	{"malformed vector", false, malformed, malformed, func(*cell, filled) string { return "v1.AAAA" }},
	{"beyond any length", false, malformed, malformed, func(*cell, filled) string { return strings.Repeat("9", 1<<15) }},
}

// starts are the starts of the table, with the message behind which each begins.
var starts = []struct {
	name  string
	after int
	at    func(since time.Time) hub.Position
}{
	{"Latest", published, func(time.Time) hub.Position { return hub.Latest() }},
	{"Earliest", published - Kept, func(time.Time) hub.Position { return hub.Earliest() }},
	{"Last", published - 2, func(time.Time) hub.Position { return hub.Last(2) }},
	{"Since", known, hub.Since},
}

// Run tests each cell of the table.
func Run(t *testing.T, w World) {
	cells := 0
	for _, topics := range []int{1, 3} {
		for _, s := range states {
			if s.several && topics == 1 {
				continue
			}
			for _, start := range starts {
				for _, snapshot := range []bool{false, true} {
					cells++
					name := fmt.Sprintf("%d topics, %s, %s, snapshot %v", topics, s.name, start.name, snapshot)
					t.Run(name, func(t *testing.T) {
						c := &cell{t: t, world: w, snapshot: snapshot}
						for i := range topics {
							c.topics = append(c.topics, fmt.Sprintf("cell/%d/%c", cells, 'a'+i))
						}
						var before []string
						if s.first == whole {
							before = c.topics[1:]
						}
						f := fill(t, w.Writer, c.topics, before)
						c.options = feed.Options{
							Start: start.at(f.since), ReplayMessages: share * topics, History: &feed.History{},
							Heartbeat: time.Hour, Retry: time.Millisecond, NoRotation: true, Logger: quiet,
						}
						c.cursor = s.cursor(c, f)
						c.run(s, start.after)
					})
				}
			}
		}
	}
}

// run asks for a stream and for pages, and compares them.
func (c *cell) run(s state, start int) {
	expect := want{after: make([]int, len(c.topics)), newest: published, gap: s.first.gap()}
	for i, topic := range c.topics {
		kind := s.kind
		if i == 0 || i < len(c.topics)-1 && s.kind == fresh {
			kind = s.first
		}
		if kind == deleted || kind == anew {
			if err := c.world.Writer.Delete(c.t.Context(), topic); err != nil {
				c.t.Fatal(err)
			}
			expect.newest = 0
		}
		if c.world.Trim != nil {
			c.world.Trim(topic)
		}
		switch kind {
		case anew:
			publish(c.t, c.world.Writer, topic, 1)
			publish(c.t, c.world.Writer, topic, 2)
			expect.newest = 2
		case deleted:
		case unknown:
			expect.after[i] = published - share
		case whole:
			expect.after[i] = published - Kept
		case malformed, fresh:
			expect.after[i] = start
		case middle:
			expect.after[i] = known
		case tail:
			expect.after[i] = published
		}
	}
	c.server = httptest.NewServer(c.handler())
	defer c.server.Close()
	// First, because they publish nothing. Topics share the bound anew in each request, so one page
	// is to bring all that is behind a gap of several.
	limit := "2"
	if s.first == unknown && len(c.topics) > 1 {
		limit = "100"
	}
	c.pages(limit, expect)
	if c.snapshot && (expect.gap || s.kind == fresh) {
		expect.snapshot = true
		for i := range expect.after {
			expect.after[i] = expect.newest
		}
	}
	c.stream(expect)
}

// messages returns the numbers of the messages that a topic is to bring.
func (w *want) messages(topic int) (numbers []int) {
	for n := w.after[topic] + 1; n <= w.newest; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

func (w *want) count() (n int) {
	for i := range w.after {
		n += w.newest - w.after[i]
	}
	return n
}

// pages reads pages until there is nothing more. A Snapshot does not matter to them.
func (c *cell) pages(limit string, expect want) {
	c.t.Helper()
	got, gaps, cursor := make(map[string][]int), 0, c.cursor
	for first := true; ; first = false {
		p := get(c.t, c.server.Config.Handler, url.Values{"after": {cursor}, "limit": {limit}})
		if limit == "2" && len(p.Messages) > 2 {
			c.t.Errorf("a page of %d messages", len(p.Messages))
		}
		if p.Gap {
			if gaps++; len(c.topics) == 1 && !first {
				c.t.Error("a gap in a later page")
			}
		}
		for _, m := range p.Messages {
			topic, n := split(c.t, m.Data)
			got[topic] = append(got[topic], n)
		}
		if p.Next == "" {
			c.t.Fatal("a page without next")
		}
		if cursor = p.Next; len(p.Messages) == 0 && !p.Gap {
			break
		}
	}
	c.compare("pages", expect, got, gaps)
}

func (c *cell) compare(what string, expect want, got map[string][]int, gaps int) {
	c.t.Helper()
	for i, topic := range c.topics {
		if want := expect.messages(i); !slices.Equal(got[topic], want) {
			c.t.Errorf("%s: messages of %s: got %v, want %v", what, topic, got[topic], want)
		}
	}
	if (gaps > 0) != expect.gap || gaps > len(c.topics) {
		c.t.Errorf("%s: %d gaps, want some: %v", what, gaps, expect.gap)
	}
}

// stream opens a stream, reads what is to come, and then a mark in each topic: what else was there
// would have come before. It comes back with the cursors that it was given.
func (c *cell) stream(expect want) {
	c.t.Helper()
	first := c.open(c.cursor)
	first.until(func() bool {
		return first.count >= expect.count() && (!expect.gap || first.gaps > 0) && (!expect.snapshot || first.snapshot > 0)
	})
	c.compare("stream", expect, first.got, first.gaps)
	if expect.gap && first.early > 0 {
		c.t.Errorf("%d messages before the gap", first.early)
	}
	if expect.gap && len(first.ids) == 0 {
		c.t.Error("nothing moves the client's cursor past the gap")
	}
	// Behind each message of one topic the rest comes, and no gap.
	if len(c.topics) == 1 {
		for k, id := range first.ids {
			rest := expect.messages(0)
			if skipped := len(rest) - (len(first.ids) - 1 - k); skipped > 0 {
				rest = rest[min(skipped, len(rest)):]
			}
			again := c.open(id)
			again.until(func() bool { return again.count >= len(rest) })
			c.compare(fmt.Sprintf("back with cursor %d", k), want{after: []int{expect.newest - len(rest)}, newest: expect.newest}, again.got, again.gaps)
			again.leave()
		}
	}
	c.marks(first, expect)
	if n := len(first.ids); n > 0 {
		back := c.open(first.ids[n-1])
		expect.after = slices.Repeat([]int{expect.newest + 1}, len(c.topics))
		back.gaps, expect.gap, expect.snapshot = 0, false, false
		expect.mark, expect.newest = 1, expect.newest+1
		c.marks(back, expect)
		back.leave()
	}
	first.leave()
}

// marks publishes one more message to each topic, which is to be the next that a stream gets.
func (c *cell) marks(s *stream, expect want) {
	c.t.Helper()
	for _, topic := range c.topics {
		publish(c.t, c.world.Writer, topic, expect.newest+1)
	}
	before := s.count
	s.until(func() bool { return s.count >= before+len(c.topics) })
	marked := expect
	marked.newest++
	c.compare("behind the mark", marked, s.got, s.gaps)
	if s.snapshot > 1 || s.snapshot > 0 && !expect.snapshot {
		c.t.Errorf("%d snapshots", s.snapshot)
	}
}
