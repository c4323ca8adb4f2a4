package backendtest

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/headrace/headrace/hub"
)

// oneByOne publishes a batch message by message.
func (d *double) oneByOne(ctx context.Context, topic string, ms []hub.Message) (ids []hub.ID, err error) {
	for _, m := range ms {
		id, err := d.handle.Publish(ctx, topic, m)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
		runtime.Gosched()
	}
	return ids, nil
}

var batchFaults = []fault{
	{rule: "P9", name: "a batch is published message by message", plant: func(d *double) {
		d.publishAll = d.oneByOne
	}},
	{rule: "P9", name: "a batch is appended backwards", plant: func(d *double) {
		publishAll := d.publishAll
		d.publishAll = func(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
			ms = slices.Clone(ms)
			slices.Reverse(ms)
			ids, err := publishAll(ctx, topic, ms)
			slices.Reverse(ids)
			return ids, err
		}
	}},
	{rule: "P9", name: "a batch with a known key is left out as a whole", plant: func(d *double) {
		publishAll := d.publishAll
		d.publishAll = func(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
			known := slices.IndexFunc(ms, func(m hub.Message) bool { return m.Key == "known" })
			if known < 0 {
				return publishAll(ctx, topic, ms)
			}
			id, err := d.publish(ctx, topic, ms[known])
			return slices.Repeat([]hub.ID{id}, len(ms)), err
		}
	}},
	{rule: "P9", name: "keys of a batch are not stored", plant: func(d *double) {
		publishAll := d.publishAll
		d.publishAll = func(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
			ms = slices.Clone(ms)
			for i := range ms {
				if ms[i].Key == "new" {
					ms[i].Key = ""
				}
			}
			return publishAll(ctx, topic, ms)
		}
	}},
	{rule: "P9", name: "a batch is rejected after it was appended", plant: func(d *double) {
		publishAll := d.publishAll
		d.publishAll = func(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
			if err := ctx.Err(); err != nil {
				return nil, errors.Join(hub.ErrRejected, err)
			}
			ids, err := publishAll(context.WithoutCancel(ctx), topic, ms)
			if ctx.Err() != nil {
				return nil, errors.Join(hub.ErrRejected, ctx.Err())
			}
			return ids, err
		}
	}, also: []string{"C2"}}, // as with P5
	{rule: "P10", name: "messages are appended behind the end", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			m.AfterEnd = true
			return publish(ctx, topic, m)
		}
	}},
	{rule: "P10", name: "a batch is appended behind the end", plant: func(d *double) {
		publishAll := d.publishAll
		d.publishAll = func(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
			ms = slices.Clone(ms)
			for i := range ms {
				ms[i].AfterEnd = true
			}
			return publishAll(ctx, topic, ms)
		}
	}},
	{rule: "P10", name: "a topic ends twice", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			m.AfterEnd = m.AfterEnd || m.Final
			return publish(ctx, topic, m)
		}
	}},
	{rule: "P10", name: "a topic that went on stays finished", also: []string{"R8"}, plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			if m.AfterEnd {
				id, err := publish(ctx, topic, m)
				m.Final, m.Data = true, nil
				_, _ = publish(ctx, topic, m)
				return id, err
			}
			return publish(ctx, topic, m)
		}
	}},
	{rule: "P10", name: "the end is not named", plant: func(d *double) {
		publish := d.publish
		d.publish = func(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
			id, err := publish(ctx, topic, m)
			if errors.Is(err, hub.ErrEnded) {
				err = hub.ErrRejected
			}
			return id, err
		}
	}},
	{rule: "P10", name: "an erasure opens a topic that is finished", also: []string{"R8"}, plant: func(d *double) {
		erase := d.erase
		d.erase = func(ctx context.Context, topic string, id hub.ID) error {
			if err := erase(ctx, topic, id); err != nil {
				return err
			}
			if info, err := d.store.Info(ctx, topic); err != nil || !info.Finished {
				return err
			}
			_, err := d.store.Publish(ctx, topic, hub.Message{AfterEnd: true})
			return err
		}
	}},
}
