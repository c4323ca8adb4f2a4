package backendtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// A handle is one instance of a shared backend: several of them use one store in memory, and the
// path from the store to a handle can be broken like a network. It obeys every rule, so that the
// suite can be tested with one fault at a time.
type handle struct {
	store  *memory.Backend
	closed chan struct{}

	mu     sync.Mutex
	gone   bool
	down   chan struct{} // closed when the outage is over; nil while there is none
	broken map[string]bool
	gates  map[*gate]bool
}

func newHandle(store *memory.Backend) *handle {
	return &handle{store: store, closed: make(chan struct{}), broken: make(map[string]bool), gates: make(map[*gate]bool)}
}

func (h *handle) Traits() hub.Traits {
	t := h.store.Traits()
	t.Name, t.Shared, t.Durable = "lab", true, true
	return t
}

// reach waits until the store is reachable.
func (h *handle) reach(ctx context.Context) error {
	h.mu.Lock()
	gone, down := h.gone, h.down
	h.mu.Unlock()
	if gone {
		return fmt.Errorf("lab: %w: %w", hub.ErrRejected, hub.ErrClosed)
	}
	if down == nil {
		return nil
	}
	select {
	case <-down:
		return nil
	case <-h.closed:
		return fmt.Errorf("lab: %w: %w", hub.ErrRejected, hub.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("lab: %w: %w", hub.ErrRejected, ctx.Err())
	}
}

func (h *handle) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	if err := h.reach(ctx); err != nil {
		return "", err
	}
	return h.store.Publish(ctx, topic, m)
}

func (h *handle) Read(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
	if err := h.reach(ctx); err != nil {
		return hub.Page{}, err
	}
	return h.store.Read(ctx, topic, after, limit)
}

func (h *handle) Follow(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
	if err := h.reach(ctx); err != nil {
		return "", nil, err
	}
	g := &gate{sink: sink, topic: topic}
	h.mu.Lock()
	g.shut = h.broken[topic]
	h.gates[g] = true
	h.mu.Unlock()
	tail, stop, err := h.store.Follow(ctx, topic, g)
	if err != nil {
		return "", nil, err
	}
	return tail, func() {
		g.stopped.Store(true)
		stop()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.gates, g)
	}, nil
}

func (h *handle) PublishAll(ctx context.Context, topic string, ms []hub.Message) ([]hub.ID, error) {
	if err := h.reach(ctx); err != nil {
		return nil, err
	}
	return h.store.PublishAll(ctx, topic, ms)
}

func (h *handle) Seek(ctx context.Context, topic string, what hub.Seek) (hub.ID, error) {
	if err := h.reach(ctx); err != nil {
		return "", err
	}
	return h.store.Seek(ctx, topic, what)
}

func (h *handle) Info(ctx context.Context, topic string) (hub.Info, error) {
	if err := h.reach(ctx); err != nil {
		return hub.Info{}, err
	}
	return h.store.Info(ctx, topic)
}

func (h *handle) Delete(ctx context.Context, topic string) error {
	if err := h.reach(ctx); err != nil {
		return err
	}
	return h.store.Delete(ctx, topic)
}

func (h *handle) Erase(ctx context.Context, topic string, id hub.ID) error {
	if err := h.reach(ctx); err != nil {
		return err
	}
	return h.store.Erase(ctx, topic, id)
}

func (h *handle) Ping(ctx context.Context) error {
	if err := h.reach(ctx); err != nil {
		return err
	}
	return h.store.Ping(ctx)
}

func (h *handle) IsID(id hub.ID) bool { return h.store.IsID(id) }

func (h *handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gone {
		h.gone = true
		close(h.closed)
	}
	for g := range h.gates {
		g.stopped.Store(true)
	}
	return nil
}

func (h *handle) breakPath(topic string) (restore func()) {
	set := func(shut bool) {
		h.mu.Lock()
		h.broken[topic] = shut
		var gates []*gate
		for g := range h.gates {
			if g.topic == topic {
				gates = append(gates, g)
			}
		}
		h.mu.Unlock()
		for _, g := range gates {
			g.set(shut)
		}
	}
	set(true)
	return func() { set(false) }
}

func (h *handle) outage() (restore func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	down := make(chan struct{})
	h.down = down
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.down = nil
		close(down)
	})
}

// gate is the path from the store to one sink. Its lock is held while the sink runs, which keeps
// calls serial.
type gate struct {
	sink    hub.Sink
	topic   string
	stopped atomic.Bool

	mu   sync.Mutex
	shut bool
	lost hub.ID // the newest message that did not get through
}

func (g *gate) Deliver(ms ...hub.Message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stopped.Load():
	case g.shut:
		g.lost = ms[len(ms)-1].ID
	default:
		g.sink.Deliver(ms...)
	}
}

func (g *gate) Broken(error)    {}
func (g *gate) Restored(hub.ID) {}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	switch {
	case g.stopped.Load():
	case shut:
		g.lost = ""
		g.sink.Broken(context.DeadlineExceeded)
	default:
		g.sink.Restored(g.lost)
	}
}

// sinkFunc is a sink whose deliveries go through a function.
type sinkFunc struct {
	hub.Sink
	deliver func(ms []hub.Message)
}

func (s *sinkFunc) Deliver(ms ...hub.Message) { s.deliver(ms) }
