package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

const (
	publishTimeout = 5 * time.Second
	firstWait      = 100 * time.Millisecond
	longestWait    = 5 * time.Second
)

// publisher publishes the events in the store: those of an order in the order of its versions. What
// cannot be published now is tried again until it is.
type publisher struct {
	hub   *hub.Hub
	store *store
	all   string // the topic of the changes of all orders

	ctx     context.Context // ends when nothing may be tried again
	cancel  context.CancelFunc
	retries sync.WaitGroup

	mu       sync.Mutex
	turns    map[string]chan struct{} // by order: has an element while somebody publishes its events
	retrying map[string]bool
	closed   bool
}

func newPublisher(h *hub.Hub, s *store, all string) *publisher {
	p := &publisher{hub: h, store: s, all: all, turns: make(map[string]chan struct{}), retrying: make(map[string]bool)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// topicOf is the topic of an order's own changes, as the template of the route has it.
func topicOf(id string) string { return hub.JoinTopic("orders", id) }

// tell publishes what is not published of an order. After an error, which is errUntold, it goes on
// trying by itself.
func (p *publisher) tell(ctx context.Context, id string) error {
	// Who made the request may leave. The change stays, so its message has to come.
	err := p.flush(context.WithoutCancel(ctx), id)
	if err == nil {
		return nil
	}
	slog.Warn("orders: publishing failed, will be tried again", "order", id, "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && !p.retrying[id] {
		p.retrying[id] = true
		p.retries.Go(func() { p.retry(id) })
	}
	return fmt.Errorf("%w: %w", errUntold, err)
}

func (p *publisher) retry(id string) {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		select {
		case <-time.After(wait):
		case <-p.ctx.Done():
			return
		}
		err := p.flush(p.ctx, id)
		// Whoever finds retrying set relies on it that the events are looked at once more.
		p.mu.Lock()
		_, more := p.store.oldest(id)
		over := err == nil && !more || errors.Is(err, hub.ErrClosed)
		if over {
			delete(p.retrying, id)
		}
		p.mu.Unlock()
		if over {
			return
		}
	}
}

// flush publishes the events of an order, oldest first, one at a time.
func (p *publisher) flush(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	turn := p.turn(id)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		next, ok := p.store.oldest(id)
		if !ok {
			return nil
		}
		if err := p.publish(ctx, next); err != nil {
			return err
		}
		p.store.sent(id)
	}
}

func (p *publisher) turn(id string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turns[id] == nil {
		p.turns[id] = make(chan struct{}, 1)
	}
	return p.turns[id]
}

// publish publishes an event to both topics, and finishes the order's own one when nothing can
// follow. It may be called again with the same event: the key, which is the client's own if it
// stated one, makes it the same message; where the backend has no keys, the version makes a second
// one harmless.
func (p *publisher) publish(ctx context.Context, u unsent) error {
	data, err := json.Marshal(u.event)
	if err != nil {
		return err
	}
	own := topicOf(u.event.ID)
	m := hub.Message{Type: u.event.MessageType(), Data: data, Key: u.key}
	if p.hub.Traits().Keys == hub.KeysNone {
		m.Key = ""
	}
	if _, err := p.hub.Publish(ctx, own, m); err != nil {
		return err
	}
	if m.Key != "" {
		// Keys count within a topic, and a client may use one again for another order.
		m.Key = u.event.ID + "." + u.key
	}
	if _, err := p.hub.Publish(ctx, p.all, m); err != nil {
		return err
	}
	if u.event.Final {
		_, err = p.hub.Finish(ctx, own)
	}
	return err
}

// close stops trying. An error says how many events are lost with the process.
func (p *publisher) close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.retries.Wait()
	if n := p.store.waiting(); n > 0 {
		return fmt.Errorf("orders: %d events were not published", n)
	}
	return nil
}
