package backendtest

import (
	"context"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// double is a handle some of whose methods are replaced.
type double struct {
	*handle
	publish  func(ctx context.Context, topic string, m hub.Message) (hub.ID, error)
	follow   func(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error)
	read     func(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error)
	shutDown func() error

	publishAll func(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error)
	seek       func(ctx context.Context, topic string, what hub.Seek) (hub.ID, error)
	info       func(ctx context.Context, topic string) (hub.Info, error)
	delete     func(ctx context.Context, topic string) error
	erase      func(ctx context.Context, topic string, id hub.ID) error
	ping       func(ctx context.Context) error

	peer     bool // it is from Config.Peer
	reopened bool // it is from Config.Reopen
}

func newDouble(store *memory.Backend, peer, reopened bool, plant func(d *double)) *double {
	h := newHandle(store)
	d := &double{
		handle: h, publish: h.Publish, follow: h.Follow, read: h.Read, shutDown: h.Close, publishAll: h.PublishAll,
		seek: h.Seek, info: h.Info, delete: h.Delete, erase: h.Erase, ping: h.Ping, peer: peer, reopened: reopened,
	}
	plant(d)
	return d
}

func (d *double) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	return d.publish(ctx, topic, m)
}

func (d *double) Follow(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
	return d.follow(ctx, topic, sink)
}

func (d *double) Read(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
	return d.read(ctx, topic, after, limit)
}

func (d *double) PublishAll(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
	return d.publishAll(ctx, topic, ms)
}

func (d *double) Seek(ctx context.Context, topic string, what hub.Seek) (hub.ID, error) {
	return d.seek(ctx, topic, what)
}

func (d *double) Info(ctx context.Context, topic string) (hub.Info, error) { return d.info(ctx, topic) }

func (d *double) Delete(ctx context.Context, topic string) error { return d.delete(ctx, topic) }

func (d *double) Erase(ctx context.Context, topic string, id hub.ID) error {
	return d.erase(ctx, topic, id)
}

func (d *double) Ping(ctx context.Context) error { return d.ping(ctx) }

func (d *double) Close() error { return d.shutDown() }

const labAge = time.Hour

// The age is long beside Config.Timeout: the store's janitor must not begin while a fault holds a
// sink up, since a bubble's time stands still while it waits for a lock.
var labRetention = hub.Retention{Prefix: "retained/", Messages: 200, Bytes: 1 << 20, Age: 20 * time.Minute}

// labConfig gives every possibility that a Config can have. It belongs into a synctest bubble,
// where trimming by age takes no time.
func labConfig(plant func(d *double)) Config {
	return Config{
		New: func(t testing.TB) hub.Backend {
			store := memory.New(memory.Options{MaxAge: labAge, Retention: []hub.Retention{labRetention}})
			d := newDouble(store, false, false, plant)
			t.Cleanup(func() {
				_ = d.handle.Close() // whatever the fault made of Close
				_ = store.Close()
			})
			return d
		},
		Peer: func(t testing.TB, b hub.Backend) hub.Backend {
			d := newDouble(b.(*double).store, true, false, plant)
			t.Cleanup(func() { _ = d.handle.Close() })
			return d
		},
		Reopen: func(t testing.TB, b hub.Backend) hub.Backend {
			_ = b.Close()
			d := newDouble(b.(*double).store, false, true, plant)
			t.Cleanup(func() { _ = d.handle.Close() })
			return d
		},
		Retention: labRetention,
		Trim:      func(testing.TB, hub.Backend, string) { time.Sleep(labAge) },
		Break:     func(_ testing.TB, b hub.Backend, topic string) func() { return b.(*double).breakPath(topic) },
		Outage:    func(_ testing.TB, b hub.Backend) func() { return b.(*double).outage() },
	}
}
