package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

// readers are how many follow topics side by side.
const readers = 50

// manner is how a reader reads.
type manner struct {
	polls bool // it watches the subscription, as feeds do
	ends  bool // a gap ends its subscription
	// stays is after about how many messages it leaves, 0 for never.
	stays int
	// wanders: it comes back to any hub.
	wanders bool
}

var manners = []manner{{}, {polls: true}, {ends: true}, {stays: 40, wanders: true}, {polls: true, stays: 100, wanders: true}}

// reading is a reader that is at work.
type reading struct {
	*reader
	manner
	world  *world
	hub    *hub.Hub
	random *rand.Rand
	last   hub.ID
	newest atomic.Pointer[hub.ID] // last, for others
	left   int                    // messages until it leaves
	marks  bool                   // in spite of ends: it has just met a gap
	errors map[string]int
}

// errLeft ends a subscription of a reader who wants to leave.
var errLeft = errors.New("the reader leaves")

func (r *reading) note(it item) {
	it.at = r.world.now()
	r.items = append(r.items, it)
}

// run reads until ctx ends. The first subscription is begun when it returns from ready.
func (r *reading) run(ctx context.Context, ready func()) {
	for first := true; ctx.Err() == nil; first = false {
		if r.wanders {
			r.hub = r.world.hubs[r.random.IntN(len(r.world.hubs))]
		}
		if r.stays > 0 {
			r.left = 1 + r.random.IntN(2*r.stays)
		}
		began := r.world.now()
		sub, err := r.subscribe(ctx, first && r.last == "")
		if first {
			ready()
		}
		if err != nil {
			r.errors[err.Error()]++
			pause(ctx, 50*time.Millisecond)
			continue
		}
		if r.last == "" {
			r.last = sub.Start()
		}
		r.items = append(r.items, item{kind: joined, at: began, id: r.last})
		stop := context.AfterFunc(ctx, sub.Close)
		if r.polls {
			err = r.poll(ctx, sub)
		} else {
			err = r.all(sub)
		}
		stop()
		sub.Close()
		if ctx.Err() != nil {
			return
		}
		r.marks = errors.Is(err, hub.ErrGap)
		switch {
		case r.marks:
			r.note(item{kind: gap})
		case errors.Is(err, errLeft):
			r.note(item{kind: left})
			pause(ctx, time.Duration(r.random.IntN(800))*time.Millisecond)
			continue
		case err != nil:
			r.errors[err.Error()]++
		}
		r.note(item{kind: left})
	}
}

func (r *reading) subscribe(ctx context.Context, first bool) (*hub.Subscription, error) {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at := hub.Earliest()
	switch {
	case first && r.random.IntN(2) == 0:
		at = hub.Latest()
	case r.last != "":
		at = hub.After(r.last)
	}
	options := []hub.SubscribeOption{at, hub.UntilClosed()}
	if !r.ends || r.marks {
		options = append(options, hub.MarkGaps())
	}
	return r.hub.Subscribe(call, r.topic, options...)
}

// take notes a message. It reports false when the reader leaves now.
func (r *reading) take(m *hub.Message) bool {
	r.note(item{kind: message, id: m.ID, text: compact(string(m.Data))})
	r.last = m.ID
	id := m.ID
	r.newest.Store(&id)
	r.left--
	return r.stays == 0 || r.left > 0
}

func (r *reading) all(sub *hub.Subscription) error {
	for m, err := range sub.All() {
		if err != nil {
			return err
		}
		if m.Gap {
			r.note(item{kind: gap})
		}
		if !r.take(&m) {
			return errLeft
		}
	}
	return nil
}

// bell is a watcher.
type bell chan struct{}

// Wake implements hub.Watcher.
func (b bell) Wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func (r *reading) poll(ctx context.Context, sub *hub.Subscription) error {
	rings := make(bell, 1)
	sub.Watch(rings, rings)
	var buf [16]*hub.Entry
	for {
		b := sub.Poll(buf[:0], len(buf), 16<<10)
		switch b.Status {
		case hub.Ready:
			if b.Gap && len(b.Entries) == 0 && b.At != "" {
				r.note(item{kind: gap, id: b.At})
				r.last = b.At
			} else if b.Gap {
				r.note(item{kind: gap})
			}
			for _, e := range b.Entries {
				if !r.take(&e.Message) {
					return errLeft
				}
			}
		case hub.Ended:
			return b.Err
		case hub.Waiting:
			select {
			case <-rings:
			case <-ctx.Done():
				return ctx.Err()
			}
		case hub.Behind:
			return errors.New("a watched subscription is behind")
		}
	}
}
