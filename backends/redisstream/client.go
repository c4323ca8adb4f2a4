package redisstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
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
	single  *redis.Client
	cluster *redis.ClusterClient
}

// derive makes a client with connections of its own, with the settings of the given one.
func derive(client redis.UniversalClient, p purpose) (nodes, error) {
	switch c := client.(type) {
	case *redis.Client:
		n := nodes{single: redis.NewClient(singleOptions(*c.Options(), p))}
		if p == following {
			n.single.AddHook(noDial{})
		}
		return n, nil
	case *redis.ClusterClient:
		n := nodes{cluster: redis.NewClusterClient(clusterOptions(*c.Options(), p))}
		if p == following {
			n.cluster.OnNewNode(func(node *redis.Client) { node.AddHook(noDial{}) })
		}
		return n, nil
	}
	return nodes{}, fmt.Errorf("%w, not a %T", ErrClient, client)
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

// redirected reports whether the server said that another one has the key. The command was
// certainly not run.
func redirected(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED ") || redis.HasErrorPrefix(err, "ASK ")
}

// lanes are the batchers for one purpose, one for each server: one that hangs must not hold up
// what goes to the others.
type lanes struct {
	nodes
	ctx   context.Context
	spawn func(func()) bool
	// messages runs the jobs of a batch, if they are messages.
	messages func(ctx context.Context, client *redis.Client, jobs []*job)

	mu       sync.Mutex
	batchers map[*redis.Client]*batcher
	alone    []*alone
	closed   bool
}

func newLanes(ctx context.Context, n nodes, spawn func(func()) bool) *lanes {
	return &lanes{nodes: n, ctx: ctx, spawn: spawn, batchers: make(map[*redis.Client]*batcher)}
}

// do runs a job at the server that the key belongs to; see batcher.do.
func (l *lanes) do(ctx context.Context, key string, j *job) (maybe bool, err error) {
	client, err := l.of(ctx, key)
	if err != nil {
		return false, err
	}
	return l.batcher(client).do(ctx, j)
}

// command runs a command at the server that a stream belongs to, together with those of other
// calls, and returns its reply, nil for none. The errors are causes, but for that of ctx.
func (l *lanes) command(ctx context.Context, stream string, command func(bySource bool) redis.Cmder) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	j := newJob(commandOverhead, command)
	if _, err := l.do(ctx, stream, j); err != nil {
		return nil, callError(ctx, err)
	}
	reply, err := j.cmd.(*redis.Cmd).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, cause(err)
	}
	return reply, nil
}

// script runs a script for keys of one topic, the first of which is its stream.
func (l *lanes) script(ctx context.Context, s script, keys []string, args ...any) (any, error) {
	return l.command(ctx, keys[0], func(bySource bool) redis.Cmder {
		all := append(s.args(bySource, 1+len(keys)+len(args)), len(keys))
		for _, k := range keys {
			all = append(all, k)
		}
		return redis.NewCmd(l.ctx, append(all, args...)...)
	})
}

func (l *lanes) batcher(client *redis.Client) *batcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.batchers[client]
	if b != nil {
		return b
	}
	b = newBatcher(l.ctx, l.spawn)
	if l.messages == nil {
		b.send = func(jobs []*job) { l.send(l.ctx, client, jobs) }
		b.replies = true
	} else {
		b.send = func(jobs []*job) { l.messages(l.ctx, client, jobs) }
	}
	// A cluster may send a command elsewhere, over connections that know no context.
	if l.messages != nil && l.cluster == nil && !l.closed {
		a := newAlone(client)
		b.sendAlone = func(ctx context.Context, j *job) {
			a.run(ctx, func(ctx context.Context, client *redis.Client) { l.messages(ctx, client, []*job{j}) })
		}
		l.alone = append(l.alone, a)
	}
	l.batchers[client] = b
	return b
}

// close closes the clients. Jobs fail from then on.
func (l *lanes) close() error {
	l.mu.Lock()
	l.closed = true
	alone := l.alone
	l.mu.Unlock()
	err := l.nodes.close()
	for _, a := range alone {
		err = errors.Join(err, a.close())
	}
	return err
}

// send runs jobs in one pipeline and, of them, those again that the server certainly did not run.
//
// A server that does not know a script, being new or restarted, says so for each command: those
// are sent again, the first one by its source, which makes it known. Should it be forgotten in
// between, all go by their source.
func (l *lanes) send(ctx context.Context, client *redis.Client, jobs []*job) {
	pipeline(ctx, client, jobs)
	for attempt := range 2 {
		var unknown []*job
		seen := make(map[string]bool)
		for _, j := range jobs {
			if redis.HasErrorPrefix(j.cmd.Err(), "NOSCRIPT") {
				digest, _ := j.cmd.Args()[1].(string)
				j.cmd = j.again(attempt > 0 || !seen[digest])
				seen[digest] = true
				unknown = append(unknown, j)
			}
		}
		if len(unknown) == 0 {
			break
		}
		pipeline(ctx, client, unknown)
	}
	if l.cluster == nil {
		return
	}
	for _, j := range jobs {
		for bySource := range 2 {
			if err := j.cmd.Err(); !redirected(err) && (bySource == 0 || !redis.HasErrorPrefix(err, "NOSCRIPT")) {
				break
			}
			j.cmd = j.again(bySource > 0)
			_ = l.cluster.Process(ctx, j.cmd) // follows redirections; the command has its own error
		}
	}
}

func pipeline(ctx context.Context, client *redis.Client, jobs []*job) {
	if len(jobs) == 1 {
		// Without what a pipeline costs; the command has its own error.
		_ = client.Process(ctx, jobs[0].cmd)
		return
	}
	p := client.Pipeline()
	for _, j := range jobs {
		_ = p.Process(ctx, j.cmd)
	}
	_, err := p.Exec(ctx)
	for _, j := range jobs {
		// Each command has its own error, except when the server refused the connection: go-redis
		// leaves the commands without any then. A command that was run has a value; an empty list
		// is one.
		if c, ok := j.cmd.(interface{ Val() any }); ok && err != nil && j.cmd.Err() == nil && c.Val() == nil {
			j.cmd.SetErr(err)
		}
	}
}

// noDial is a hook that refuses to dial under a context that says so: a go-redis PubSub whose
// connection fails dials another one by itself, inside the call that should report the failure.
type noDial struct{}

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

// ProcessHook implements redis.Hook.
func (noDial) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (noDial) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
