package backendtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

var publishFaults = []fault{
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
			if kept[id] == nil {
				kept[id] = m.Data
			}
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
}
