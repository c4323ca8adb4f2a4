package watermill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/internal/queue"
)

// batchBounds are those of a call of the Publisher. A large message goes alone: a broker that
// refuses it for its size should refuse no other one with it.
var batchBounds = queue.Bounds{Items: 128, Bytes: 256 << 10, Alone: 64 << 10}

const (
	publishTimeout = 30 * time.Second
	// lanesKept is how many topics are remembered in which nothing is being published. A lane
	// that was forgotten begins anew as another origin.
	lanesKept = 4096
)

// outgoing is an envelope on its way to the broker. The caller waits for done, and may leave
// before.
type outgoing struct {
	envelope
	queue.Item
	lane *lane
	done chan struct{}
	err  error // when done: nil, or why the outcome is not known
}

// Size implements queue.Queued.
func (o *outgoing) Size() int { return len(o.Data) }

// lane publishes to one topic: one call after the other, so that numbers are given in the order
// in which messages reach the broker. What comes meanwhile goes with the next call.
type lane struct {
	name string // of the topic, at the broker

	mu      sync.Mutex
	queue   queue.Queue[*outgoing]
	running bool
	origin  string
	seq     uint64
}

// send queues an envelope. It reports false when the backend is closed.
func (b *Backend) send(name string, o *outgoing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	l := b.lanes[name]
	if l == nil {
		b.forgetLanes()
		l = &lane{name: name, origin: b.newOrigin()}
		b.lanes[name] = l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o.lane = l
	l.queue.Add(o)
	if !l.running {
		l.running = true
		b.wg.Go(func() { b.run(l) })
	}
	return true
}

// forgetLanes makes room for another lane: of some, those that are idle are forgotten. b.mu is
// held.
func (b *Backend) forgetLanes() {
	if len(b.lanes) < lanesKept {
		return
	}
	looks := 16
	for name, l := range b.lanes {
		l.mu.Lock()
		idle := !l.running
		l.mu.Unlock()
		if idle && b.topics[name] == nil {
			delete(b.lanes, name)
		}
		if looks--; looks == 0 {
			return
		}
	}
}

// remove takes out what was withdrawn: behind a Publisher that blocks, nobody else would.
func (l *lane) remove(o *outgoing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.Remove(o)
}

// newOrigin returns a name that nobody has used.
func (b *Backend) newOrigin() string {
	return b.instance + "." + strconv.FormatUint(b.origins.Add(1), 36)
}

func (b *Backend) run(l *lane) {
	for {
		batch := l.take()
		if batch == nil {
			return
		}
		if len(batch) == 0 {
			continue
		}
		// After an error too the numbers go on. What is not there then looks like a loss, and
		// readers are told of a gap; with a new origin a loss of before would go unnoticed.
		err := errNotSent
		if b.ctx.Err() == nil {
			err = b.publishAll(l.name, batch)
		}
		for _, o := range batch {
			o.err = err
			close(o.done)
		}
	}
}

// take returns what goes with the next call, numbered. It returns nil, and the lane stops
// running, when there is nothing.
func (l *lane) take() []*outgoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.Len() == 0 {
		l.running = false
		return nil
	}
	batch := l.queue.Take(make([]*outgoing, 0, min(l.queue.Len(), batchBounds.Items)), batchBounds)
	for _, o := range batch {
		l.seq++
		o.origin, o.seq = l.origin, l.seq
	}
	return batch
}

// publishAll calls the Publisher. One that panics has failed.
func (b *Backend) publishAll(name string, batch []*outgoing) (err error) {
	ctx, cancel := context.WithTimeout(b.ctx, publishTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = broker(errPanic)
		}
	}()
	ms := make([]*message.Message, len(batch))
	for i, o := range batch {
		ms[i] = o.wrap()
		ms[i].SetContext(ctx)
	}
	return broker(b.publisher.Publish(name, ms...))
}

// errNotSent means that the backend was closed before the Publisher was called.
var errNotSent = errors.New("not sent")

var errPanic = fmt.Errorf("watermill: %w", errors.New("the Pub/Sub panicked"))
