package backendtest

import (
	"context"
	"errors"

	"github.com/headrace/headrace/hub"
)

var closeFaults = []fault{
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
	{rule: "C1", name: "Close does nothing", also: []string{"L5"}, plant: func(d *double) { d.shutDown = func() error { return nil } }},
	{rule: "C1", name: "Close lets followers go on", plant: func(d *double) {
		d.shutDown = func() error {
			d.mu.Lock()
			d.gates = nil
			d.mu.Unlock()
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
