package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

// outbox publishes changes one after the other, in the order in which they were put in.
//
// Publishing right where a change is made has no good answer to a failure: the outcome may be
// unknown, one of the two topics may have the message and the other not, and a lock that keeps the
// order would be held while the backend takes its time. With the outbox a change that was made is
// published sooner or later, and a backend that is away delays the feeds and nothing else.
//
// What is in it is lost with the process. So are the tickets in memory, so here it fits; where the
// tickets outlive the process, the outbox has to be with them, as in redis.go.
type outbox struct {
	hub   *hub.Hub
	queue chan change
	done  chan struct{} // closed when run has returned
	lost  int           // changes that were not published; run's own until done

	ctx    context.Context // ends when what is left may not be published any more
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
}

const (
	outboxSize  = 1024 // changes that wait
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

func newOutbox(h *hub.Hub) *outbox {
	o := &outbox{hub: h, queue: make(chan change, outboxSize), done: make(chan struct{})}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	go o.run()
	return o
}

// put takes a change, or refuses it with errBusy: when too many wait for a backend that is away, or
// after close. It never blocks.
func (o *outbox) put(c change) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return errBusy
	}
	select {
	case o.queue <- c:
		return nil
	default:
		return errBusy
	}
}

// close refuses further changes and returns when those that wait are published, or with an error
// when ctx ends before.
func (o *outbox) close(ctx context.Context) error {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.queue)
	}
	o.mu.Unlock()
	defer o.cancel()
	select {
	case <-o.done:
	case <-ctx.Done():
		o.cancel()
		<-o.done
	}
	if o.lost > 0 {
		return fmt.Errorf("tickets: %d changes were not published", o.lost)
	}
	return nil
}

func (o *outbox) run() {
	defer close(o.done)
	for c := range o.queue {
		// After one that was lost nothing may follow: a change that is missing is better at the end
		// than in the middle.
		if o.lost > 0 || !o.publish(c) {
			o.lost++
		}
	}
}

func (o *outbox) publish(c change) bool {
	for _, topic := range c.topics() {
		if !o.send(topic, c) {
			return false
		}
	}
	return true
}

// send publishes a change to one topic, trying until it succeeds. It reports false when it may not
// go on.
func (o *outbox) send(topic string, c change) bool {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		if o.ctx.Err() != nil {
			return false
		}
		err := publish(o.ctx, o.hub, topic, c)
		switch {
		case err == nil:
			return true
		case errors.Is(err, hub.ErrClosed):
			return false
		case errors.Is(err, errUnpublishable):
			slog.Error("tickets: a change is left out of a feed", "topic", topic, "ticket", c.Ticket.ID, "version", c.Ticket.Version, "err", err)
			return true
		}
		slog.Warn("tickets: publishing failed, will be tried again", "topic", topic, "wait", wait, "err", err)
		select {
		case <-time.After(wait):
		case <-o.ctx.Done():
		}
	}
}
