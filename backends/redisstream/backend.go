package redisstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// Backend is a hub.Backend over Redis Streams. Its methods may be called concurrently. Use New or
// Open.
type Backend struct {
	opts   Options
	keys   keys
	decode decoder

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	publisher *appender
	writer    *lanes // of commands that write and are no messages, over the publisher's connections
	reader    *lanes
	history   *history
	live      *live
	path      *outage
	lacks     known
	xreaders  *xreaders // nil unless they are the live path
	warned    atomic.Pointer[time.Time]
	clients   [3]nodes // by purpose

	// client is the one that New was given, owned says that Open made it.
	client redis.UniversalClient
	owned  bool

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

var _ hub.Backend = (*Backend)(nil)

// New returns a backend that uses the server, or the cluster, of a client, which must be a
// *redis.Client (for one server, or from redis.NewFailoverClient) or a *redis.ClusterClient;
// otherwise the error is ErrClient. The backend makes connections of its own with the client's
// settings, except for pool sizes, retries and hooks, and never closes the client.
//
// New does not wait for the server. What an operator should know about its configuration is
// logged later.
func New(client redis.UniversalClient, o Options) (*Backend, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Backend{opts: o, client: client, decode: decoder{foreign: o.Foreign}}
	db := 0
	if c, ok := client.(*redis.Client); ok {
		if db = c.Options().DB; db < 0 {
			return nil, errors.New("redisstream: the client's database has a negative number")
		}
	}
	b.keys = newKeys(o.Prefix, db)
	if b.clients, err = derive(client, b.keys.probe()); err != nil {
		return nil, err
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.publisher = newAppender(newLanes(b.ctx, b.clients[publishing], b.spawn), &b.opts, b.keys.suffix)
	b.writer = newLanes(b.ctx, b.clients[publishing], b.spawn)
	b.writer.writes = true
	b.reader = newLanes(b.ctx, b.clients[reading], b.spawn)
	b.publisher.lacks, b.writer.lacks, b.reader.lacks = &b.lacks, &b.lacks, &b.lacks
	b.history = &history{lanes: b.reader, decode: &b.decode, keys: b.keys, logger: o.Logger}
	b.path = newOutage(o.Logger)
	b.live = newLive(b.ctx, b.clients[following], &b.decode, b.spawn, b.path)
	if o.Follow == FollowXRead {
		b.xreaders = newXReaders(b.history, b.clients[following], b.spawn, b.path)
	}
	if t := b.clients[following].topology; t != nil {
		b.spawn(func() { t.run(b.ctx) })
		if t.listen != nil {
			b.spawn(func() { t.listen(b.ctx, t) })
		}
	}
	b.live.watch()
	check := checkup{ctx: b.ctx, opts: &b.opts, keys: b.keys, reading: b.clients[reading], following: b.clients[following], lacks: &b.lacks}
	b.spawn(check.run)
	return b, nil
}

// Traits implements hub.Backend.
func (b *Backend) Traits() hub.Traits {
	return hub.Traits{
		Name: "redis", Replay: true, Ordered: true, Chained: true, Shared: true, Durable: true, Keys: hub.KeysStored,
		Atomic: true, Ends: true, Deletes: true,
	}
}

// Ping implements hub.Backend. It asks, over the connections of Publish, for an append that Redis
// carries out only if a key is there that never is: so whatever would refuse a message refuses
// this, be it that the server is a replica, loads its data, has no memory, or denies access. The
// error has the cause, see ErrUnreachable and the others. In a cluster it asks one server, and a
// cluster that needs all its slots says so.
//
// Ping returns when ctx ends, whatever the network does. While the server does not answer, a few
// of the calls are under way, and the others wait for them.
func (b *Backend) Ping(ctx context.Context) error {
	key := b.keys.probe()
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

// Client returns the client that New was given, or that Open made of its URL, for an application
// that keeps other data in the same place. One that Open made ends with Close. Its own statistics
// are not those of the backend, see PoolStats.
func (b *Backend) Client() redis.UniversalClient { return b.client }

// PoolStats returns the statistics of the backend's own connections; those of Client are of others.
// It does not wait for a server.
func (b *Backend) PoolStats() PoolStats {
	var s PoolStats
	addStats(&s.Publishing, servers(b.publisher.lanes, b.writer)...)
	addStats(&s.Publishing, b.publisher.lone()...)
	addStats(&s.Reading, servers(b.reader)...)
	addStats(&s.Following, b.live.servers()...)
	if b.xreaders != nil {
		addStats(&s.Following, b.xreaders.waiting()...)
	}
	return s
}

// Close implements hub.Backend. It closes the backend's own connections; a client that was given
// to New stays open. It waits for the backend's goroutines, which takes a moment, or the few
// seconds that dialing a dead address may take.
func (b *Backend) Close() error {
	b.mu.Lock()
	closed := b.closed
	b.closed = true
	b.mu.Unlock()
	if closed {
		return nil
	}
	b.path.close()
	b.cancel()
	b.live.close()
	if b.xreaders != nil {
		b.xreaders.close()
	}
	var errs []error
	for _, c := range []interface{ close() error }{b.publisher, b.reader, b.clients[following]} {
		errs = append(errs, c.close())
	}
	if b.owned {
		errs = append(errs, b.client.Close())
	}
	b.wg.Wait()
	return cause(errors.Join(errs...))
}

// spawn runs f on a goroutine that Close waits for. It reports false, and runs nothing, once the
// backend is closed.
func (b *Backend) spawn(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Go(f)
	return true
}
