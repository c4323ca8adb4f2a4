package backendtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

// fault is a way to break one rule. The suite must find it under the rule's number.
type fault struct {
	rule  string
	name  string
	plant func(d *double)
	// also names other rules that may find it, because they cannot be tested without what the fault destroys.
	also []string
}

var labID = regexp.MustCompile(`^[0-9a-z]{12}-[0-9]+$`)

// onDeliver returns a follow whose sinks are wrapped.
func (d *double) onDeliver(wrap func(topic string, sink hub.Sink) hub.Sink) func(context.Context, string, hub.Sink) (hub.ID, func(), error) {
	follow := d.follow
	return func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
		return follow(ctx, topic, wrap(topic, sink))
	}
}

// onRead returns a read whose pages are changed.
func (d *double) onRead(change func(topic string, after hub.ID, limit int, p *hub.Page)) func(context.Context, string, hub.ID, int) (hub.Page, error) {
	read := d.read
	return func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
		p, err := read(ctx, topic, after, limit)
		if err == nil {
			change(topic, after, limit, &p)
		}
		return p, err
	}
}

// onMessage changes every message that is delivered or read.
func (d *double) onMessage(change func(m *hub.Message)) {
	d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
		return &sinkFunc{sink, func(ms []hub.Message) {
			ms = slices.Clone(ms)
			for i := range ms {
				change(&ms[i])
			}
			sink.Deliver(ms...)
		}}
	})
	d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
		for i := range p.Messages {
			change(&p.Messages[i])
		}
	})
}

var faults = []fault{
	{rule: "P1", name: "a message without data is acknowledged and dropped", also: []string{"P3"}, plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			if len(m.Data) == 0 && !m.Final && ctx.Err() == nil {
				return hub.ID(rand.Text()), nil
			}
			return publish(ctx, topic, m)
		}
	}},
	// P7 publishes one key at once and compares the IDs.
	{rule: "P2", name: "of publishers at once one gets the other's ID", also: []string{"P7"}, plant: func(d *double) {
		publish := d.publish
		var mu sync.Mutex
		var last hub.ID
		running := 0
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			mu.Lock()
			running++
			mu.Unlock()
			runtime.Gosched()
			id, err := publish(ctx, topic, m)
			mu.Lock()
			defer mu.Unlock()
			if running--; running > 0 && last != "" && err == nil {
				return last, nil
			}
			last = id
			return id, err
		}
	}},
	{rule: "P2", name: "an ID of a form that is not allowed", plant: func(d *double) {
		spell := func(id hub.ID) hub.ID {
			if strings.HasSuffix(string(id), "-151") {
				return id + "="
			}
			return id
		}
		d.onMessage(func(m *hub.Message) { m.ID, m.Prev = spell(m.ID), spell(m.Prev) })
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			id, err := publish(ctx, topic, m)
			return spell(id), err
		}
	}},
	{rule: "P3", name: "Binary is lost", plant: func(d *double) { d.onMessage(func(m *hub.Message) { m.Binary = false }) }},
	{rule: "P3", name: "Final is lost", also: []string{"R8"}, plant: func(d *double) { d.onMessage(func(m *hub.Message) { m.Final = false }) }},
	{rule: "P3", name: "headers are lost", also: []string{"P6"}, plant: func(d *double) { d.onMessage(func(m *hub.Message) { m.Headers = nil }) }},
	{rule: "P3", name: "CR LF becomes LF", plant: func(d *double) {
		d.onMessage(func(m *hub.Message) { m.Data = bytes.ReplaceAll(m.Data, []byte("\r\n"), []byte("\n")) })
	}},
	{rule: "P3", name: "no time", plant: func(d *double) { d.onMessage(func(m *hub.Message) { m.Time = time.Time{} }) }},
	{rule: "P4", name: "large messages come after small ones of the same page", plant: func(d *double) {
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
			slices.SortStableFunc(p.Messages, func(a, b hub.Message) int { return len(a.Data)/300 - len(b.Data)/300 })
			if n := len(p.Messages); n > 0 {
				p.Next = p.Messages[n-1].ID
			}
		})
	}},
	{rule: "P5", name: "rejected by a context that ended after the append", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			if err := ctx.Err(); err != nil {
				return "", errors.Join(hub.ErrRejected, err)
			}
			id, err := publish(context.WithoutCancel(ctx), topic, m)
			if ctx.Err() != nil {
				return "", errors.Join(hub.ErrRejected, ctx.Err())
			}
			return id, err
		}
	}, also: []string{"C2"}}, // it no longer hears the context during an outage
	{rule: "P6", name: "the data is not copied", plant: func(d *double) {
		publish := d.publish
		var mu sync.Mutex
		kept := make(map[hub.ID][]byte)
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			id, err := publish(ctx, topic, m)
			mu.Lock()
			defer mu.Unlock()
			kept[id] = m.Data
			return id, err
		}
		d.read = d.onRead(func(_ string, _ hub.ID, _ int, p *hub.Page) {
			mu.Lock()
			defer mu.Unlock()
			for i, m := range p.Messages {
				if data, ok := kept[m.ID]; ok {
					p.Messages[i].Data = data
				}
			}
		})
	}},
	{rule: "P6", name: "the message is changed in place", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			id, err := publish(ctx, topic, m)
			if m.Headers != nil {
				m.Headers["id"] = string(id)
			}
			return id, err
		}
	}, also: []string{"P3"}}, // whose own messages are what it compares with
	{rule: "P7", name: "keys are ignored", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			m.Key = ""
			return publish(ctx, topic, m)
		}
	}},
	{rule: "P7", name: "a key is forgotten with its message", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			if m.Key != "" {
				if p, err := d.store.Read(ctx, topic, "", 1); err == nil && len(p.Messages) == 0 {
					m.Key += string(p.Next)
				}
			}
			return publish(ctx, topic, m)
		}
	}},
	{rule: "P8", name: "a context that is done is not looked at", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			if ctx.Err() != nil {
				ctx = context.WithoutCancel(ctx)
			}
			return publish(ctx, topic, m)
		}
	}},

	{rule: "F1", name: "the message before the tail is delivered too", also: []string{"F8"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(topic string, sink hub.Sink) hub.Sink {
			p, _ := d.store.Read(context.Background(), topic, "", 1000)
			before := p.Messages[max(0, len(p.Messages)-1):]
			return &sinkFunc{sink, func(ms []hub.Message) {
				sink.Deliver(append(before, ms...)...)
				before = nil
			}}
		})
	}},
	{rule: "F1", name: "the 50th message is delivered twice", also: []string{"P4", "F8", "P2"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			n := 0
			return &sinkFunc{sink, func(ms []hub.Message) {
				sink.Deliver(ms...)
				if n++; n == 50 {
					sink.Deliver(ms...)
				}
			}}
		})
	}},
	{rule: "F2", name: "now and then delivery begins after Follow returned", plant: func(d *double) {
		var mu sync.Mutex
		follows := 0
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			mu.Lock()
			defer mu.Unlock()
			if follows++; follows%15 != 0 {
				return sink
			}
			begin := time.Now().Add(time.Second)
			return &sinkFunc{sink, func(ms []hub.Message) {
				if time.Now().After(begin) {
					sink.Deliver(ms...)
				}
			}}
		})
	}},
	// They begin at the tail of an empty topic.
	{rule: "F3", name: "the tail of an empty topic is 0", also: []string{"F8", "R5"}, plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if p, _ := d.store.Read(context.Background(), topic, "", 1); len(p.Messages) == 0 && err == nil {
				tail = "0"
			}
			return tail, stop, err
		}
	}},
	{rule: "F3", name: "the tail of an empty topic is empty", also: []string{"F8"}, plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if p, _ := d.store.Read(context.Background(), topic, "", 1); len(p.Messages) == 0 && err == nil {
				tail = ""
			}
			return tail, stop, err
		}
	}},
	// F5 and C1 count calls into the sink after the end.
	{rule: "F4", name: "Broken is called beside Deliver", also: []string{"F5", "C1"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			return &sinkFunc{sink, func(ms []hub.Message) {
				var wg sync.WaitGroup
				wg.Go(func() { sink.Broken(nil) })
				sink.Deliver(ms...)
				wg.Wait()
			}}
		})
	}},
	{rule: "F5", name: "stop does nothing", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, _, err := follow(ctx, topic, sink)
			return tail, func() {}, err
		}
	}},
	{rule: "F5", name: "stop waits for the sink", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			var running atomic.Int32
			tail, stop, err := follow(ctx, topic, &sinkFunc{sink, func(ms []hub.Message) {
				running.Add(1)
				defer running.Add(-1)
				sink.Deliver(ms...)
			}})
			return tail, func() {
				if running.Load() > 0 {
					time.Sleep(30 * time.Second) // it cannot be for ever: the bubble has to end
				}
				stop()
			}, err
		}
	}},
	{rule: "F5", name: "stop waits for the store", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			return tail, func() {
				_ = d.reach(context.Background())
				stop()
			}, err
		}
	}, also: []string{"C2"}}, // the suite cleans up during the outage
	{rule: "F6", name: "the context stops the following", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			if err == nil {
				context.AfterFunc(ctx, stop)
			}
			return tail, stop, err
		}
	}},
	{rule: "F7", name: "stop stops all who follow the topic", plant: func(d *double) {
		follow := d.follow
		var mu sync.Mutex
		stops := make(map[string][]func())
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			mu.Lock()
			defer mu.Unlock()
			stops[topic] = append(stops[topic], stop)
			return tail, func() {
				mu.Lock()
				all := stops[topic]
				delete(stops, topic)
				mu.Unlock()
				for _, stop := range all {
					stop()
				}
			}, err
		}
	}},
	{rule: "F7", name: "a second stop counts twice", plant: func(d *double) {
		follow := d.follow
		var mu sync.Mutex
		count := make(map[string]int)
		stops := make(map[string][]func())
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			tail, stop, err := follow(ctx, topic, sink)
			mu.Lock()
			defer mu.Unlock()
			count[topic]++
			stops[topic] = append(stops[topic], stop)
			return tail, func() {
				stop()
				mu.Lock()
				defer mu.Unlock()
				if count[topic]--; count[topic] == 0 {
					for _, stop := range stops[topic] {
						stop()
					}
				}
			}, err
		}
	}},
	{rule: "F8", name: "the first message has no Prev", plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink {
			first := true
			return &sinkFunc{sink, func(ms []hub.Message) {
				ms = slices.Clone(ms)
				if first {
					ms[0].Prev, first = "", false
				}
				sink.Deliver(ms...)
			}}
		})
	}},
	// F4 breaks the path too.
	{rule: "F9", name: "Restored is not called", also: []string{"F4"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink { return &silentSink{Sink: sink} })
	}},
	{rule: "F9", name: "messages are lost after Restored", also: []string{"F4"}, plant: func(d *double) {
		d.follow = d.onDeliver(func(_ string, sink hub.Sink) hub.Sink { return &hastySink{Sink: sink} })
	}},

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
	{rule: "R7", name: "an empty page is answered from a cache", also: []string{"F3", "R3", "R6", "F9"}, plant: func(d *double) {
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

	{rule: "C1", name: "Publish after Close is of unknown outcome", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			id, err := publish(ctx, topic, m)
			if errors.Is(err, hub.ErrClosed) {
				err = hub.ErrUnknown
			}
			return id, err
		}
	}},
	{rule: "C1", name: "Close does nothing", plant: func(d *double) { d.shutDown = func() error { return nil } }},
	{rule: "C1", name: "Close lets followers go on", plant: func(d *double) {
		d.shutDown = func() error {
			d.handle.mu.Lock()
			d.handle.gates = nil
			d.handle.mu.Unlock()
			return d.handle.Close()
		}
	}},
	{rule: "C2", name: "Read does not look at its context", plant: func(d *double) {
		read := d.read
		d.read = func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
			return read(context.WithoutCancel(ctx), topic, after, limit)
		}
	}},
	{rule: "C2", name: "Follow waits under a context that is done", plant: func(d *double) {
		follow := d.follow
		d.follow = func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
			if ctx.Err() != nil {
				<-d.closed
			}
			return follow(ctx, topic, sink)
		}
	}},
}

// silentSink swallows Restored.
type silentSink struct{ hub.Sink }

func (*silentSink) Restored(hub.ID) {}

// hastySink says Restored before the path is whole: it loses the next two deliveries.
type hastySink struct {
	hub.Sink
	lose int
}

func (s *hastySink) Restored(tail hub.ID) {
	s.lose = 2
	s.Sink.Restored(tail)
}

func (s *hastySink) Deliver(ms ...hub.Message) {
	if s.lose > 0 {
		s.lose--
		return
	}
	s.Sink.Deliver(ms...)
}
