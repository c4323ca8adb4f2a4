package redisstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/retry"
)

const (
	// longBlock is how long XREAD waits at a server where CLIENT UNBLOCK ends the waiting when
	// another topic is followed, and shortBlock how long at others, where that topic is read when
	// the waiting is over.
	longBlock  = time.Second
	shortBlock = 50 * time.Millisecond
	// wakeAgain is after how long, and then twice as long, a reader is woken again that has not
	// noticed: it may not have been waiting yet.
	wakeAgain = 5 * time.Millisecond
	// leastCycle is how long a cycle without messages takes at least, whatever the server answers
	// how soon.
	leastCycle = 20 * time.Millisecond
	// verifyEvery is how often a topic is looked at that XREAD is silent about: a stream that is
	// deleted and begins again with lower IDs does not wake it.
	verifyEvery = 3 * time.Second
	// retryEvery is how often a topic is tried that cannot be read.
	retryEvery = 500 * time.Millisecond
	// pagesAtOnce is how many topics of a reader are read at the same time, in common pipelines.
	pagesAtOnce = 64
	// pageEntries is how many entries of a topic are read before the others have their turn.
	pageEntries = 512
)

// xreader is one connection and the goroutine that waits at it. It ends with its last follow.
type xreader struct {
	set     *xreaders
	follows map[*xfollow]bool

	// Guarded by xreaders.mu.
	conn   int64 // the connection's ID, 0 when it cannot be woken
	client *redis.Client
	added  uint64
	seen   uint64 // of those added
	waking bool   // a goroutine wakes the reader
	more   chan struct{}
}

// xfollow is one Follow. What is not otherwise noted belongs to the goroutine of its reader.
type xfollow struct {
	reader  *xreader // guarded by xreaders.mu
	stream  string
	sink    hub.Sink
	stopped atomic.Bool
	last    hub.ID // what was delivered last, or the tail
	proof   proof
	broken  bool
	// ahead: its messages are large, and there may be more. It is read on without XREAD, which
	// would transfer each of them once more.
	ahead  bool
	lookAt time.Time
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
	r.seen = r.added
	return fs
}

// connected notes over which client the reader waits, and by what ID it can be woken.
func (r *xreader) connected(client *redis.Client, id int64) {
	r.set.mu.Lock()
	defer r.set.mu.Unlock()
	r.client, r.conn = client, id
}

// wake ends the reader's waiting, over and over until it has noticed what was added. What fails
// here only makes the topic late.
func (r *xreader) wake(stream string) {
	ctx := r.set.ctx
	for again := wakeAgain; ; {
		r.set.mu.Lock()
		id := r.conn
		if id == 0 || r.seen == r.added || r.set.closed || len(r.follows) == 0 {
			r.waking = false
			r.set.mu.Unlock()
			return
		}
		r.set.mu.Unlock()
		_, _ = r.set.history.lanes.command(ctx, stream, func(bool) redis.Cmder {
			return redis.NewCmd(ctx, "client", "unblock", id)
		})
		t := time.NewTimer(again)
		select {
		case <-t.C:
			again = min(2*again, longBlock)
		case <-r.more:
			again = wakeAgain
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// wakeable returns the ID by which a connection can be woken, 0 when the server or the user's
// rights do not allow it.
func wakeable(ctx context.Context, client *redis.Client) (int64, error) {
	id, err := client.ClientID(ctx).Result()
	if err == nil {
		err = client.ClientUnblock(ctx, id).Err()
	}
	if err != nil && isReply(err) {
		return 0, nil
	}
	return id, err
}

func (r *xreader) run() {
	ctx := r.set.ctx
	var client *redis.Client
	var hangUp func() bool
	disconnect := func() {
		if client != nil {
			hangUp()
			_ = client.Close()
			client = nil
			r.connected(nil, 0)
		}
	}
	defer disconnect()
	defer r.set.path.whole(r)
	down := false
	wait := reconnectMin
	block := shortBlock
	for fs := r.current(); len(fs) > 0; fs = r.current() {
		began := time.Now()
		var err error
		if client == nil {
			if client, err = r.set.open(fs[0].stream); err == nil {
				c := client
				// The only way to end a read that waits.
				hangUp = context.AfterFunc(ctx, func() { _ = c.Close() })
				var id int64
				id, err = wakeable(ctx, client)
				block = shortBlock
				if id != 0 {
					block = longBlock
				}
				r.connected(client, id)
			}
		}
		if err == nil && down {
			err = client.Ping(ctx).Err()
		}
		if err == nil && down {
			down = false
			r.advance(fs)
			r.set.path.whole(r)
		}
		var news map[string]bool
		if err == nil {
			news, err = poll(ctx, client, fs, block)
		}
		switch {
		case err == nil:
			wait = reconnectMin
		case isReply(err) && !redirected(err) && !down && r.blame(fs):
			// One topic fails the command for all of them. It is left out from now on.
		default:
			down = true
			if !redirected(err) {
				r.set.path.broken(r, cause(err))
			}
			r.breakDown(fs, cause(err))
			disconnect()
			r.set.topology.doubt()
			retry.Sleep(ctx, wait)
			wait = min(2*wait, reconnectMax)
			continue
		}
		now := time.Now()
		hot := make([]*xfollow, 0, len(fs))
		for _, f := range fs {
			if (news[f.stream] || f.ahead) && !f.broken || !now.Before(f.lookAt) {
				hot = append(hot, f)
			}
		}
		if !r.advance(hot) {
			retry.Sleep(ctx, leastCycle-time.Since(began))
		}
	}
}

// poll waits until one of the streams has something new, at most for as long as given, and returns
// those that have. It does not wait, and leaves them out, while there are others to read on.
func poll(ctx context.Context, client *redis.Client, fs []*xfollow, block time.Duration) (map[string]bool, error) {
	from := make(map[string]entryID, len(fs))
	ahead := false
	for _, f := range fs {
		ahead = ahead || f.ahead && !f.broken
		if f.broken || f.ahead {
			continue
		}
		id, _ := parseID(string(f.last))
		if other, ok := from[f.stream]; !ok || id.compare(other) < 0 {
			from[f.stream] = id
		}
	}
	if len(from) == 0 {
		if !ahead {
			retry.Sleep(ctx, shortBlock)
		}
		return nil, nil
	}
	args := make([]any, 0, 6+2*len(from))
	args = append(args, "xread", "count", 1)
	if !ahead {
		args = append(args, "block", block.Milliseconds())
	}
	args = append(args, "streams")
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

// blame reads each topic by itself, after a command for all of them was refused. It reports
// whether that found one to leave out.
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

// advance reads on in several topics, and reports whether there was anything. It returns when all
// are done: calls into one sink are serial.
func (r *xreader) advance(fs []*xfollow) bool {
	var next atomic.Int64
	var got atomic.Bool
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(fs)); i = next.Add(1) - 1 {
			if fs[i].advance(r.set.ctx, r.set.history) {
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

// advance delivers a page of what comes after the last message that was delivered. When it cannot
// be proven that nothing is missing in between, it says so first.
func (f *xfollow) advance(ctx context.Context, h *history) bool {
	p, err := f.page(ctx, h)
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
	f.ahead = len(p.Messages) > 0 && h.sizes.of(f.stream).entry >= largeEntry
	if len(p.Messages) == 0 {
		return false
	}
	for i := range p.Messages {
		p.Messages[i].Prev = prev
		prev = p.Messages[i].ID
	}
	f.last = prev
	f.proof.delivered(p.Messages)
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
