package watermill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	batchMessages = 128
	batchBytes    = 256 << 10
	// aloneBytes is the size from which on a message goes alone: a broker that refuses it for its size should refuse no other one with it.
	aloneBytes     = 64 << 10
	publishTimeout = 30 * time.Second
	// lanesKept is how many topics are remembered in which nothing is being published. A lane that was forgotten begins anew as another origin.
	lanesKept = 4096
)

// outgoing is an envelope on its way to the broker. The caller waits for done, and may leave before.
type outgoing struct {
	envelope
	lane  *lane
	state atomic.Uint32
	done  chan struct{}
	err   error // when done: nil, or why the outcome is not known
}

const (
	queued uint32 = iota
	taken
	withdrawn
)

func (o *outgoing) withdraw() bool { return o.state.CompareAndSwap(queued, withdrawn) }

// lane publishes to one topic: one call after the other, so that numbers are given in the order in which messages reach the broker. What comes meanwhile goes
// with the next call.
type lane struct {
	name string // of the topic, at the broker

	mu      sync.Mutex
	queue   []*outgoing
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
	l.queue = append(l.queue, o)
	if !l.running {
		l.running = true
		b.wg.Go(func() { b.run(l) })
	}
	return true
}

// forgetLanes makes room for another lane: of some, those that are idle are forgotten. b.mu is held.
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
	if i := slices.Index(l.queue, o); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	}
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
		// After an error too the numbers go on. What is not there then looks like a loss, and readers are told of a gap; with a new origin
		// a loss of before would go unnoticed.
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

// take returns what goes with the next call, numbered. It returns nil, and the lane stops running, when there is nothing.
func (l *lane) take() []*outgoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue, l.running = nil, false
		return nil
	}
	batch := make([]*outgoing, 0, min(len(l.queue), batchMessages))
	n, bytes := 0, 0
	for _, o := range l.queue {
		size := len(o.Data)
		if len(batch) > 0 && (len(batch) == batchMessages || bytes+size > batchBytes || size >= aloneBytes) {
			break
		}
		n++
		if !o.state.CompareAndSwap(queued, taken) {
			continue
		}
		l.seq++
		o.origin, o.seq = l.origin, l.seq
		batch = append(batch, o)
		bytes += size
		if size >= aloneBytes {
			break
		}
	}
	clear(l.queue[:n])
	l.queue = l.queue[n:]
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
