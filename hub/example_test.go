package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

// Publish to a topic, follow it, drop the subscription and resume where it ended.
func Example() {
	ctx := context.Background()
	backend := memory.New(memory.Options{})
	defer func() { _ = backend.Close() }()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}

	sub, err := h.Subscribe(ctx, "tickets/42", hub.Latest())
	if err != nil {
		log.Fatal(err)
	}
	for _, status := range []string{"created", "assigned", "closed"} {
		if _, err := h.Publish(ctx, "tickets/42", hub.Message{Type: status}); err != nil {
			log.Fatal(err)
		}
	}
	var last hub.ID
	for m, err := range sub.All() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("got", m.Type)
		last = m.ID
		break // the connection drops
	}

	// Finish is the last message: with it the loop below ends.
	if _, err := h.Finish(ctx, "tickets/42"); err != nil {
		log.Fatal(err)
	}
	sub, err = h.Subscribe(ctx, "tickets/42", hub.After(last))
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range sub.All() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("resumed with", m.Type)
	}
	if err := h.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// got created
	// resumed with assigned
	// resumed with closed
	// resumed with close
}

type Placed struct {
	Order int `json:"order"`
	Total int `json:"total"`
}

func (Placed) MessageType() string { return "placed" }

// A typed view of a topic publishes and receives values; they travel as JSON.
func ExampleTopic() {
	ctx := context.Background()
	backend := memory.New(memory.Options{})
	defer func() { _ = backend.Close() }()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}

	orders := hub.NewTopic[Placed](h, hub.JoinTopic("shops", "a/b", "orders"))
	fmt.Println(orders.Name())
	sub, err := orders.Subscribe(ctx, hub.Latest())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := orders.Publish(ctx, Placed{Order: 7, Total: 1250}); err != nil {
		log.Fatal(err)
	}
	for e, err := range sub.All() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Type, e.Value.Order, e.Value.Total, string(e.Data))
		break
	}
	if err := h.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// shops/a%2Fb/orders
	// placed 7 1250 {"order":7,"total":1250}
}

// A reader whose next messages are gone is told so, once and before any later message.
func ExampleMarkGaps() {
	ctx := context.Background()
	backend := memory.New(memory.Options{MaxMessages: 2})
	defer func() { _ = backend.Close() }()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	var ids []hub.ID
	for i := range 5 {
		id, err := h.Publish(ctx, "t", hub.Message{Data: fmt.Append(nil, i)})
		if err != nil {
			log.Fatal(err)
		}
		ids = append(ids, id)
	}

	sub, err := h.Subscribe(ctx, "t", hub.After(ids[0]))
	if err != nil {
		log.Fatal(err)
	}
	for _, err := range sub.All() {
		fmt.Println(errors.Is(err, hub.ErrGap))
	}

	sub, err = h.Subscribe(ctx, "t", hub.After(ids[0]), hub.MarkGaps())
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range sub.All() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(m.Data), m.Gap)
		if m.ID == ids[4] {
			break
		}
	}
	if err := h.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// true
	// 3 true
	// 4 false
}

// A right that is taken away ends the stream, also on other instances: here two hubs over one
// backend.
func ExampleHub_Lease() {
	ctx, cancel := context.WithCancel(context.Background()) // a request's
	defer cancel()
	backend := memory.New(memory.Options{})
	defer func() { _ = backend.Close() }()
	here, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	there, err := hub.New(backend, hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	members := map[string]bool{"ada": true, "ben": true}

	// The lease comes before the check, so that no revocation falls between the two.
	leased, err := here.Lease(ctx, "user/ada", "room/7")
	if err != nil {
		log.Fatal(err)
	}
	if !members["ada"] {
		log.Fatal("not a member")
	}
	sub, err := here.Subscribe(leased, "rooms/7", hub.Latest())
	if err != nil {
		log.Fatal(err)
	}

	// Elsewhere, first what the check looks at is changed.
	delete(members, "ada")
	if err := there.Revoke(ctx, "user/ada"); err != nil {
		log.Fatal(err)
	}
	for _, err := range sub.All() {
		fmt.Println("revoked:", errors.Is(err, hub.ErrRevoked))
	}
	for _, h := range []*hub.Hub{here, there} {
		if err := h.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output: revoked: true
}
