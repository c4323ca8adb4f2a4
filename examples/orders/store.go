package main

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"
)

// store holds the orders in memory. A change and the event about it are one step, so that neither
// is without the other. Its methods are safe for concurrent use.
//
// An application keeps orders, keys and events in one database, and writes them in one transaction:
// then the events are an outbox.
type store struct {
	mu     sync.RWMutex
	orders map[string]*record
	ids    []string          // oldest first
	placed map[string]string // the orders that were placed with an idempotency key, by key
}

// record is an order with what belongs to it.
type record struct {
	order  Order
	made   map[string]outcome // by idempotency key; an order has few changes, so it has few
	unsent []unsent           // oldest first
}

// outcome is what came of a request that was made with an idempotency key.
type outcome struct {
	action string
	order  Order
}

// unsent is an event that waits to be published, with the idempotency key of its message.
type unsent struct {
	event OrderEvent
	key   string
}

func newStore() *store {
	return &store{orders: make(map[string]*record), placed: make(map[string]string)}
}

// get returns an order.
func (s *store) get(id string) (Order, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.orders[id]
	if r == nil {
		return Order{}, errNotFound
	}
	return r.order, nil
}

// view returns all orders, and the till.
func (s *store) view() Shop {
	s.mu.RLock()
	defer s.mu.RUnlock()
	orders := make([]Order, len(s.ids))
	for i, id := range s.ids {
		orders[i] = s.orders[id].order
	}
	return Shop{Orders: orders, TillCents: tillOf(orders)}
}

// place adds an order. Placed again with the same key it is the same order.
func (s *store) place(customer string, items []Item, key string) (Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.placed[key]; ok {
		first := s.orders[id].made[key].order
		if first.Customer != customer || !slices.Equal(first.Items, items) {
			return Order{}, errOtherRequest
		}
		return first, nil
	}
	if len(s.ids) >= maxOrders {
		return Order{}, errFull
	}
	o := newOrder(newID(), customer, items, time.Now())
	s.orders[o.ID] = &record{order: o, made: make(map[string]outcome)}
	s.ids = append(s.ids, o.ID)
	s.placed[key] = o.ID
	s.orders[o.ID].note(key, "", o)
	return o, nil
}

// newID returns the ID of a new order, at random: topics may outlive the orders, and a second order
// with the same ID would find the messages of the first.
func newID() string { return rand.Text()[:8] }

// change does something to an order. Done again with the same key it changes nothing, and what came
// of it the first time is returned.
func (s *store) change(id string, a action, key string) (Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.orders[id]
	if r == nil {
		return Order{}, errNotFound
	}
	if made, ok := r.made[key]; ok {
		if made.action != a.name {
			return Order{}, errOtherRequest
		}
		return made.order, nil
	}
	next, err := r.order.after(a, time.Now())
	if err != nil {
		return Order{}, err
	}
	r.order = next
	r.note(key, a.name, next)
	return next, nil
}

func (r *record) note(key, action string, o Order) {
	r.made[key] = outcome{action, o}
	r.unsent = append(r.unsent, unsent{OrderEvent{o}, key})
}

// oldest returns the oldest event of an order that is not published.
func (s *store) oldest(id string) (unsent, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.orders[id]
	if r == nil || len(r.unsent) == 0 {
		return unsent{}, false
	}
	return r.unsent[0], true
}

// sent takes the oldest event of an order away.
func (s *store) sent(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.orders[id]
	r.unsent = r.unsent[1:]
}

// waiting returns how many events are not published.
func (s *store) waiting() (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range s.orders {
		n += len(r.unsent)
	}
	return n
}
