package watermill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// Backend is a hub.Backend over a Watermill Pub/Sub. Its methods may be called concurrently. Use
// New.
type Backend struct {
	positionless

	opts       Options
	publisher  message.Publisher
	subscriber message.Subscriber
	instance   string        // names this backend in probes and origins
	origins    atomic.Uint64 // how many this backend has begun
	probes     atomic.Uint64 // the number of the last probe
	counters   counters
	verified   atomic.Bool // a subscription was seen to get every message

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	lanes  map[string]*lane  // by name at the broker
	topics map[string]*topic // that are followed, by name at the broker
}

var _ hub.Backend = (*Backend)(nil)

// Stats are what a Backend has counted since it was made.
type Stats struct {
	// Skipped are messages that were not shown because they were malformed, or because
	// Options.Decode refused them.
	Skipped uint64
	// Lost are messages that, by their numbers, were published and did not come. Readers were
	// told of a gap.
	Lost uint64
	// Late are messages that came after a later one of the same origin, redelivered or out of
	// order, and were not shown.
	Late uint64
	// Reopened are subscriptions that ended or fell silent and had to be opened again.
	Reopened uint64
}

type counters struct{ skipped, lost, late, reopened atomic.Uint64 }

// New returns a backend over a Pub/Sub. The backend uses the two concurrently and never closes
// them, unless Options.OnClose does. The error says what is missing.
func New(publisher message.Publisher, subscriber message.Subscriber, o Options) (*Backend, error) {
	if publisher == nil || subscriber == nil {
		return nil, errors.New("watermill: New needs a Publisher and a Subscriber")
	}
	b := &Backend{
		opts: o.withDefaults(), publisher: publisher, subscriber: subscriber, instance: strings.ReplaceAll(wm.NewUUID(), "-", ""),
		lanes: make(map[string]*lane), topics: make(map[string]*topic),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Traits implements hub.Backend.
func (b *Backend) Traits() hub.Traits {
	return hub.Traits{Name: b.opts.Name, Ordered: b.opts.Ordered, Shared: !b.opts.Local, Durable: b.opts.Persistent, Keys: hub.KeysWindow}
}

// Stats returns what was counted.
func (b *Backend) Stats() Stats {
	c := &b.counters
	return Stats{Skipped: c.skipped.Load(), Lost: c.lost.Load(), Late: c.late.Load(), Reopened: c.reopened.Load()}
}

// Publish implements hub.Backend. Concurrent publishes to one topic share calls of the Publisher,
// one call after the other. The error is ErrRejected when the message was not handed to the
// Publisher, and hub.ErrUnknown when the Publisher failed, or was not done when ctx ended.
func (b *Backend) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	rejected := func(err error) (hub.ID, error) {
		return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrRejected, err))
	}
	if ctx.Err() != nil {
		return rejected(context.Cause(ctx))
	}
	name, err := b.opts.Topic(topic)
	if err != nil {
		return rejected(err)
	}
	o := &outgoing{envelope: envelope{Message: m}, done: make(chan struct{})}
	o.Time = time.Now()
	if m.Key == "" {
		o.ID = newID(o.Time)
	} else {
		o.ID = keyedID(topic, m.Key)
	}
	// The caller may leave before the broker has it.
	o.Data = append([]byte(nil), m.Data...)
	o.Headers = make(map[string]string, len(m.Headers))
	maps.Copy(o.Headers, m.Headers)
	if !b.send(name, o) {
		return rejected(hub.ErrClosed)
	}
	select {
	case <-o.done:
		err = o.err
	case <-ctx.Done():
		err = context.Cause(ctx)
		if o.Withdraw() {
			o.lane.remove(o)
			return rejected(err)
		}
	}
	if errors.Is(err, errNotSent) {
		return rejected(hub.ErrClosed)
	}
	if err != nil {
		return "", opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrUnknown, err))
	}
	return o.ID, nil
}

// Read implements hub.Backend. There is nothing to read from, and hubs do not ask: the error is
// ErrNoReplay.
func (b *Backend) Read(_ context.Context, topic string, _ hub.ID, _ int) (hub.Page, error) {
	return hub.Page{}, opError("read", topic, ErrNoReplay)
}

// Follow implements hub.Backend. Without Options.NoProbes it returns when a probe has come back,
// so it takes a round trip at least. The first Follow of a backend also sees whether every probe
// comes back, and fails with ErrCompeting if not.
func (b *Backend) Follow(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
	name, err := b.opts.Topic(topic)
	if err != nil {
		return "", nil, opError("follow", topic, err)
	}
	f, err := b.follow(name, topic, sink)
	if err != nil {
		return "", nil, opError("follow", topic, err)
	}
	stop := sync.OnceFunc(func() { b.unfollow(f) })
	select {
	case <-f.ready:
		err = f.err
	case <-ctx.Done():
		err = f.topic.why(context.Cause(ctx))
	}
	if err == nil && !b.verified.Load() && !b.opts.NoProbes {
		if err = verify(ctx, f.topic); err == nil {
			b.verified.Store(true)
		}
	}
	if err != nil {
		stop()
		return "", nil, opError("follow", topic, err)
	}
	return f.tail, stop, nil
}

// Ping implements hub.Backend. It asks no broker: it fails when a subscription is known to be down,
// or no probe can be published to it, and when the backend is closed.
func (b *Backend) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("watermill: ping: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("watermill: ping: %w", hub.ErrClosed)
	}
	for _, t := range b.topics {
		t.mu.Lock()
		err := t.failure
		t.mu.Unlock()
		if err != nil {
			return opError("ping", t.shown, err)
		}
	}
	return nil
}

// follow adds a follower to a topic, which it begins to follow if nobody did.
func (b *Backend) follow(name, shown string, sink hub.Sink) (*follower, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, hub.ErrClosed
	}
	t := b.topics[name]
	if t == nil {
		t = &topic{b: b, name: name, shown: shown, poke: make(chan struct{}, 1)}
		t.ctx, t.cancel = context.WithCancel(b.ctx)
		b.topics[name] = t
		defer b.wg.Go(t.run) // when the follower is there: it is told if nothing can be opened
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := &follower{topic: t, sink: sink, after: b.probes.Load(), ready: make(chan struct{})}
	t.followers = append(t.followers, f)
	t.wake()
	return f, nil
}

// unfollow takes a follower away. The last one ends the subscription.
func (b *Backend) unfollow(f *follower) {
	f.stopped.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	t := f.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := make([]*follower, 0, len(t.followers))
	for _, other := range t.followers {
		if other != f {
			kept = append(kept, other)
		}
	}
	t.followers = kept
	t.sort()
	if len(kept) == 0 && b.topics[t.name] == t {
		delete(b.topics, t.name)
		t.cancel()
	}
}

// closeTimeout bounds how long Close waits for a Pub/Sub that is in the middle of something.
const closeTimeout = 10 * time.Second

// Close implements hub.Backend. It ends all subscriptions and waits for what is under way at the
// Publisher, at most some seconds, and then calls Options.OnClose.
func (b *Backend) Close() error {
	b.mu.Lock()
	closed := b.closed
	b.closed = true
	for _, t := range b.topics {
		t.close()
	}
	clear(b.topics)
	b.mu.Unlock()
	if closed {
		return nil
	}
	b.cancel()
	done := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(done)
	}()
	var err error
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		err = fmt.Errorf("watermill: close: %w: it does not return", ErrBroker)
	}
	return errors.Join(err, broker(b.opts.OnClose()))
}
