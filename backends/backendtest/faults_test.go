package backendtest

import (
	"context"
	"regexp"
	"slices"

	"github.com/headrace/headrace/hub"
)

// fault is a way to break one rule. The suite must find it under the rule's number.
type fault struct {
	rule  string
	name  string
	plant func(d *double)
	// also names other rules that may find it, because they cannot be tested without what the
	// fault destroys.
	also []string
}

// composed are rules that look at whole histories. What they say is of messages that are published,
// delivered and read, so they may find any fault.
var composed = []string{"P9", "P10", "L1", "L2", "L3", "L4", "L6", "S1", "D1"}

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

var faults = slices.Concat(publishFaults, batchFaults, lifeFaults, followFaults, readFaults, closeFaults)
