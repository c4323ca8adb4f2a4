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

// Options bound what a Backend retains. The zero value has the defaults; a value that is not
// positive counts as zero.
//
// A byte bound counts a message's contents and about 450 bytes for its management.
type Options struct {
	// MaxMessages is how many messages a topic retains, and how many idempotency keys it
	// remembers. Default 10,000.
	MaxMessages int
	// MaxBytes is how many bytes of messages a topic retains; the newest message is retained
	// whatever its size. Default 16 MiB.
	MaxBytes int64
	// MaxAge is how long a message is retained. Default 24 hours.
	MaxAge time.Duration
	// KeepForever retains messages whatever their age: MaxAge is ignored.
	KeepForever bool
	// KeyWindow is how long an idempotency key is remembered, retained or not its message.
	// Default 24 hours.
	KeyWindow time.Duration
	// MaxTotalBytes bounds messages and keys of all topics together; the oldest go first,
	// whatever their topic. Default 256 MiB.
	MaxTotalBytes int64
}

func (o Options) withDefaults() Options {
	if o.MaxMessages <= 0 {
		o.MaxMessages = 10_000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 16 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 24 * time.Hour
	}
	if o.KeyWindow <= 0 {
		o.KeyWindow = 24 * time.Hour
	}
	if o.MaxTotalBytes <= 0 {
		o.MaxTotalBytes = 256 << 20
	}
	return o
}

const (
	shardCount = 64
	floorCount = 64 // per shard
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
		epoch: strings.ToLower(rand.Text()[:12]) + "-",
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
	return hub.Traits{Name: "memory", Replay: true, Ordered: true, Chained: true, Keys: hub.KeysStored}
}

// Publish implements hub.Backend. It fails only when ctx was done before or the backend is closed.
func (b *Backend) Publish(ctx context.Context, name string, m hub.Message) (hub.ID, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("memory: publish: %w: %w", hub.ErrRejected, err)
	}
	t := b.lock(name, true)
	if t == nil {
		return "", fmt.Errorf("memory: publish: %w: %w", hub.ErrRejected, hub.ErrClosed)
	}
	id := t.publish(m)
	b.arm()
	if b.total.Load() > b.opts.MaxTotalBytes {
		b.shrink()
	}
	return id, nil
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
			t = newTopic(b, b.counter.Load(), s.floors[floor])
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
	// One spelling for each position: IDs are compared for equality elsewhere.
	if !ok || digits == "" || digits[0] == '+' || digits[0] == '0' && digits != "0" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n <= newest
}
