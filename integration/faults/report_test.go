package faults

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// report returns all that helps to understand violations: the schedule, what happened and when, and
// what was going on around each.
func (w *world) report(h *history, found []violation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seed %d: %d violations. Again: make test-faults TOPOLOGY=%s SEED=%d TIME=%v\n\nThe schedule:\n",
		w.topology, w.seed, len(found), w.topology, w.seed, w.length)
	for _, s := range w.schedule {
		fmt.Fprintf(&b, "  %v\n", s)
	}
	b.WriteString("\nWhat happened:\n")
	for _, e := range w.happened {
		fmt.Fprintf(&b, "  %8v %s\n", ms(e.at), e.what)
	}
	rules := make(map[string]int)
	for _, v := range found {
		if rules[v.rule]++; rules[v.rule] <= 2 {
			w.explain(&b, h, v)
		}
	}
	b.WriteString("\nViolations of each rule:\n")
	for rule, n := range rules {
		fmt.Fprintf(&b, "  %5d %s\n", n, rule)
	}
	b.WriteString("\nErrors of readers:\n")
	for _, r := range w.readers {
		for text, n := range r.errors {
			fmt.Fprintf(&b, "  %s: %d × %s\n", r.name, n, text)
		}
	}
	fmt.Fprintf(&b, "\nThe end of the log:\n%s", tail(w.log.String(), 40))
	return b.String()
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// around is how much is shown on each side of what is wrong.
const around = 8

func (w *world) explain(b *strings.Builder, h *history, v violation) {
	fmt.Fprintf(b, "\n%v\n", v)
	if r := v.reader; r != nil {
		fmt.Fprintf(b, "  %s, around it:\n", r.name)
		for i := max(0, v.item-around); i < min(len(r.items), v.item+around); i++ {
			mark := "  "
			if i == v.item {
				mark = "->"
			}
			fmt.Fprintf(b, "  %s %v\n", mark, r.items[i])
		}
	}
	for i := range h.attempts {
		a := &h.attempts[i]
		if a.topic == v.topic && (slices.Contains(v.texts, a.text) || a.id != "" && slices.Contains(v.ids, a.id)) {
			fmt.Fprintf(b, "  %s published %q from %v to %v: %v %s %v\n", a.publisher, a.text, ms(a.began), ms(a.ended), a.outcome, a.id, a.err)
		}
	}
	for _, id := range v.ids {
		for i, e := range h.logs[v.topic] {
			if e.id == id {
				fmt.Fprintf(b, "  the log has it: number %d of %d, %s %q\n", i, len(h.logs[v.topic]), e.id, e.text)
			}
		}
		if h.erased[v.topic][id] {
			fmt.Fprintf(b, "  %s was to be erased\n", id)
		}
		had := 0
		for _, r := range h.readers {
			if r.topic == v.topic && slices.ContainsFunc(r.items, func(it item) bool { return it.kind == message && it.id == id }) {
				had++
			}
		}
		fmt.Fprintf(b, "  %d readers have had %s\n", had, id)
	}
	b.WriteString("  faults around it:\n")
	for _, e := range w.happened {
		if e.at > v.at-reportWindow && e.at < v.at+reportWindow {
			fmt.Fprintf(b, "    %8v %s\n", ms(e.at), e.what)
		}
	}
}

const reportWindow = 6 * time.Second

// summary is a line about a run.
func (w *world) summary(h *history) string {
	var outcomes [3]int
	for _, a := range h.attempts {
		outcomes[a.outcome]++
	}
	delivered, gaps, deleted, joins, lost := 0, 0, 0, 0, 0
	for _, r := range h.readers {
		for _, it := range r.items {
			switch it.kind {
			case message:
				delivered++
			case gap:
				if gaps++; r.topic == w.deleted {
					deleted++
				}
			case joined:
				joins++
			}
		}
	}
	there := make(map[topicID]bool)
	logged := 0
	for topic, log := range h.logs {
		for _, e := range log {
			there[topicID{topic, e.id}] = true
			logged++
		}
	}
	latest := time.Duration(0)
	for _, a := range h.attempts {
		if a.outcome == acknowledged && !there[topicID{a.topic, a.id}] && a.topic != w.deleted && !h.erased[a.topic][a.id] {
			lost++
			latest = max(latest, w.sinceSwitch(a))
		}
	}
	steps := 0
	for _, e := range w.happened {
		if strings.HasPrefix(e.what, "begins") {
			steps++
		}
	}
	return fmt.Sprintf("%s, seed %d: %d faults, %d switches; %d acknowledged, %d rejected, %d unknown, %d in the log, %d lost, the last one %v after the switch; %d delivered, %d gaps, %d of them where a topic is deleted, %d subscriptions",
		w.topology, w.seed, steps, len(w.switches), outcomes[acknowledged], outcomes[rejected], outcomes[unknown], logged, lost, ms(latest), delivered, gaps, deleted, joins)
}

// sinceSwitch returns how long before an acknowledgement the shard got another master, by the first
// who named it; 0 where that was not in the same step.
func (w *world) sinceSwitch(a attempt) time.Duration {
	at := time.Duration(-1)
	for _, s := range w.switches {
		same := !slices.ContainsFunc(w.settled, func(settled time.Duration) bool { return settled > s.at && settled < a.ended })
		if s.shard == w.site.topics[a.topic] && s.at < a.ended && same && at < 0 {
			at = s.at
		}
	}
	if at < 0 {
		return 0
	}
	return a.ended - at
}
