package redisstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrClient means that New was given a client that it cannot make its own connections from.
var ErrClient = errors.New("redisstream: New needs a *redis.Client or a *redis.ClusterClient")

// Timeouts of our own clients, where those of the user's client are longer or absent: a server
// that hangs must be noticed.
const (
	dialTimeout    = 3 * time.Second
	commandTimeout = 5 * time.Second
	followTimeout  = 3 * time.Second // of the commands that open a Pub/Sub connection
)

// idleTime is how long a connection may lie unused. Over TLS go-redis cannot see that one was
// closed meanwhile, as servers and balancers do after some minutes, and the next command would be
// lost.
const idleTime = time.Minute

// purpose is what a client is for. Each has connections of its own: what waits on one must not
// hold up the others.
type purpose uint8

const (
	publishing purpose = iota
	reading
	following
)

// nodes are a client's servers: one, or those of a cluster.
type nodes struct {
	single   *redis.Client
	cluster  *redis.ClusterClient
	conns    *connections
	topology *topology
}

// derive makes clients with connections of their own, with the settings of the given one: one for
// each purpose. The key is one that never is.
func derive(client redis.UniversalClient, key string) (all [3]nodes, err error) {
	conns := newConnections()
	switch c := client.(type) {
	case *redis.Client:
		var t *topology
		if isFailover(c) {
			f := &failover{conns: conns, client: c, key: key}
			conns.dialed = f.found
			t = newTopology(f.reload)
			if f.spare() {
				t.listen = f.listen
			}
		}
		for p := range all {
			n := nodes{conns: conns, topology: t}
			n.single = n.client(singleOptions(*c.Options(), purpose(p)), purpose(p) == following)
			all[p] = n
		}
	case *redis.ClusterClient:
		l := &layout{conns: conns}
		t := newTopology(l.renew)
		for p := range all {
			n := nodes{conns: conns, topology: t, cluster: redis.NewClusterClient(clusterOptions(*c.Options(), purpose(p)))}
			n.cluster.OnNewNode(func(node *redis.Client) {
				n.hook(node, purpose(p) == following)
				node.AddHook(slotsHook{layout: l, origin: node.Options().Addr})
				if purpose(p) == publishing {
					node.AddHook(waitHook{node: node})
				}
			})
			l.clusters = append(l.clusters, n.cluster)
			all[p] = n
		}
	default:
		return all, fmt.Errorf("%w, not a %T", ErrClient, client)
	}
	return all, nil
}

// client returns a client of one server, whose connections are among those of the backend.
func (n nodes) client(o *redis.Options, live bool) *redis.Client {
	c := redis.NewClient(o)
	n.hook(c, live)
	return c
}

func (n nodes) hook(c *redis.Client, live bool) {
	if live {
		c.AddHook(noDial{})
	}
	c.AddHook(dialHook{conns: n.conns, live: live})
}

// singleOptions adapts a copy of a client's options. Those of a client that is there have their
// defaults filled in, and a 0 in them means what -1 means in new ones.
func singleOptions(o redis.Options, p purpose) *redis.Options {
	// A publish must not be repeated; reads are repeated by the hub, at its own pace.
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout = bounded(o.DialTimeout, dialTimeout)
	o.ReadTimeout = bounded(o.ReadTimeout, commandTimeout)
	o.WriteTimeout = bounded(o.WriteTimeout, commandTimeout)
	o.PoolTimeout = commandTimeout
	o.ContextTimeoutEnabled = false
	o.PoolSize = max(2*batchesAtOnce, runtime.GOMAXPROCS(0))
	o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns, o.MaxConcurrentDials = 0, 0, 0, 0
	o.ConnMaxIdleTime = bounded(o.ConnMaxIdleTime, idleTime)
	o.PipelinePoolSize = -1
	o.ReadBufferSize, o.WriteBufferSize = 64<<10, 64<<10
	if p == following {
		o.ReadTimeout = min(o.ReadTimeout, followTimeout)
		o.WriteTimeout = min(o.WriteTimeout, followTimeout)
	}
	if o.Dialer != nil {
		o.Dialer = toMaster(o.Dialer)
	}
	o.Limiter = nil
	o.PushNotificationProcessor = nil
	o.AutoPipelineOptions = nil
	o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}

// toMaster is a dialer that tells the nil of sentinels, which know no master of that name, from
// the nil that servers reply to commands.
func toMaster(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if errors.Is(err, redis.Nil) {
			return nil, &failure{ErrUnreachable, "the sentinels know no master of that name"}
		}
		return conn, err
	}
}

// clusterOptions does for a cluster what singleOptions does for one server. Reads go to masters:
// a replica that lags would answer that there is nothing new.
func clusterOptions(o redis.ClusterOptions, p purpose) *redis.ClusterOptions {
	s := singleOptions(redis.Options{DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout}, p)
	o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
	o.MaxRetries, o.DialerRetries = s.MaxRetries, s.DialerRetries
	o.MaxRedirects = cmp.Or(max(o.MaxRedirects, 0), 3)
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = s.DialTimeout, s.ReadTimeout, s.WriteTimeout
	o.PoolTimeout, o.PoolSize, o.PipelinePoolSize = s.PoolTimeout, s.PoolSize, s.PipelinePoolSize
	o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns, o.MaxConcurrentDials = 0, 0, 0, 0
	o.ConnMaxIdleTime = bounded(o.ConnMaxIdleTime, idleTime)
	o.ContextTimeoutEnabled = false
	o.ReadBufferSize, o.WriteBufferSize = s.ReadBufferSize, s.WriteBufferSize
	o.PushNotificationProcessor = nil
	o.AutoPipelineOptions = nil
	o.MaintNotificationsConfig = s.MaintNotificationsConfig
	return &o
}

func bounded(d, most time.Duration) time.Duration {
	if d <= 0 {
		return most
	}
	return min(d, most)
}

// of returns the client of the server that a key belongs to. In a cluster whose layout is not
// known yet it waits for that, at most until ctx ends; go-redis itself would not look at ctx.
func (n nodes) of(ctx context.Context, key string) (*redis.Client, error) {
	if n.cluster == nil {
		return n.single, nil
	}
	type found struct {
		client *redis.Client
		err    error
	}
	answer := make(chan found, 1)
	go func() {
		client, err := n.cluster.MasterForKey(context.WithoutCancel(ctx), key)
		answer <- found{client, err}
	}()
	select {
	case f := <-answer:
		return f.client, f.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (n nodes) close() error {
	if n.cluster == nil {
		return n.single.Close()
	}
	return n.cluster.Close()
}

// passing is a hook that changes nothing. A hook has it for what it leaves alone.
type passing struct{}

// DialHook implements redis.Hook.
func (passing) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (passing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (passing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// noDial is a hook that refuses to dial under a context that says so: a go-redis PubSub whose
// connection fails dials another one by itself, inside the call that should report the failure.
type noDial struct{ passing }

var errNoDial = errors.New("redisstream: not dialing again")

// withoutDial returns a context under which no connection is dialed.
func withoutDial(ctx context.Context) context.Context { return context.WithValue(ctx, noDial{}, true) }

// DialHook implements redis.Hook.
func (noDial) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if ctx.Value(noDial{}) != nil {
			return nil, errNoDial
		}
		return next(ctx, network, addr)
	}
}
