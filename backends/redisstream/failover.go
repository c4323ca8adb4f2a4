package redisstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/internal/retry"
)

const (
	// listenBlock is how long is waited at a time for that a connection to the master is closed,
	// and listenEvery how often it is looked at where the server does not let one wait.
	listenBlock = time.Second
	listenEvery = 200 * time.Millisecond
)

// failover is for the master that sentinels name. Their word counts: a former one may live on, take
// messages that nobody will ever read, and tell its readers nothing.
type failover struct {
	conns *connections
	// client is that of the user. go-redis closes its connections when the sentinels announce
	// another master, and only its.
	client *redis.Client
	key    string // that never is

	mu    sync.Mutex
	addr  string
	since time.Time // when it became known
}

// isFailover reports whether a client asks sentinels for its server.
func isFailover(c *redis.Client) bool { return c.Options().Addr == "FailoverClient" }

// found is told of every connection. If it leads to another server than those before, they are
// closed. It reports false for one to another server that was begun before the master was known:
// the sentinels may have named that server before.
func (f *failover) found(addr string, began time.Time) bool {
	f.mu.Lock()
	switch {
	case addr == f.addr:
		f.mu.Unlock()
		return true
	case began.Before(f.since):
		f.mu.Unlock()
		return false
	case time.Since(f.since) < reloadEvery:
		// A name that leads to several addresses must not set its connections against each other.
		f.mu.Unlock()
		return true
	}
	first := f.addr == ""
	f.addr, f.since = addr, time.Now()
	f.mu.Unlock()
	if !first {
		f.leave(addr)
	}
	return true
}

// reload asks the sentinels, which nothing but dialing does. Their word is that of all connections:
// soon after another one found a master, one may have been dialed to where a sentinel that did not
// know yet sent it.
func (f *failover) reload(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	began := time.Now()
	conn, err := f.client.Options().Dialer(ctx, "tcp", "")
	if err != nil || conn == nil {
		return
	}
	defer conn.Close()
	if at := conn.RemoteAddr(); at != nil && f.found(at.String(), began) {
		f.leave(at.String())
	}
}

// leave closes the connections that lead to another server than the master.
func (f *failover) leave(master string) {
	f.mu.Lock()
	is := f.addr == master
	f.mu.Unlock()
	if is {
		f.conns.closeThose(func(c *connection) bool { return c.remote != master })
	}
}

// spare reports whether the user's client has a connection to spare. With a pool of one, holding it
// would leave the user none.
func (f *failover) spare() bool {
	o := f.client.Options()
	return o.PoolSize > 1 && o.MaxActiveConns != 1
}

// listen doubts the master whenever go-redis closes the connections of the user's client, or the
// network does. It waits at a stream that never is, which ends at that moment, and where that is
// not allowed it asks for a sign of life.
func (f *failover) listen(ctx context.Context, t *topology) {
	// With the same connections, and a timeout whatever the user's is.
	client := f.client.WithTimeout(followTimeout)
	block := []any{"xread", "block", listenBlock.Milliseconds(), "streams", f.key, "$"}
	for blocks := true; ctx.Err() == nil; {
		conn := client.Conn()
		var err error
		for ctx.Err() == nil && (err == nil || isReply(err)) {
			args := block
			if !blocks {
				args = []any{"ping"}
			}
			began := time.Now()
			cmd := once{redis.NewCmd(ctx, args...)}
			_ = conn.Process(ctx, cmd) // the command has its own error
			if err = cmd.Err(); errors.Is(err, redis.Nil) {
				err = nil
			}
			if isReply(err) {
				blocks = false
				t.doubtAt(err)
			}
			if !blocks || time.Since(began) < listenEvery {
				retry.Sleep(ctx, listenEvery)
			}
		}
		_ = conn.Close()
		t.doubt()
		retry.Sleep(ctx, listenEvery/4)
	}
}
