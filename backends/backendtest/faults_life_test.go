package backendtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

// without returns a sink that does not get some messages.
func without(drop func(m hub.Message) bool) func(string, hub.Sink) hub.Sink {
	return func(_ string, sink hub.Sink) hub.Sink {
		return &sinkFunc{sink, func(ms []hub.Message) {
			if ms = slices.DeleteFunc(slices.Clone(ms), drop); len(ms) > 0 {
				sink.Deliver(ms...)
			}
		}}
	}
}

func isDeletion(m hub.Message) bool { return m.Deleted }
func isErasure(m hub.Message) bool  { return m.Erases != "" }

// elsewhere is what is named under a prefix, without it.
func elsewhere(topic string) string { return strings.TrimPrefix(topic, labRetention.Prefix) }

var lifeFaults = []fault{
	{rule: "L1", name: "followers are not told of a deletion", plant: func(d *double) {
		d.follow = d.onDeliver(without(isDeletion))
	}},
	{rule: "L1", name: "a peer's followers are not told of a deletion", plant: func(d *double) {
		if d.peer {
			d.follow = d.onDeliver(without(isDeletion))
		}
	}},
	{rule: "L1", name: "a deletion does nothing", also: []string{"C1"}, plant: func(d *double) {
		d.delete = func(context.Context, string) error { return nil }
	}},
	{rule: "L1", name: "an ID of before is no gap", plant: func(d *double) {
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			if labID.MatchString(string(after)) && len(p.Messages) > 0 && p.Messages[0].Deleted {
				p.Gap = false
			}
		})
	}},
	{rule: "L1", name: "the beginning of the new topic is not known", plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) { p.Deleted = false })
	}},
	{rule: "L1", name: "keys of before are known", plant: func(d *double) {
		publish := d.publish
		var mu sync.Mutex
		known := make(map[string]hub.ID)
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			mu.Lock()
			id, ok := known[topic+m.Key]
			mu.Unlock()
			if ok && m.Key != "" {
				return id, nil
			}
			id, err := publish(ctx, topic, m)
			mu.Lock()
			defer mu.Unlock()
			if m.Key != "" && err == nil {
				known[topic+m.Key] = id
			}
			return id, err
		}
	}},
	{rule: "L1", name: "a topic without messages is deleted", plant: func(d *double) {
		remove := d.delete
		d.delete = func(ctx context.Context, topic string) error {
			if info, err := d.store.Info(ctx, topic); err == nil && !info.Exists {
				_, _ = d.store.Publish(ctx, topic, text("so that there is something"))
			}
			return remove(ctx, topic)
		}
	}},
	{rule: "L2", name: "followers are not told of an erasure", also: []string{"R8"}, plant: func(d *double) {
		d.follow = d.onDeliver(without(isErasure))
	}},
	{rule: "L2", name: "an erasure is not read", plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
			p.Messages = slices.DeleteFunc(p.Messages, isErasure)
		})
	}},
	{rule: "L2", name: "an erasure does nothing", also: []string{"R8", "C1"}, plant: func(d *double) {
		d.erase = func(context.Context, string, hub.ID) error { return nil }
	}},
	{rule: "L2", name: "the erased message's ID is a gap", plant: func(d *double) {
		gone := d.noteErased()
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			p.Gap = p.Gap || gone(after)
		})
	}},
	{rule: "L2", name: "who is before the erased message has a gap", plant: func(d *double) {
		gone := d.noteErased()
		d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
			if len(p.Messages) > 0 && after != "" {
				before := p.Messages[0].Prev
				p.Gap = p.Gap || gone(before) && before != after
			}
		})
	}},
	{rule: "L2", name: "to erase what is not there is an error", plant: func(d *double) {
		erase := d.erase
		d.erase = func(ctx context.Context, topic string, id hub.ID) error {
			if p, _ := d.store.Read(ctx, topic, "", 1000); !slices.Contains(ids(p.Messages), id) && ctx.Err() == nil {
				return context.DeadlineExceeded
			}
			return erase(ctx, topic, id)
		}
	}, also: []string{"C2"}},
	{rule: "L2", name: "what is not there is erased again", plant: func(d *double) {
		erase := d.erase
		d.erase = func(ctx context.Context, topic string, id hub.ID) error {
			if p, err := d.store.Read(ctx, topic, "", 1000); err == nil && !slices.Contains(ids(p.Messages), id) {
				_, _ = d.store.Publish(ctx, topic, hub.Message{AfterEnd: true})
			}
			return erase(ctx, topic, id)
		}
	}, also: []string{"C2"}}, // it no longer waits for the store during an outage
	{rule: "L2", name: "an erasure names the retained message before it", plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			return &sinkFunc{sink, func(ms []hub.Message) {
				ms = slices.Clone(ms)
				for i, m := range ms {
					if m.Erases == m.Prev && isErasure(m) {
						ms[i].Prev = "0"
					}
				}
				sink.Deliver(ms...)
			}}
		})
	}},
	{rule: "L3", name: "a topic exists once it was there", plant: func(d *double) {
		d.info = func(ctx context.Context, topic string) (hub.Info, error) {
			info, err := d.handle.Info(ctx, topic)
			p, _ := d.store.Read(context.Background(), topic, "", 1)
			info.Exists = info.Exists || len(p.Messages) > 0
			return info, err
		}
	}},
	{rule: "L3", name: "the newest entry is taken for the newest message", plant: func(d *double) {
		d.info = func(ctx context.Context, topic string) (hub.Info, error) {
			info, err := d.handle.Info(ctx, topic)
			if p, _ := d.store.Read(context.Background(), topic, "", 1000); info.Exists && len(p.Messages) > 0 {
				info.Newest = p.Next
			}
			return info, err
		}
	}},
	{rule: "L3", name: "a topic that went on is finished", plant: func(d *double) {
		d.info = func(ctx context.Context, topic string) (hub.Info, error) {
			info, err := d.handle.Info(ctx, topic)
			p, _ := d.store.Read(context.Background(), topic, "", 1000)
			info.Finished = slices.ContainsFunc(p.Messages, func(m hub.Message) bool { return m.Final })
			return info, err
		}
	}},
	{rule: "L3", name: "a topic has expired", plant: func(d *double) {
		d.info = func(ctx context.Context, topic string) (hub.Info, error) {
			info, err := d.handle.Info(ctx, topic)
			if info.Exists {
				info.Expires = time.Unix(1, 0)
			}
			return info, err
		}
	}},
	{rule: "L4", name: "one message too many", plant: func(d *double) {
		seek := d.seek
		d.seek = func(ctx context.Context, topic string, what hub.Seek) (hub.ID, error) {
			if what.Messages > 0 {
				what.Messages++
			}
			return seek(ctx, topic, what)
		}
	}},
	{rule: "L4", name: "erasures count as messages", plant: func(d *double) {
		seek := d.seek
		d.seek = func(ctx context.Context, topic string, what hub.Seek) (hub.ID, error) {
			p, err := d.handle.Read(ctx, topic, "", 100)
			if n := len(p.Messages); err == nil && n > what.Messages && what.Messages > 0 && isErasure(p.Messages[n-1]) {
				return p.Messages[n-1-what.Messages].ID, nil
			}
			return seek(ctx, topic, what)
		}
	}},
	{rule: "L4", name: "bytes are no bound", plant: func(d *double) {
		seek := d.seek
		d.seek = func(ctx context.Context, topic string, what hub.Seek) (hub.ID, error) {
			what.Bytes = 0
			return seek(ctx, topic, what)
		}
	}},
	{rule: "L4", name: "since is later than was asked for", plant: func(d *double) {
		seek := d.seek
		d.seek = func(ctx context.Context, topic string, what hub.Seek) (hub.ID, error) {
			if !what.Since.IsZero() {
				what.Since = what.Since.Add(1)
			}
			return seek(ctx, topic, what)
		}
	}},
	{rule: "L5", name: "all is well always", plant: func(d *double) {
		d.ping = func(context.Context) error { return nil }
	}},
	{rule: "L5", name: "all is well while the store is down", plant: func(d *double) {
		d.ping = func(ctx context.Context) error { return d.store.Ping(ctx) }
	}},
	{rule: "L5", name: "an outage is never over", plant: func(d *double) {
		var mu sync.Mutex
		var failed error
		d.ping = func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if failed == nil && ctx.Err() == nil {
				failed = d.handle.Ping(ctx)
			}
			return failed
		}
	}},
	{rule: "L6", name: "the prefix is not looked at", plant: func(d *double) {
		publish, read := d.publish, d.read
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			return publish(ctx, elsewhere(topic), m)
		}
		d.read = func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
			return read(ctx, elsewhere(topic), after, limit)
		}
	}},
	{rule: "L6", name: "half is retained", plant: func(d *double) {
		d.read = d.onRead(func(topic string, after hub.ID, _ int, p *hub.Page) {
			if elsewhere(topic) != topic && after == "" {
				p.Messages = p.Messages[len(p.Messages)/2:]
			}
		})
	}},
	// All that uses two instances and does not take its own from where it was published.
	{rule: "S1", name: "another instance has another ID", also: []string{"P1", "P2", "P3", "P4", "P7", "F1", "F2", "F3", "F6", "F8", "F9", "R1", "R2", "R3", "R4", "R6", "R7", "R8", "C1"}, plant: func(d *double) {
		if d.peer {
			d.onMessage(func(m *hub.Message) { m.ID = "peer-" + m.ID })
		}
	}},
	{rule: "D1", name: "the store is truncated", plant: func(d *double) {
		if d.reopened {
			d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
				if n := len(p.Messages); after == "" && n > 0 {
					p.Messages = p.Messages[:n-1]
				}
			})
		}
	}},
	{rule: "D1", name: "IDs of before are gaps", plant: func(d *double) {
		if d.reopened {
			d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) { p.Gap = p.Gap || after != "" && len(p.Messages) > 0 })
		}
	}},
	{rule: "D1", name: "the tail of an empty topic is a gap", plant: func(d *double) {
		if d.reopened {
			d.read = d.onRead(func(_ string, after hub.ID, _ int, p *hub.Page) {
				if all, _ := d.store.Read(context.Background(), "", "", 1); len(all.Messages) == 0 && len(p.Messages) == 0 && after != "" {
					p.Gap = true
				}
			})
		}
	}},
	{rule: "D1", name: "ends are forgotten", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			m.AfterEnd = m.AfterEnd || d.reopened
			return publish(ctx, topic, m)
		}
	}},
	{rule: "D1", name: "keys are forgotten", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			if d.reopened {
				m.Key = ""
			}
			return publish(ctx, topic, m)
		}
	}},
	{rule: "D1", name: "erased messages come back", plant: func(d *double) {
		if d.reopened {
			d.onMessage(func(m *hub.Message) { m.Erases = "" })
		}
	}},
}

// noteErased notes what is erased, and returns what reports whether a message was.
func (d *double) noteErased() (gone func(hub.ID) bool) {
	erase := d.erase
	var mu sync.Mutex
	erased := make(map[hub.ID]bool)
	d.erase = func(ctx context.Context, topic string, id hub.ID) error {
		mu.Lock()
		erased[id] = true
		mu.Unlock()
		return erase(ctx, topic, id)
	}
	return func(id hub.ID) bool {
		mu.Lock()
		defer mu.Unlock()
		return erased[id]
	}
}
