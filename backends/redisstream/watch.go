package redisstream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

const (
	// quietFor is how long after a line about a break no other break gets one of its own.
	quietFor = 10 * time.Second
	// mostLines is how many lines wait for a log.
	mostLines = 100
	// refusalEvery is how long a refused subscription is old news for.
	refusalEvery = time.Minute
	// mastersEvery is how often a cluster is asked for its masters, and mastersSoon how often while
	// something is broken.
	mastersEvery = 10 * time.Second
	mastersSoon  = time.Second
)

// outage tells an operator that something broke and that it is whole again. It consists of parts,
// and is broken while one of them is. There is a line for the first part that breaks and one for
// the last that is whole again, at most one of each in quietFor: breaks within that time are said
// afterwards, in one line with their number. Its methods may be called concurrently.
type outage struct {
	logger *slog.Logger

	mu     sync.Mutex
	lines  []func() // to be logged
	saying bool     // somebody logs them
	closed bool
	parts  map[any]bool // that are broken
	since  time.Time
	cause  error       // of the latest break
	breaks int         // that no line has said
	said   bool        // the break, and not its end
	quiet  time.Time   // no line before
	timer  *time.Timer // for what is said then
}

func newOutage(logger *slog.Logger) *outage {
	return &outage{logger: logger, parts: make(map[any]bool)}
}

// broken notes that a part is broken, and why.
func (o *outage) broken(part any, err error) {
	defer o.flush()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.parts[part] {
		return
	}
	o.parts[part] = true
	if len(o.parts) > 1 {
		return
	}
	now := time.Now()
	o.since, o.cause = now, err
	o.breaks++
	switch wait := o.quiet.Sub(now); {
	case wait <= 0:
		o.say()
	case o.timer == nil:
		o.timer = time.AfterFunc(wait, o.later)
	}
}

// hold counts a part among the broken ones if others are. It logs nothing.
func (o *outage) hold(part any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.parts) > 0 {
		o.parts[part] = true
	}
}

// whole notes that a part is not broken, or is no part any more.
func (o *outage) whole(part any) {
	defer o.flush()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.parts[part] {
		return
	}
	delete(o.parts, part)
	if len(o.parts) == 0 && o.said && !o.closed {
		o.said = false
		o.log(slog.LevelInfo, "redisstream: the live path is whole again", "away", time.Since(o.since).Round(time.Millisecond))
	}
}

// is reports whether any part is broken.
func (o *outage) is() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.parts) > 0
}

// say says that it is broken. mu is held.
func (o *outage) say() {
	args := []any{"err", o.cause}
	if o.breaks > 1 {
		args = append(args, "breaks", o.breaks)
	}
	o.breaks, o.said, o.quiet = 0, true, time.Now().Add(quietFor)
	o.log(slog.LevelWarn, "redisstream: the live path is broken; readers get what they miss when it is whole again", args...)
}

// log adds a line to those that flush logs, unless it has hung for long. mu is held.
func (o *outage) log(level slog.Level, text string, args ...any) {
	if len(o.lines) >= mostLines {
		return
	}
	o.lines = append(o.lines, func() { o.logger.Log(context.Background(), level, text, args...) })
}

// flush logs the lines there are, unless somebody does. Whoever holds live.mu waits for mu, so a
// log that hangs must not hold that.
func (o *outage) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.saying {
		return
	}
	o.saying = true
	for len(o.lines) > 0 {
		lines := o.lines
		o.lines = nil
		o.mu.Unlock()
		for _, line := range lines {
			line()
		}
		o.mu.Lock()
	}
	o.saying = false
}

// later says what broke in the time that is over.
func (o *outage) later() {
	defer o.flush()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer = nil
	switch {
	case o.closed || o.breaks == 0:
	case len(o.parts) > 0:
		o.say()
	default:
		o.log(slog.LevelWarn, "redisstream: the live path broke and is whole again", "err", o.cause, "breaks", o.breaks)
		o.breaks, o.quiet = 0, time.Now().Add(quietFor)
	}
}

// close has nothing said any more.
func (o *outage) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
}

// refusals tell an operator that Redis refuses subscriptions: one line, however many channels and
// tries, and one when it takes a subscription that it has refused. Its methods may be called
// concurrently.
type refusals struct {
	logger *slog.Logger

	mu   sync.Mutex
	said bool
	last time.Time
}

func (r *refusals) refused(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if !r.said || now.Sub(r.last) > refusalEvery {
		r.said = true
		r.logger.Warn("redisstream: Redis refuses a subscription; readers of such topics get nothing live", "err", err)
	}
	r.last = now
}

// allowed notes that a subscription has begun that was refused before.
func (r *refusals) allowed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said {
		r.said = false
		r.logger.Info("redisstream: Redis allows the subscription again")
	}
}

// watch keeps a connection to each server that may have topics, whether any is followed or not: so
// a break is noticed at once, and the first reader need not wait for a connection.
func (l *live) watch() {
	if l.cluster != nil {
		l.spawn(l.watchMasters)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(l.single)
}

// keep has a server's connection kept without topics. live.mu is held.
func (l *live) keep(client *redis.Client) {
	n := l.nodeOf(client)
	if n.kept || l.closed {
		return
	}
	n.kept = true
	l.path.hold(n)
	n.awaken()
}

// watchMasters keeps connections to a cluster's masters, and looks which ones these are.
func (l *live) watchMasters() {
	for {
		masters, err := l.masters()
		if l.ctx.Err() != nil {
			return
		}
		if err != nil {
			l.path.broken(l, cause(err))
		} else {
			l.mu.Lock()
			for client := range masters {
				l.keep(client)
			}
			for client, n := range l.byClient {
				if n.kept && !masters[client] {
					n.kept = false
					n.awaken() // it ends if it has no topics
				}
			}
			l.mu.Unlock()
			l.path.whole(l)
		}
		wait := time.NewTimer(mastersSoon)
		select {
		case <-wait.C:
		case <-l.ctx.Done():
			wait.Stop()
			return
		}
		if l.path.is() {
			continue
		}
		wait.Reset(mastersEvery - mastersSoon)
		select {
		case <-wait.C:
		case <-l.changed:
		case <-l.ctx.Done():
		}
		wait.Stop()
	}
}

// lookSoon has the masters looked up, as one of them may not be one any more.
func (l *live) lookSoon() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// masters asks a cluster for its masters.
func (l *live) masters() (map[*redis.Client]bool, error) {
	var mu sync.Mutex
	found := make(map[*redis.Client]bool)
	err := l.cluster.ForEachMaster(l.ctx, func(_ context.Context, client *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		found[client] = true
		return nil
	})
	return found, err
}

// servers returns the clients that Pub/Sub connections belong to.
func (l *live) servers() (clients []*redis.Client) {
	if l.single != nil {
		return []*redis.Client{l.single}
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for c := range l.byClient {
		clients = append(clients, c)
	}
	return clients
}

// closedCause is the cause of an error of a connection. That a client was closed says nothing
// about the backend: a cluster's client closes those of servers that left it.
func closedCause(err error) error {
	if err = cause(err); err == hub.ErrClosed { //nolint:errorlint // what cause returns
		return &failure{ErrUnreachable, "connection closed"}
	}
	return err
}
