package watermill

import (
	"slices"
	"sync"
	"time"
)

// probesKept bounds how many probes of a topic are remembered that have not come back.
const probesKept = 256

// probes are those that were sent to a topic. The zero value is ready.
type probes struct {
	mu      sync.Mutex              // innermost
	pending map[string]pendingProbe // those that have not come back, by token
	answers int                     // how many have
	highest uint64                  // the highest number of those
	checks  []*check
}

type pendingProbe struct {
	number uint64
	sent   time.Time
}

// add notes a probe that is about to be sent, for a check if that is not nil.
func (p *probes) add(token string, number uint64, c *check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending == nil || len(p.pending) >= probesKept {
		p.pending = make(map[string]pendingProbe)
	}
	p.pending[token] = pendingProbe{number, time.Now()}
	if c != nil {
		c.missing[number], c.last = true, number
	}
}

// answer returns the number of a probe that was sent to the topic and has not come back before.
// Others can see probes and send the like.
func (p *probes) answer(token string) (number uint64, ok bool) {
	if token == "" {
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.pending[token]
	if ok {
		delete(p.pending, token)
		p.answers++
		p.highest = max(p.highest, one.number)
	}
	return one.number, ok
}

// passed shows a probe that came back to the checks, and forgets those that it proves overtaken:
// all that were sent before where order is kept, else those that should have come back by now. It
// returns how many of them a subscription should have got that is proven, and whose probes come
// after since.
func (p *probes) passed(number uint64, ordered, proven bool, since uint64) (overtaken int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.checks {
		c.see(number)
	}
	for token, one := range p.pending {
		if one.number >= number || !ordered && time.Since(one.sent) < probeWait {
			continue
		}
		delete(p.pending, token)
		// Else it was sent before the subscription delivered anything.
		if proven && one.number > since {
			overtaken++
		}
	}
	return overtaken
}

// begin has a check see what comes back.
func (p *probes) begin(c *check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks = append(p.checks, c)
}

func (p *probes) end(c *check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks = slices.DeleteFunc(p.checks, func(other *check) bool { return other == c })
}

// came returns how many probes have come back, and whether one did that was sent after a check's
// row.
func (p *probes) came(c *check) (answers int, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers, p.highest > c.last
}

// some reports whether some of a check's row have come back.
func (p *probes) some(c *check) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.came > 0
}
