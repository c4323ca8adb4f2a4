package main

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// store holds the tickets, and publishes each change that it makes: exactly those, each once, those
// of a ticket in the order of its versions, and only when they can be read. Its methods are safe
// for concurrent use, and what they return is the caller's. Besides what is wrong with a request
// they return errAway.
type store interface {
	// list returns all tickets, oldest first.
	list(ctx context.Context) ([]ticket, error)
	// get returns a ticket with its comments.
	get(ctx context.Context, id string) (thread, error)
	// create adds a new ticket.
	create(ctx context.Context, t thread) error
	// change makes one change to a ticket, or none when the ticket already is as it should become.
	change(ctx context.Context, id string, e edit) (thread, error)
	// close publishes what waits and releases the store, at the latest when ctx ends. An error
	// means that changes are lost.
	close(ctx context.Context) error
}

// newStore returns a store in Redis if that is where the backend keeps the messages: then all
// instances over it have the same tickets. With any other backend the tickets are in memory.
func newStore(backend hub.Backend, h *hub.Hub) store {
	if b, ok := backend.(interface{ Client() redis.UniversalClient }); ok {
		return newRedisStore(b.Client(), h)
	}
	return newMemoryStore(h)
}
