package redisstream

import (
	"context"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
)

// alone is a connection for the caller who has a node to himself. He sends his command from his own goroutine: handing it to another one
// and back would be a good part of what a call takes. A read from a connection does not end with a context, so the connection is closed
// under a caller who may not wait any longer.
type alone struct {
	client *redis.Client // of one connection

	mu   sync.Mutex
	conn net.Conn // dialed last
}

func newAlone(client *redis.Client) *alone {
	a := &alone{}
	o := singleOptions(*client.Options(), publishing)
	o.PoolSize = 1
	dial := o.Dialer
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			a.mu.Lock()
			a.conn = conn
			a.mu.Unlock()
		}
		return conn, err
	}
	a.client = redis.NewClient(o)
	return a
}

// run calls send and returns when it does, which is soon after the end of ctx.
func (a *alone) run(ctx context.Context, send func(context.Context, *redis.Client)) {
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(aborted)
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.conn != nil {
			_ = a.conn.Close()
		}
	})
	send(ctx, a.client)
	if !stop() {
		<-aborted // or it would close the connection under the next caller
	}
}
