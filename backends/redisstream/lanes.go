package redisstream

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

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
	lacks *known
	// writes says that scripts write, and must not run twice.
	writes bool
	// wait makes the command that follows each pipeline and waits for replicas, if it is set.
	wait func() *redis.Cmd
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
	b, err := l.at(ctx, key)
	if err != nil {
		return false, err
	}
	return b.do(ctx, j)
}

// at returns the batcher for the server that a key belongs to.
func (l *lanes) at(ctx context.Context, key string) (*batcher, error) {
	client, err := l.of(ctx, key)
	if err != nil {
		return nil, err
	}
	return l.batcher(client), nil
}

// command runs a command at the server that a stream belongs to, together with those of other
// calls, and returns its reply, nil for none. It may run twice. The errors are causes, but for that
// of ctx.
func (l *lanes) command(ctx context.Context, stream string, command func(bySource bool) redis.Cmder) (any, error) {
	return l.run(ctx, stream, newJob(commandOverhead, command))
}

func (l *lanes) run(ctx context.Context, stream string, j *job) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if _, err := l.do(ctx, stream, j); err != nil {
		return nil, callError(ctx, err)
	}
	reply, err := j.cmd.(*redis.Cmd).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, l.lacks.explain(cause(err))
	}
	return reply, nil
}

// script runs a script for keys of one topic, the first of which is its stream. The last argument
// of one that writes is a string.
func (l *lanes) script(ctx context.Context, s script, keys []string, args ...any) (any, error) {
	var last *lastArg
	if l.writes {
		text, _ := args[len(args)-1].(string)
		last = &lastArg{bytes: []byte(text)}
		args[len(args)-1] = last
	}
	command := s.command(l.ctx, keys, args...)
	j := newJob(commandOverhead, func(bySource bool) redis.Cmder {
		if last != nil {
			last.written.Store(false)
		}
		return command(bySource)
	})
	j.last = last
	return l.run(ctx, keys[0], j)
}

func (l *lanes) batcher(client *redis.Client) *batcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.batchers[client]
	if b == nil {
		b = l.newBatcher(client)
	}
	if l.cluster != nil {
		b.used = time.Now()
	}
	return b
}

// keptFor is how long a batcher is kept that nobody uses. A cluster's servers come and go.
const keptFor = 10 * time.Minute

// newBatcher makes the batcher for a server, and forgets those of servers that nobody asks any
// more. mu is held.
func (l *lanes) newBatcher(client *redis.Client) *batcher {
	for c, b := range l.batchers {
		if l.cluster != nil && time.Since(b.used) > keptFor {
			delete(l.batchers, c)
		}
	}
	b := newBatcher(l.ctx, l.spawn)
	if l.messages == nil {
		b.send = func(jobs []*job) { l.send(l.ctx, client, jobs) }
		b.replies = true
	} else {
		b.send = func(jobs []*job) { l.messages(l.ctx, client, jobs) }
	}
	// A cluster may send a command elsewhere, over connections that know no context.
	if l.messages != nil && l.cluster == nil && !l.closed {
		a := newAlone(l.nodes, client)
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
	l.pipeline(ctx, client, jobs)
	l.resend(ctx, client, jobs)
	defer func() {
		for _, j := range jobs {
			l.topology.doubtAt(j.cmd.Err())
		}
	}()
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
		l.pipeline(ctx, client, unknown)
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
			l.redirect(ctx, j)
		}
	}
}

// resends is how often a command is sent again, each time over another connection. When a server
// closes idle connections, a few of them can be tried in turn.
const resends = 5

// resend sends those again that were certainly not sent: over a connection that was closed while
// nobody used it. What may be run twice is sent again whatever happened.
func (l *lanes) resend(ctx context.Context, client *redis.Client, jobs []*job) {
	for range resends {
		var again []*job
		for _, j := range jobs {
			if err := j.cmd.Err(); hungUp(err) && (j.last == nil || !j.last.sent(err)) {
				j.cmd = j.again(false)
				again = append(again, j)
			}
		}
		if len(again) == 0 {
			return
		}
		l.pipeline(ctx, client, again)
	}
}

// hungUp reports whether a command failed because its connection was closed, by whomever. A server
// that refuses connections, or does not answer, is not asked again at once.
func hungUp(err error) bool {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return false
	}
	for _, sign := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, errUnsent} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return false
}

func (l *lanes) pipeline(ctx context.Context, client *redis.Client, jobs []*job) {
	if len(jobs) == 1 && l.wait == nil {
		// Without what a pipeline costs; the command has its own error.
		_ = client.Process(ctx, jobs[0].cmd)
		return
	}
	p := client.Pipeline()
	for _, j := range jobs {
		_ = p.Process(ctx, j.cmd)
	}
	var wait *redis.Cmd
	if l.wait != nil {
		wait = l.wait()
		_ = p.Process(ctx, wait)
	}
	_, err := p.Exec(ctx)
	for _, j := range jobs {
		unanswered(j.cmd, err)
	}
	if wait == nil {
		return
	}
	// It is of this connection, and so of the master that ran the commands.
	replicas, _ := wait.Int64()
	for _, j := range jobs {
		j.replicas = replicas
	}
}

// redirect runs the command of a job wherever the servers of a cluster say. It has its own error.
func (l *lanes) redirect(ctx context.Context, j *job) {
	if l.wait == nil {
		_ = l.cluster.Process(ctx, j.cmd)
		return
	}
	// The replicas of the server that sent it away say nothing.
	w := &replicaWait{of: j.cmd, wait: l.wait}
	_ = l.cluster.Process(context.WithValue(ctx, replicaWaitKey{}, w), j.cmd)
	j.replicas = w.replicas
}

// unanswered gives a command of a pipeline the error of the pipeline if it has none of its own, nor
// a value: go-redis leaves it so when the server refused the connection. An empty list is a value.
func unanswered(cmd redis.Cmder, err error) {
	if c, ok := cmd.(interface{ Val() any }); ok && err != nil && cmd.Err() == nil && c.Val() == nil {
		cmd.SetErr(err)
	}
}
