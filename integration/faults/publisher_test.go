package faults

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// publishers publish side by side, two over each hub. Those with an odd number use keys.
const publishers = 4

// publisher publishes until the world has enough.
type publisher struct {
	world  *world
	hub    *hub.Hub
	name   string
	random *rand.Rand
	keys   bool
	count  int
	made   []attempt
}

// patience bounds a call. hasty is for callers who have none.
const (
	patience = 20 * time.Second
	hasty    = 100 * time.Millisecond
)

func (p *publisher) run(ctx context.Context) {
	for !isClosed(p.world.enough) && ctx.Err() == nil {
		topic := p.world.topics[p.random.IntN(len(p.world.topics))]
		wait := time.Duration(p.random.IntN(40)) * time.Millisecond
		switch {
		case p.keys && topic != p.world.deleted:
			// Whoever deletes a topic deletes its keys.
			p.persist(ctx, topic)
		case p.random.IntN(10) == 0:
			p.batch(ctx, topic)
		default:
			_, last := p.publish(ctx, topic, p.text(), "")
			if last != acknowledged {
				wait += 20 * time.Millisecond
			}
		}
		if p.random.IntN(10) > 0 { // else it goes on at once
			pause(ctx, wait)
		}
	}
}

// text returns a message that says who published it. Some are large.
func (p *publisher) text() string {
	p.count++
	text := fmt.Sprintf("%s/%d", p.name, p.count)
	switch p.random.IntN(60) {
	case 0:
		text += " " + strings.Repeat(p.name, 20_000)
	case 1, 2, 3:
		text += " " + strings.Repeat(p.name, 1000)
	}
	return text
}

// compact returns what stands for a message in the history.
func compact(data string) string {
	if len(data) < 64 {
		return data
	}
	begin, _, _ := strings.Cut(data[:32], " ")
	return fmt.Sprintf("%s+%d,%08x", begin, len(data), crc32.ChecksumIEEE([]byte(data)))
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return acknowledged
	case errors.Is(err, hub.ErrRejected):
		return rejected
	}
	return unknown
}

func (p *publisher) publish(ctx context.Context, topic, data, key string) (hub.ID, outcome) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a := attempt{publisher: p.name, topic: topic, text: compact(data), keyed: key != "", began: p.world.now()}
	if a.hasty = p.random.IntN(20) == 0; a.hasty {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hasty)
		defer cancel()
	}
	id, err := p.hub.Publish(ctx, topic, hub.Message{Data: []byte(data), Key: key})
	a.ended, a.outcome, a.id, a.err = p.world.now(), outcomeOf(err), id, err
	p.made = append(p.made, a)
	if err == nil {
		p.world.published(topic, id)
	}
	return id, a.outcome
}

// persist publishes a message with a key until it is acknowledged.
func (p *publisher) persist(ctx context.Context, topic string) {
	data := p.text()
	key := "key-" + compact(data)
	for ctx.Err() == nil {
		_, last := p.publish(ctx, topic, data, key)
		if last == acknowledged || isClosed(p.world.enough) {
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func (p *publisher) batch(ctx context.Context, topic string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var ms []hub.Message
	for range 2 + p.random.IntN(3) {
		ms = append(ms, hub.Message{Data: []byte(p.text())})
	}
	began := p.world.now()
	ids, err := p.hub.PublishAll(ctx, topic, ms)
	for i, m := range ms {
		a := attempt{
			publisher: p.name, topic: topic, text: compact(string(m.Data)), batch: fmt.Sprintf("%s/%d", p.name, p.count),
			began: began, ended: p.world.now(), outcome: outcomeOf(err), err: err,
		}
		if err == nil {
			a.id = ids[i]
		}
		p.made = append(p.made, a)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tidy erases a message now and then, and deletes a topic.
func (w *world) tidy(ctx context.Context, random *rand.Rand) {
	for !isClosed(w.enough) && pause(ctx, time.Duration(200+random.IntN(2000))*time.Millisecond) {
		call, cancel := context.WithTimeout(ctx, patience)
		h := w.hubs[random.IntN(len(w.hubs))]
		if random.IntN(8) == 0 {
			_ = h.Delete(call, w.deleted) // the log says whether it was
		} else if topic, id := w.anyPublished(random); id != "" {
			w.note(func() { w.erased[topic][id] = true })
			_ = h.Erase(call, topic, id)
		}
		cancel()
	}
}
