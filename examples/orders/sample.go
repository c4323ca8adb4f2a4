package main

import "time"

// samples are the orders that the shop opens with.
var samples = []basket{
	{"Ada Lovelace", []line{{"Field notebook", 3}, {"Enamel mug", 1}}},
	{"Grace Hopper", []line{{"Brass lantern", 1}}},
	{"Mary Somerville", []line{{"Wool blanket", 1}, {"Pocket compass", 2}}},
}

// sampleStore returns a store with a few orders. Nobody follows them yet, so nothing is to be
// published.
func sampleStore() *store {
	s := newStore()
	for i, b := range samples {
		items, err := b.check()
		if err != nil {
			continue
		}
		o := newOrder(newID(), b.Customer, items, time.Now())
		for _, a := range actions[:i] {
			if next, err := o.after(a, time.Now()); err == nil {
				o = next
			}
		}
		s.orders[o.ID] = &record{order: o, made: make(map[string]outcome)}
		s.ids = append(s.ids, o.ID)
	}
	return s
}
