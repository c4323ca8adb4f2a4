package redisstream

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// alone is the fast path of an uncontended publisher: the command is sent on the caller's
// goroutine. Handing it to another one and back would be a good part of what a call takes. A read
// from a connection does not end with a context, so the client is closed under a caller who may
// not wait any longer, and the next caller gets another one.
type alone struct {
	nodes   nodes
	options *redis.Options

	mu     sync.Mutex
	client *redis.Client // of one connection
	closed bool
}

func newAlone(n nodes, client *redis.Client) *alone {
	o := singleOptions(*client.Options(), publishing)
	o.PoolSize = 1
	return &alone{nodes: n, options: o, client: n.client(o, false)}
}

// run calls send, which nobody else may do meanwhile, and returns when it does: soon after the
// end of ctx.
func (a *alone) run(ctx context.Context, send func(context.Context, *redis.Client)) {
	a.mu.Lock()
	client := a.client
	a.mu.Unlock()
	replaced := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(replaced)
		a.replace(client)
	})
	send(ctx, client)
	if !stop() {
		<-replaced // or it would be closed under the next caller
	}
}

func (a *alone) replace(client *redis.Client) {
	_ = client.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.client = a.nodes.client(a.options, false)
	}
}

func (a *alone) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	return a.client.Close()
}
