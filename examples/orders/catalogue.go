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
	switch n := utf8.RuneCountInString(b.Customer); {
	case n == 0:
		return nil, invalid("the name of the customer is missing")
	case n > maxCustomer:
		return nil, invalid(fmt.Sprintf("the name of the customer has %d characters, and may have %d", n, maxCustomer))
	case strings.ContainsFunc(b.Customer, unicode.IsControl):
		return nil, invalid("the name of the customer has control characters")
	}
	if len(b.Items) == 0 || len(b.Items) > maxItems {
		return nil, invalid(fmt.Sprintf("an order has 1 to %d items, not %d", maxItems, len(b.Items)))
	}
	items := make([]Item, len(b.Items))
	for i, l := range b.Items {
		at := slices.IndexFunc(catalogue, func(p product) bool { return p.Name == l.Product })
		if at < 0 {
			return nil, invalid(fmt.Sprintf("item %d: there is no such product", i+1))
		}
		if l.Quantity < 1 || l.Quantity > maxQuantity {
			return nil, invalid(fmt.Sprintf("item %d: a quantity is 1 to %d, not %d", i+1, maxQuantity, l.Quantity))
		}
		items[i] = Item{Product: l.Product, Quantity: l.Quantity, Cents: catalogue[at].Cents}
	}
	return items, nil
}
