package backendtest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/headrace/headrace/hub"
)

var readFaults = []fault{
	{rule: "R1", name: "one message more than the limit", plant: func(d *double) {
		read := d.read
		d.read = func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
			return read(ctx, topic, after, limit+1)
		}
	}},
	{rule: "R1", name: "a page ends before a large message", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			i := slices.IndexFunc(p.Messages, func(m hub.Message) bool { return len(m.Data) > 512<<10 })
			if i == 0 && after != "" {
				p.Messages, p.Next = nil, after
			}
		})
	}},
	{rule: "R1", name: "a page skips its second message when there are many", plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, limit int, p *hub.Page) {
			if limit == 7 && len(p.Messages) > 2 {
				p.Messages = slices.Delete(p.Messages, 1, 2)
			}
		})
	}},
	{rule: "R2", name: "the beginning of an empty topic is a gap", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			p.Gap = p.Gap || after == "" && len(p.Messages) == 0
		})
	}},
	{rule: "R3", name: "an ID that was given once is never a gap", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			p.Gap = p.Gap && !labID.MatchString(string(after))
		})
	}, also: []string{"R4"}}, // some of the IDs it makes up look like that
	{rule: "R3", name: "a page after a gap is empty", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			if p.Gap && labID.MatchString(string(after)) && len(p.Messages) > 0 {
				p.Next, p.Messages = p.Messages[len(p.Messages)-1].ID, nil
			}
		})
	}, also: []string{"R4"}},
	// R6 and R8 ask for an unknown ID too.
	{rule: "R4", name: "an unknown ID is an error", also: []string{"R6", "R8"}, plant: func(d *double) {
		read := d.read
		d.read = func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
			if after != "" && !labID.MatchString(string(after)) {
				return hub.Page{}, errors.New("lab: malformed ID")
			}
			return read(ctx, topic, after, limit)
		}
	}},
	{rule: "R4", name: "an unknown ID panics", also: []string{"R6", "R8"}, plant: func(d *double) {
		read := d.read
		d.read = func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
			if after != "" && !labID.MatchString(string(after)) {
				panic("malformed ID")
			}
			return read(ctx, topic, after, limit)
		}
	}},
	{rule: "R4", name: "an unknown ID is taken for the beginning", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			p.Gap = p.Gap && labID.MatchString(string(after))
		})
	}},
	{rule: "R4", name: "after an unknown ID the oldest message is left out", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			if p.Gap && !labID.MatchString(string(after)) && len(p.Messages) > 1 {
				p.Messages = p.Messages[1:]
			}
		})
	}},
	{rule: "R4", name: "a message of another topic", also: []string{"R6", "R8"}, plant: func(d *double) {
		var mu sync.Mutex
		var foreign hub.Message
		publish, read := d.publish, d.read
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			id, err := publish(ctx, topic, m)
			mu.Lock()
			defer mu.Unlock()
			foreign = m
			foreign.ID = id
			return id, err
		}
		d.read = func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
			p, err := read(ctx, topic, after, limit)
			mu.Lock()
			defer mu.Unlock()
			if after != "" && !labID.MatchString(string(after)) && foreign.ID != "" {
				p.Messages = []hub.Message{foreign}
			}
			return p, err
		}
	}},
	{rule: "R5", name: "the tail of a topic that nobody follows is a gap", plant: func(d *double) {
		follow := d.follow
		var mu sync.Mutex
		let := make(map[hub.ID]bool)
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			return tail, func() {
				stop()
				mu.Lock()
				defer mu.Unlock()
				let[tail] = true
			}, err
		}
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			mu.Lock()
			defer mu.Unlock()
			p.Gap = p.Gap || let[after] && len(p.Messages) == 0
		})
	}},
	// F3 follows and R6 holds an empty topic, R3 reads at its newest place.
	{rule: "R5", name: "the newest message is a gap when it is removed", also: []string{"F3", "R6", "R3"}, plant: func(d *double) {
		publish := d.publish
		var mu sync.Mutex
		given := make(map[hub.ID]bool)
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			id, err := publish(ctx, topic, m)
			mu.Lock()
			defer mu.Unlock()
			given[id] = true
			return id, err
		}
		d.read = d.onRead(func(topic string, after hub.ID, _ int, p *hub.Page) {
			mu.Lock()
			defer mu.Unlock()
			if all, _ := d.store.Read(context.Background(), topic, "", 1); given[after] && len(all.Messages) == 0 {
				p.Gap = true
			}
		})
	}},
	{rule: "R6", name: "no Next on an empty page", also: []string{"R4"}, plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
			if len(p.Messages) == 0 {
				p.Next = ""
			}
		})
	}},
	{rule: "R6", name: "Next of an empty topic is a gap later", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			if after == "" && len(p.Messages) == 0 {
				p.Next = "0"
			}
		})
	}},
	{rule: "R6", name: "Next is one message too far back", plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
			if n := len(p.Messages); n > 1 {
				p.Next = p.Messages[n-2].ID
			}
		})
	}},
	// They ask for a place twice, before and after something was appended.
	{rule: "R7", name: "an empty page is answered from a cache", also: []string{"F3", "R3", "R6", "R8", "F9"}, plant: func(d *double) {
		type question struct {
			topic string
			after hub.ID
			limit int
		}
		read := d.read
		var mu sync.Mutex
		cache := make(map[question]hub.Page)
		d.read = func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
			mu.Lock()
			defer mu.Unlock()
			q := question{topic, after, limit}
			if p, ok := cache[q]; ok && after != "" {
				return p, nil
			}
			p, err := read(ctx, topic, after, limit)
			if err == nil && len(p.Messages) == 0 && !p.Gap {
				cache[q] = p
			}
			return p, err
		}
	}},
	{rule: "R8", name: "Final is never set", plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) { p.Final = false })
	}},
	{rule: "R8", name: "an erasure hides the end", plant: func(d *double) {
		d.read = d.onRead(func(topic string, after hub.ID, _ int, p *hub.Page) {
			all, err := d.handle.Read(context.Background(), topic, "", 100)
			m, _ := find(all.Messages, after)
			p.Final = p.Final && err == nil && !isErasure(m)
		})
	}},
	{rule: "R8", name: "Final is set when the page has the final message", plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
			p.Final = p.Final || slices.ContainsFunc(p.Messages, func(m hub.Message) bool { return m.Final })
		})
	}},
	// Of more than one page P2 compares the data.
	{rule: "R9", name: "pages share one buffer", also: []string{"P2"}, plant: func(d *double) {
		var mu sync.Mutex
		buf := make([]byte, 0, 4<<20)
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
			mu.Lock()
			defer mu.Unlock()
			buf = buf[:0]
			for i, m := range p.Messages {
				buf = append(buf, m.Data...)
				p.Messages[i].Data = buf[len(buf)-len(m.Data):]
			}
		})
	}},
}
