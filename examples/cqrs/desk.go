package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"
)

// rooms of the hotel: three floors of four.
const (
	floors   = 3
	perFloor = 4
)

// remembered is how many of the newest commands the desk knows again.
const remembered = 1000

// desk is the model: the rooms, and what has happened to them and is not published yet. It may be
// used concurrently.
//
// An application keeps it in a database, in one transaction with the outbox. Everything else stays
// as it is.
type desk struct {
	id      string
	publish func(context.Context, event) error
	turn    chan struct{} // has an element while somebody publishes

	mu      sync.Mutex
	rooms   []room
	outbox  []event // oldest first
	decided map[string]bool
	order   []string // the keys of decided, oldest first
}

// newDesk returns a desk with all rooms free. publish is called for one event at a time, in their
// order, and again until it succeeds.
func newDesk(publish func(context.Context, event) error) *desk {
	d := &desk{id: rand.Text(), publish: publish, turn: make(chan struct{}, 1), decided: make(map[string]bool)}
	for floor := range floors {
		for i := range perFloor {
			d.rooms = append(d.rooms, room{Number: 100*(floor+1) + i + 1, State: free})
		}
	}
	d.outbox = []event{DeskOpened{fact{ID: d.id, Desk: d.id, At: time.Now()}}}
	return d
}

// handle decides a command, unless it was decided before, and publishes what has happened. When
// publishing fails it is called again with the same command: the room is not changed twice, and the
// event has the same ID.
func (d *desk) handle(ctx context.Context, id string, c command) error {
	d.decide(id, c)
	return d.publishOutbox(ctx)
}

// decide changes the room and notes the event in one step, so that neither is without the other.
func (d *desk) decide(id string, c command) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.decided[id] {
		return
	}
	d.decided[id] = true
	d.order = append(d.order, id)
	if len(d.order) > remembered {
		delete(d.decided, d.order[0])
		d.order = d.order[1:]
	}
	f := fact{ID: d.id + "." + id, Desk: d.id, Command: id, At: time.Now()}
	changed, makeEvent, err := room{}, (func(fact) event)(nil), error(refusal(fmt.Sprintf("there is no room %d", c.number())))
	r := d.room(c.number())
	if r != nil {
		changed, makeEvent, err = c.decide(*r)
	}
	if err != nil {
		d.outbox = append(d.outbox, CommandRefused{f, err.Error()})
		return
	}
	changed.Version++
	*r = changed
	f.Room = &changed
	d.outbox = append(d.outbox, makeEvent(f))
}

func (d *desk) room(number int) *room {
	for i := range d.rooms {
		if d.rooms[i].Number == number {
			return &d.rooms[i]
		}
	}
	return nil
}

// publishOutbox publishes what has happened, oldest first: an event that cannot be published holds
// up those after it. Handlers of several commands may come here at once; one publishes for all.
func (d *desk) publishOutbox(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.turn }()
	for {
		e := d.oldest()
		if e == nil {
			return nil
		}
		if err := d.publish(ctx, e); err != nil {
			return err
		}
		d.mu.Lock()
		d.outbox = d.outbox[1:]
		d.mu.Unlock()
	}
}

func (d *desk) oldest() event {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.outbox) == 0 {
		return nil
	}
	return d.outbox[0]
}

// view is the state that a page begins with.
type view struct {
	Desk  string `json:"desk"`
	Rooms []room `json:"rooms"`
}

func (d *desk) view() view {
	d.mu.Lock()
	defer d.mu.Unlock()
	return view{Desk: d.id, Rooms: append([]room(nil), d.rooms...)}
}
