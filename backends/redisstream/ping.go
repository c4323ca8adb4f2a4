package redisstream

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// Ping implements hub.Backend. It asks, over the connections of Publish, for an append that Redis
// carries out only if a key is there that never is: so whatever would refuse a message refuses
// this, be it that the server is a replica, loads its data, has no memory, or denies access. The
// error has the cause, see ErrUnreachable and the others. In a cluster it asks one server, and a
// cluster that needs all its slots says so.
//
// Ping returns when ctx ends, whatever the network does. While the server does not answer, a few
// of the calls are under way, and the others wait for them.
func (b *Backend) Ping(ctx context.Context) error {
	// No topic has an empty name.
	key := b.keys.stream("") + ":ping"
	_, err := b.writer.command(ctx, key, func(bool) redis.Cmder {
		return redis.NewCmd(b.ctx, "xadd", key, "nomkstream", "*", "ping", "")
	})
	if err != nil {
		return fmt.Errorf("redisstream: ping: %w", err)
	}
	return nil
}

// IsID implements hub.Backend: the ID of a stream entry, or that of a position before a topic's
// first message.
func (b *Backend) IsID(id hub.ID) bool {
	_, ok := parseID(string(id))
	return ok
}
