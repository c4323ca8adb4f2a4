package redisstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

const (
	// streamsAtOnce is how many streams one XREAD names: its cost grows with them.
	streamsAtOnce = 256
	// blockFor is how long XREAD waits at the server. A topic that is followed meanwhile is read when it is over, so it is short; then
	// neither a key to wake it by nor the right to CLIENT UNBLOCK is needed.
	blockFor = 100 * time.Millisecond
	// leastCycle is how long a cycle without messages takes at least, whatever the server answers how soon.
	leastCycle = 20 * time.Millisecond
	// verifyEvery is how often a topic is looked at that XREAD is silent about: a stream that is deleted and begins again with lower IDs does not wake it.
	verifyEvery = 3 * time.Second
	// retryEvery is how often a topic is tried that cannot be read.
	retryEvery = 500 * time.Millisecond
	// pagesAtOnce is how many topics of a reader are read at the same time, in common pipelines.
	pagesAtOnce = 64
	// pageEntries is how many entries of a topic are read before the others have their turn.
	pageEntries = 512
)

// xreaders are the live path of FollowXRead. XREAD only tells which topics have something new; what that is, is read as history is, from the
// last entry that was delivered on, so that what was trimmed in between is noticed. Each reader has a connection of its own.
type xreaders struct {
	b *Backend
	// open returns a new client of the server that has a stream.
	open func(stream string) (*redis.Client, error)
	most int // streams of a reader

	mu      sync.Mutex // guards everything below, and the follows of readers; never held during a call into a sink or to the server
	closed  bool
	readers map[*xreader]bool
}

// xreader is one connection and the goroutine that waits at it. It ends with its last follow.
type xreader struct {
	set     *xreaders
	follows map[*xfollow]bool
}

// xfollow is one Follow. What is not otherwise noted belongs to the goroutine of its reader.
type xfollow struct {
	reader  *xreader // guarded by xreaders.mu
	stream  string
	sink    hub.Sink
	stopped atomic.Bool
	last    hub.ID // what was delivered last, or the tail
	broken  bool
	lookAt  time.Time
}

func newXReaders(b *Backend, n nodes) *xreaders {
	x := &xreaders{b: b, most: streamsAtOnce, readers: make(map[*xreader]bool)}
	if n.cluster != nil {
		x.most = 1 // one command may name streams of one slot only
	}
	x.open = func(stream string) (*redis.Client, error) {
		client, err := n.of(b.ctx, stream)
		if err != nil {
			return nil, err
		}
		o := singleOptions(*client.Options(), following)
		o.ReadTimeout += blockFor
		o.PoolSize = 1
		return redis.NewClient(o), nil
	}
	return x
}

// follow implements Backend.Follow for FollowXRead. The tail is an ID that Redis gave, and all reading goes on from it: nothing depends on when it begins.
func (x *xreaders) follow(ctx context.Context, stream string, sink hub.Sink) (hub.ID, func(), error) {
	tail, err := x.b.tail(ctx, stream)
	if err != nil {
		return "", nil, err
	}
	// Whoever may read history may lack the right to XREAD, and has to be told here.
	if _, err := x.b.command(ctx, stream, func(bool) redis.Cmder {
		return redis.NewCmd(x.b.ctx, "xread", "count", 1, "streams", stream, string(tail))
	}); err != nil {
		return "", nil, err
	}
	f := &xfollow{stream: stream, sink: sink, last: tail, lookAt: time.Now().Add(verifyEvery)}
	if !x.add(f) {
		return "", nil, hub.ErrClosed
	}
	return tail, func() {
		if !f.stopped.Swap(true) {
			x.remove(f)
		}
	}, nil
}

func (x *xreaders) add(f *xfollow) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	for r := range x.readers {
		if len(r.follows) < x.most {
			f.reader = r
			r.follows[f] = true
			return true
		}
	}
	r := &xreader{set: x, follows: map[*xfollow]bool{f: true}}
	f.reader = r
	x.readers[r] = true
	return x.b.spawn(r.run)
}

func (x *xreaders) remove(f *xfollow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(f.reader.follows, f)
}

// close ends all deliveries. The readers end with the context.
func (x *xreaders) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for r := range x.readers {
		for f := range r.follows {
			f.stopped.Store(true)
		}
	}
}

// current returns the follows of a reader; none when it has to end.
func (r *xreader) current() []*xfollow {
	r.set.mu.Lock()
	defer r.set.mu.Unlock()
	if r.set.closed || len(r.follows) == 0 {
		delete(r.set.readers, r)
		return nil
	}
	fs := make([]*xfollow, 0, len(r.follows))
	for f := range r.follows {
		fs = append(fs, f)
	}
	return fs
}

func (r *xreader) run() {
	ctx := r.set.b.ctx
	var client *redis.Client
	var hangUp func() bool
	disconnect := func() {
		if client != nil {
			hangUp()
			_ = client.Close()
			client = nil
		}
	}
	defer disconnect()
	down := false
	wait := reconnectMin
	for fs := r.current(); len(fs) > 0; fs = r.current() {
		began := time.Now()
		var err error
		if client == nil {
			if client, err = r.set.open(fs[0].stream); err == nil {
				c := client
				hangUp = context.AfterFunc(ctx, func() { _ = c.Close() }) // the only way to end a read that waits
			}
		}
		if err == nil && down {
			err = client.Ping(ctx).Err()
		}
		if err == nil && down {
			down = false
			r.advance(fs)
		}
		var news map[string]bool
		if err == nil {
			news, err = poll(ctx, client, fs)
		}
		switch {
		case err == nil:
			wait = reconnectMin
		case isReply(err) && !redirected(err) && !down && r.blame(fs):
			// One topic fails the command for all of them. It is left out from now on.
		default:
			down = true
			r.breakDown(fs, cause(err))
			disconnect()
			if c := r.set.b.clients[following].cluster; c != nil {
				c.ReloadState(ctx)
			}
			pause(ctx, wait)
			wait = min(2*wait, reconnectMax)
			continue
		}
		now := time.Now()
		hot := make([]*xfollow, 0, len(fs))
		for _, f := range fs {
			if news[f.stream] && !f.broken || !now.Before(f.lookAt) {
				hot = append(hot, f)
			}
		}
		if !r.advance(hot) {
			pause(ctx, leastCycle-time.Since(began))
		}
	}
}

// poll waits until one of the streams has something new, at most for blockFor, and returns those that have.
func poll(ctx context.Context, client *redis.Client, fs []*xfollow) (map[string]bool, error) {
	from := make(map[string]entryID, len(fs))
	for _, f := range fs {
		if f.broken {
			continue
		}
		id, _ := parseID(string(f.last))
		if other, ok := from[f.stream]; !ok || id.compare(other) < 0 {
			from[f.stream] = id
		}
	}
	if len(from) == 0 {
		pause(ctx, blockFor)
		return nil, nil
	}
	args := make([]any, 0, 6+2*len(from))
	args = append(args, "xread", "count", 1, "block", blockFor.Milliseconds(), "streams")
	ids := make([]any, 0, len(from))
	for stream, id := range from {
		args = append(args, stream)
		ids = append(ids, id.String())
	}
	cmd := redis.NewCmd(ctx, append(args, ids...)...)
	_ = client.Process(ctx, cmd)
	reply, err := cmd.Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	news := make(map[string]bool)
	switch reply := reply.(type) {
	case []any:
		for _, item := range reply {
			if pair, _ := item.([]any); len(pair) > 0 {
				key, _ := pair[0].(string)
				news[key] = true
			}
		}
	case map[any]any:
		for k := range reply {
			key, _ := k.(string)
			news[key] = true
		}
	}
	return news, nil
}

// blame reads each topic by itself, after a command for all of them was refused. It reports whether that found one to leave out.
func (r *xreader) blame(fs []*xfollow) bool {
	var whole []*xfollow
	for _, f := range fs {
		if !f.broken {
			whole = append(whole, f)
		}
	}
	r.advance(whole)
	for _, f := range whole {
		if f.broken {
			return true
		}
	}
	return false
}

func (r *xreader) breakDown(fs []*xfollow, err error) {
	for _, f := range fs {
		f.fail(err)
	}
}

// advance reads on in several topics, and reports whether there was anything. It returns when all are done: calls into one sink are serial.
func (r *xreader) advance(fs []*xfollow) bool {
	var next atomic.Int64
	var got atomic.Bool
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(fs)); i = next.Add(1) - 1 {
			if fs[i].advance(r.set.b) {
				got.Store(true)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(pagesAtOnce, len(fs)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return got.Load()
}

// advance delivers a page of what comes after the last message that was delivered. When it cannot be proven that nothing is missing in
// between, it says so first.
func (f *xfollow) advance(b *Backend) bool {
	p, err := b.page(b.ctx, f.stream, f.last, pageEntries)
	if err != nil {
		f.fail(err)
		f.lookAt = time.Now().Add(retryEvery)
		return false
	}
	f.lookAt = time.Now().Add(verifyEvery)
	prev := f.last
	switch {
	case p.Gap:
		prev = noEntry
		f.last = p.Next
		f.call(func(s hub.Sink) { s.Restored("") })
	case f.broken:
		f.call(func(s hub.Sink) { s.Restored(prev) })
	}
	f.broken = false
	if len(p.Messages) == 0 {
		return false
	}
	for i := range p.Messages {
		p.Messages[i].Prev = prev
		prev = p.Messages[i].ID
	}
	f.last = prev
	f.call(func(s hub.Sink) { s.Deliver(p.Messages...) })
	return true
}

func (f *xfollow) fail(err error) {
	if !f.broken {
		f.broken = true
		f.call(func(s hub.Sink) { s.Broken(err) })
	}
}

func (f *xfollow) call(do func(hub.Sink)) {
	if !f.stopped.Load() {
		do(f.sink)
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
