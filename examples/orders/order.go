package main

import (
	"fmt"
	"slices"
	"time"
)

// State is where an order stands.
type State string

// The states of an order. They are also the types of the messages, and so the names of the events
// in a browser.
const (
	Placed    State = "placed"
	Paid      State = "paid"
	Packed    State = "packed"
	Shipped   State = "shipped"
	Delivered State = "delivered"
	Cancelled State = "cancelled"
	Refunded  State = "refunded"
)

// stateNames are all states, for the description of the feeds.
var stateNames = []string{string(Placed), string(Paid), string(Packed), string(Shipped), string(Delivered), string(Cancelled), string(Refunded)}

// Order is an order of the shop. It is a value: a change makes a new one, and nobody writes to
// Items or History.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Items    []Item `json:"items"`
	State    State  `json:"state"`
	Version  int    `json:"version"` // 1 when placed, one more with each change
	Final    bool   `json:"final"`   // nothing can change any more

	// Amounts are in whole cents.
	TotalCents    int64 `json:"total_cents"`
	PaidCents     int64 `json:"paid_cents"`
	RefundedCents int64 `json:"refunded_cents"`

	History []Step `json:"history"` // one step for each version, oldest first
}

// Item is a product in an order, at the price it had then.
type Item struct {
	Product  string `json:"product"`
	Quantity int64  `json:"quantity"`
	Cents    int64  `json:"cents"` // for one
}

// Step is one change in the life of an order.
type Step struct {
	Version int       `json:"version"`
	State   State     `json:"state"`
	At      time.Time `json:"at"`
}

// OrderEvent is the message of a change: the whole order as it is since. Whoever has that version
// or a later one drops it, so it does no harm to get one twice, or to have seen its outcome before.
// In JSON it is the order itself, as in a snapshot.
type OrderEvent struct{ Order }

// MessageType implements hub.Typed.
func (e OrderEvent) MessageType() string { return string(e.State) }

// action is what can be done to an order.
type action struct {
	name string
	from []State
	to   State
}

var actions = []action{
	{"pay", []State{Placed}, Paid},
	{"pack", []State{Paid}, Packed},
	{"ship", []State{Packed}, Shipped},
	{"deliver", []State{Shipped}, Delivered},
	{"cancel", []State{Placed, Paid, Packed}, Cancelled},
	{"refund", []State{Cancelled, Shipped}, Refunded}, // of a cancelled order that was paid, or when the parcel was lost
}

// newOrder returns an order that has just been placed.
func newOrder(id, customer string, items []Item, at time.Time) Order {
	o := Order{ID: id, Customer: customer, Items: items, State: Placed, Version: 1, History: []Step{{1, Placed, at}}}
	for _, item := range items {
		o.TotalCents += item.Quantity * item.Cents
	}
	return o
}

// after returns the order as it is after an action, or a conflict.
func (o Order) after(a action, at time.Time) (Order, error) {
	if !slices.Contains(a.from, o.State) {
		return Order{}, conflict(fmt.Sprintf("cannot %s an order that is %s", a.name, o.State))
	}
	if a.to == Refunded && o.PaidCents == 0 {
		return Order{}, conflict("cannot refund an order that was never paid")
	}
	switch a.to {
	case Paid:
		o.PaidCents = o.TotalCents
	case Refunded:
		o.RefundedCents = o.PaidCents
	}
	o.State = a.to
	o.Version++
	o.Final = o.State == Delivered || o.State == Refunded || o.State == Cancelled && o.PaidCents == 0
	// Clipped, because the order before shares the array with whoever got it.
	o.History = append(slices.Clip(o.History), Step{o.Version, o.State, at})
	return o, nil
}

// Shop is the state that a page begins with.
type Shop struct {
	Orders    []Order `json:"orders"` // oldest first
	TillCents int64   `json:"till_cents"`
}

// tillOf returns what was paid less what was refunded. A sum kept beside the orders could come to
// disagree with them.
func tillOf(orders []Order) (cents int64) {
	for _, o := range orders {
		cents += o.PaidCents - o.RefundedCents
	}
	return cents
}
