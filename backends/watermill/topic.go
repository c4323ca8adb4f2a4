package watermill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// follower is one Follow of a topic.
type follower struct {
	topic *topic
	sink  hub.Sink
	// after is the number of the last probe that was sent before the Follow: a later one that
	// comes back proves that what is published from now on is delivered.
	after   uint64
	active  bool // guarded by topic.mu
	stopped atomic.Bool
	ready   chan struct{} // closed when active, or when err is set
	tail    hub.ID
	err     error
}

// topic is a followed one. It has one subscription, shared by its followers, and one goroutine
// that makes all calls into sinks: run. No lock is held in those calls.
type topic struct {
	b      *Backend
	name   string // at the broker
	shown  string // in logs
	ctx    context.Context
	cancel context.CancelFunc
	poke   chan struct{} // has one element when there may be something new for run to do
	probes probes

	mu        sync.Mutex
	followers []*follower
	active    []*follower // those that get messages; replaced, never modified
	failure   error       // why there is no subscription, or why no probe could be sent
}

// close ends the subscription and all followers.
func (t *topic) close() {
	t.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.followers {
		f.stopped.Store(true)
		t.fail(f, hub.ErrClosed)
	}
	t.followers, t.active = nil, nil
}

// sort makes active anew. t.mu is held.
func (t *topic) sort() {
	t.active = nil
	for _, f := range t.followers {
		if f.active {
			t.active = append(t.active, f)
		}
	}
}

// fail ends a Follow that has not returned. t.mu is held.
func (t *topic) fail(f *follower, err error) {
	if !f.active && f.err == nil {
		f.err = err
		close(f.ready)
	}
}

func (t *topic) wake() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// why adds to an error what may be its cause.
func (t *topic) why(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	cause := t.failure
	if cause == nil {
		cause = ErrSilent
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func (t *topic) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failure = err
}

// snapshot returns the followers that get messages, and whether others wait.
func (t *topic) snapshot() (active []*follower, waiting bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active, len(t.active) < len(t.followers)
}

// each calls f for the sinks of active followers.
func (t *topic) each(f func(hub.Sink)) {
	active, _ := t.snapshot()
	for _, one := range active {
		if !one.stopped.Load() {
			f(one.sink)
		}
	}
}

// sendProbe queues a probe to the topic, for a check if that is not nil. Its number is the
// backend's next. It returns nil when the backend is closed.
func (t *topic) sendProbe(c *check) *outgoing {
	number := t.b.probes.Add(1)
	token := wm.NewUUID()
	t.probes.add(token, number, c)
	o := &outgoing{envelope: envelope{probe: token}, done: make(chan struct{})}
	o.ID, o.Time = hub.ID(token), time.Now()
	if !t.b.send(t.name, o) {
		return nil
	}
	return o
}

const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// run keeps a subscription open until the topic is let go.
func (t *topic) run() {
	wait := firstWait
	for n := 0; t.ctx.Err() == nil; n++ {
		began := time.Now()
		err := t.subscribe(n > 0)
		if t.ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrSilent) || errors.Is(err, ErrCompeting) {
			t.b.verified.Store(false)
		}
		t.note(err)
		t.giveUp(err)
		t.b.counters.reopened.Add(1)
		t.each(func(s hub.Sink) { s.Broken(opError("follow", t.shown, err)) })
		t.b.opts.Logger.Warn("watermill: a subscription is opened again", "topic", t.shown, "err", err)
		if time.Since(began) > 2*longestWait {
			wait = firstWait // it had worked
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-t.ctx.Done():
		}
		wait = min(2*wait, longestWait)
	}
}

// giveUp fails the Follows that wait for a subscription that could not be opened. Those that wait
// for a probe are bounded by their contexts.
func (t *topic) giveUp(err error) {
	if !errors.Is(err, errSubscribe) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.followers {
		t.fail(f, err)
	}
}

var errSubscribe = errors.New("subscribe")

// open calls the Subscriber. One that blocks is left behind when the topic is let go, and one
// that panics has failed.
func (t *topic) open(ctx context.Context) (<-chan *message.Message, error) {
	type opened struct {
		messages <-chan *message.Message
		err      error
	}
	result := make(chan opened, 1)
	go func() {
		var o opened
		defer func() {
			if recover() != nil {
				o.err = errPanic
			}
			result <- o
		}()
		o.messages, o.err = t.b.subscriber.Subscribe(ctx, t.name)
	}()
	select {
	case o := <-result:
		if o.err == nil && o.messages == nil {
			o.err = ErrEnded
		}
		if o.err != nil {
			return nil, fmt.Errorf("%w: %w", errSubscribe, broker(o.err))
		}
		return o.messages, nil
	case <-ctx.Done():
		go func() {
			if o := <-result; o.messages != nil {
				drain(o.messages)
			}
		}()
		return nil, ctx.Err()
	}
}

// drain takes what a subscription that was let go still has to give, until the Subscriber closes
// it: some wait for that.
func drain(messages <-chan *message.Message) {
	for m := range messages {
		if m != nil {
			m.Ack()
		}
	}
}
