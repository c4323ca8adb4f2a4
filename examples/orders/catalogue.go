package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// product is something to buy. The price is the shop's: a client that orders does not state one.
type product struct {
	Name  string `json:"name"`
	Cents int64  `json:"cents"`
}

var catalogue = []product{
	{"Enamel mug", 1290},
	{"Field notebook", 749},
	{"Wool blanket", 8900},
	{"Brass lantern", 4650},
	{"Pocket compass", 2399},
}

// Limits keep the example small, and sums far from what an int64 holds.
const (
	maxOrders   = 500
	maxItems    = 10
	maxQuantity = 99
	maxCustomer = 60 // characters
)

// basket is the body of a request for a new order.
type basket struct {
	Customer string `json:"customer"`
	Items    []line `json:"items"`
}

type line struct {
	Product  string `json:"product"`
	Quantity int64  `json:"quantity"`
}

// check trims the customer's name and returns the items with their prices.
func (b *basket) check() ([]Item, error) {
	b.Customer = strings.TrimSpace(b.Customer)
	if n := utf8.RuneCountInString(b.Customer); n == 0 || n > maxCustomer || strings.ContainsFunc(b.Customer, unicode.IsControl) {
		return nil, invalid(fmt.Sprintf("a customer needs a name of at most %d characters", maxCustomer))
	}
	if len(b.Items) == 0 || len(b.Items) > maxItems {
		return nil, invalid(fmt.Sprintf("an order has 1 to %d items", maxItems))
	}
	items := make([]Item, len(b.Items))
	for i, l := range b.Items {
		at := slices.IndexFunc(catalogue, func(p product) bool { return p.Name == l.Product })
		if at < 0 {
			return nil, invalid("there is no such product")
		}
		if l.Quantity < 1 || l.Quantity > maxQuantity {
			return nil, invalid(fmt.Sprintf("a quantity is 1 to %d", maxQuantity))
		}
		items[i] = Item{Product: l.Product, Quantity: l.Quantity, Cents: catalogue[at].Cents}
	}
	return items, nil
}
