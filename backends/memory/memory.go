// Package memory is the backend of one process: topics are bounded logs in memory. Nothing
// survives the process and no other process sees it, but within it order, replay, gaps and
// idempotency keys are exact.
//
// An ID is <epoch>-<n>. The epoch is random, new with each Backend; n counts the messages of all
// topics of the Backend, so no ID is ever used twice, not even by a topic that was let go and
// came back. An ID is therefore a position in the one sequence of the process, and Read can place
// one that it never gave for this very topic: it answers with what the topic got after that
// position.
//
// Importing the package registers the scheme memory:// with package backends; see [Open].
package memory

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

const (
	shardCount = 64
	floorCount = 64 // per shard

	epochLen     = 12
	epochLetters = "abcdefghijklmnopqrstuvwxyz234567" // those of rand.Text, in lower case
)

// Backend is a hub.Backend in memory. Publish delivers to the topic's followers before it
// returns. No method waits for anything but locks that are held briefly, so contexts matter only
// at the start of a call.
//
// Use New.
type Backend struct {
	opts  Options
	epoch string // ends with the dash
	start time.Time
	seed  maphash.Seed

	// The newest n; taken under the lock of the topic that gets it, so each topic's log is in
	// order of n.
	counter atomic.Uint64
	total   atomic.Int64 // bytes of all topics
	closed  atomic.Bool
	shards  [shardCount]shard

	shrinking sync.Mutex // one shrink at a time

	armed     atomic.Bool
	janitorMu sync.Mutex
	janitor   *time.Timer
}

// shard is a part of the topics. Its lock may be held while a topic's is taken, never the other
// way round.
type shard struct {
	mu     sync.Mutex
	topics map[string]*topic // nil once the backend is closed
	// floors remember the newest n that was removed from topics that are no longer in the map,
	// several topics sharing a place: what a topic knows about its gaps must outlive the topic,
	// within a fixed size.
	floors [floorCount]uint64
}

var _ hub.Backend = (*Backend)(nil)

// New returns an empty backend. Close releases it.
func New(o Options) *Backend {
	b := &Backend{
		opts:  o.withDefaults(),
		epoch: strings.ToLower(rand.Text()[:epochLen]) + "-",
		start: time.Now(),
		seed:  maphash.MakeSeed(),
	}
	for i := range b.shards {
		b.shards[i].topics = make(map[string]*topic)
	}
	return b
}

// Traits implements hub.Backend.
func (b *Backend) Traits() hub.Traits {
	return hub.Traits{
		Name: "memory", Replay: true, Ordered: true, Chained: true, Keys: hub.KeysStored,
		Atomic: true, Ends: true, Deletes: true,
	}
}

// Publish implements hub.Backend. It fails only when ctx was done before, the topic is finished, or
// the backend is closed.
func (b *Backend) Publish(ctx context.Context, name string, m hub.Message) (hub.ID, error) {
	t, err := b.toPublish(ctx, name)
	if err != nil {
		return "", err
	}
	id, err := t.publish(m)
	if err != nil {
		return "", rejected(err)
	}
	b.grown()
	return id, nil
}

// PublishAll implements hub.Backend. It fails as Publish does. Messages that are more than the
// topic retains are appended all the same, and the oldest go at once.
func (b *Backend) PublishAll(ctx context.Context, name string, ms []hub.Message) ([]hub.ID, error) {
	t, err := b.toPublish(ctx, name)
	if err != nil {
		return nil, err
	}
	ids, err := t.publishAll(ms)
	if err != nil {
		return nil, rejected(err)
	}
	b.grown()
	return ids, nil
}

// toPublish returns the topic, locked.
func (b *Backend) toPublish(ctx context.Context, name string) (*topic, error) {
	if err := ctx.Err(); err != nil {
		return nil, rejected(err)
	}
	t := b.lock(name, true)
	if t == nil {
		return nil, rejected(hub.ErrClosed)
	}
	return t, nil
}

func rejected(err error) error {
	return fmt.Errorf("memory: publish: %w: %w", hub.ErrRejected, err)
}

// grown sees to what there may be too much of now. No topic is locked.
func (b *Backend) grown() {
	b.arm()
	if b.total.Load() > b.opts.MaxTotalBytes {
		b.shrink()
	}
}

// Follow implements hub.Backend. The sink is called by the publishers' goroutines, while the
// topic is locked: it must not call Publish, Follow or Read of the same topic.
func (b *Backend) Follow(ctx context.Context, name string, sink hub.Sink) (hub.ID, func(), error) {
	if err := ctx.Err(); err != nil {
		return "", nil, fmt.Errorf("memory: follow: %w", err)
	}
	t := b.lock(name, true)
	if t == nil {
		return "", nil, fmt.Errorf("memory: follow: %w", hub.ErrClosed)
	}
	f := &follower{sink: sink}
	tail := t.follow(f)
	stop := func() {
		if !f.stopped.Swap(true) {
			t.unfollow(f)
			b.arm() // the topic may be of no more use
		}
	}
	if b.closed.Load() {
		// Close may have gone over the topic's followers before this one was among them.
		stop()
		return "", nil, fmt.Errorf("memory: follow: %w", hub.ErrClosed)
	}
	return tail, stop, nil
}

// Read implements hub.Backend. A topic that holds nothing is not created by it.
func (b *Backend) Read(ctx context.Context, name string, after hub.ID, limit int) (hub.Page, error) {
	if err := ctx.Err(); err != nil {
		return hub.Page{}, fmt.Errorf("memory: read: %w", err)
	}
	for {
		s, floor := b.shard(name)
		s.mu.Lock()
		if s.topics == nil {
			s.mu.Unlock()
			return hub.Page{}, fmt.Errorf("memory: read: %w", hub.ErrClosed)
		}
		t := s.topics[name]
		if t == nil {
			// Still under the shard's lock: who publishes to this topic has to come through here,
			// and takes his n later.
			newest := b.counter.Load()
			removed := s.floors[floor]
			s.mu.Unlock()
			p := hub.Page{Next: after}
			if n, ok := b.place(after, newest); after == "" || !ok || n < removed {
				p.Gap, p.Next = after != "", b.id(newest)
			}
			return p, nil
		}
		s.mu.Unlock()
		t.mu.Lock()
		if !t.dropped {
			p := t.read(after, limit)
			t.mu.Unlock()
			return p, nil
		}
		t.mu.Unlock()
	}
}

// Seek implements hub.Backend. Since is compared with the times of messages, newest first.
func (b *Backend) Seek(ctx context.Context, name string, s hub.Seek) (id hub.ID, err error) {
	err = b.with(ctx, "seek", name, func(t *topic) { id = t.seek(s) })
	return id, err
}

// Info implements hub.Backend. A topic expires when its newest message is too old, unless the
// options keep it forever.
func (b *Backend) Info(ctx context.Context, name string) (info hub.Info, err error) {
	err = b.with(ctx, "info", name, func(t *topic) { info = t.info() })
	return info, err
}

// Delete implements hub.Backend. As Publish does, it delivers before it returns.
func (b *Backend) Delete(ctx context.Context, name string) error {
	return b.with(ctx, "delete", name, (*topic).delete)
}

// Erase implements hub.Backend. As Publish does, it delivers before it returns. The message that
// ended a topic is not erased: it has no contents.
func (b *Backend) Erase(ctx context.Context, name string, id hub.ID) error {
	return b.with(ctx, "erase", name, func(t *topic) { t.erase(id) })
}

// with calls do with the topic, locked, if there is one.
func (b *Backend) with(ctx context.Context, op, name string, do func(t *topic)) error {
	if err := b.ready(ctx, op); err != nil {
		return err
	}
	t := b.lock(name, false)
	if t == nil {
		// Close may have taken the topics away.
		return b.ready(ctx, op)
	}
	do(t)
	t.mu.Unlock()
	b.grown()
	return nil
}

// Ping implements hub.Backend. It fails when ctx was done before or the backend is closed.
func (b *Backend) Ping(ctx context.Context) error { return b.ready(ctx, "ping") }

// ready returns why nothing can be done now.
func (b *Backend) ready(ctx context.Context, op string) error {
	err := ctx.Err()
	if err == nil && b.closed.Load() {
		err = hub.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("memory: %s: %w", op, err)
	}
	return nil
}

// IsID implements hub.Backend. The ID may be of any epoch.
func (b *Backend) IsID(id hub.ID) bool {
	epoch, digits, ok := strings.Cut(string(id), "-")
	if !ok || len(epoch) != epochLen || strings.Trim(epoch, epochLetters) != "" {
		return false
	}
	_, ok = number(digits)
	return ok
}

// Close implements hub.Backend. It lets go of everything retained and does not wait for calls
// that are running.
func (b *Backend) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		topics := s.topics
		s.topics = nil
		s.mu.Unlock()
		for _, t := range topics {
			t.unfollowAll()
		}
	}
	b.janitorMu.Lock()
	defer b.janitorMu.Unlock()
	if b.janitor != nil {
		b.janitor.Stop()
	}
	return nil
}

func (b *Backend) shard(name string) (s *shard, floor int) {
	h := maphash.String(b.seed, name)
	return &b.shards[h%shardCount], int(h / shardCount % floorCount)
}

// lock returns the topic, locked. It returns nil when the backend is closed, or when there is no
// such topic and create is false.
func (b *Backend) lock(name string, create bool) *topic {
	s, floor := b.shard(name)
	for {
		s.mu.Lock()
		t := s.topics[name]
		if t == nil {
			if s.topics == nil || !create {
				s.mu.Unlock()
				return nil
			}
			t = newTopic(b, name, b.counter.Load(), s.floors[floor])
			s.topics[name] = t
			b.total.Add(int64(topicOverhead + len(name)))
		}
		s.mu.Unlock()
		t.mu.Lock()
		if !t.dropped {
			return t
		}
		t.mu.Unlock()
	}
}

func (b *Backend) now() time.Duration { return time.Since(b.start) }

func (b *Backend) id(n uint64) hub.ID {
	var buf [40]byte
	return hub.ID(strconv.AppendUint(append(buf[:0], b.epoch...), n, 10))
}

// place returns the n of an ID of this backend that is not after newest.
func (b *Backend) place(id hub.ID, newest uint64) (n uint64, ok bool) {
	digits, ok := strings.CutPrefix(string(id), b.epoch)
	if !ok {
		return 0, false
	}
	n, ok = number(digits)
	return n, ok && n <= newest
}

// number returns what digits say. There is one spelling for each number: IDs are compared for
// equality elsewhere.
func number(digits string) (n uint64, ok bool) {
	if digits == "" || digits[0] == '+' || digits[0] == '0' && digits != "0" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}
