package memory

import (
	"bytes"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/log"
)

// topic is one log with its followers. Appending and delivering are one critical section under
// mu, which is why followers get exactly what is appended after their tail, in order, and why a
// Read that begins after a delivery sees it.
type topic struct {
	b  *Backend
	mu sync.Mutex

	messages *log.Log[entry]
	keys     *log.Log[keyed] // by idempotency key
	// The newest n that was removed, or may have been in a former life of the topic.
	removed uint64
	dropped bool // no longer in its shard: look it up again

	// Publish only loads the list. It is changed under followersMu and not mu, so that stop never
	// waits for a Deliver that is running; additions hold both.
	followersMu sync.Mutex
	followers   atomic.Pointer[[]*follower]
}

type entry struct {
	n  uint64
	at time.Duration // since the backend's start, so that steps of the wall clock do not matter
	m  hub.Message
}

type keyed struct {
	n  uint64
	at time.Duration
}

type follower struct {
	sink    hub.Sink
	stopped atomic.Bool
}

func newTopic(b *Backend, newest, removed uint64) *topic {
	return &topic{
		b:        b,
		messages: log.New[entry](string(b.id(newest))),
		keys:     log.New[keyed](""),
		removed:  removed,
	}
}

// publish appends m, delivers it and unlocks the topic.
func (t *topic) publish(m hub.Message) hub.ID {
	defer t.mu.Unlock()
	now := t.b.now()
	t.expire(now)
	key := m.Key
	if t.keys.Has(key) {
		next, _ := t.keys.After(key)
		_, first := t.keys.At(next - 1)
		return t.b.id(first.n)
	}
	n := t.b.counter.Add(1)
	m.ID, m.Prev = t.b.id(n), hub.ID(t.messages.Last())
	m.Data, m.Headers = bytes.Clone(m.Data), maps.Clone(m.Headers)
	m.Key, m.Gap = "", false
	m.Time = time.Now().Round(0)
	t.append(entry{n: n, at: now, m: m})
	if key != "" {
		t.remember(key, keyed{n: n, at: now})
	}
	if fs := t.followers.Load(); fs != nil {
		for _, f := range *fs {
			if !f.stopped.Load() && !t.b.closed.Load() {
				f.sink.Deliver(m)
			}
		}
	}
	return m.ID
}

func (t *topic) append(e entry) {
	size := messageSize(&e.m)
	t.messages.Append(string(e.m.ID), size, e)
	t.b.total.Add(int64(size))
	o := &t.b.opts
	for t.messages.Len() > o.MaxMessages || t.messages.Bytes() > o.MaxBytes && t.messages.Len() > 1 {
		t.evictMessage()
	}
}

func (t *topic) remember(key string, k keyed) {
	size := keyOverhead + len(key)
	t.keys.Append(key, size, k)
	t.b.total.Add(int64(size))
	for t.keys.Len() > t.b.opts.MaxMessages {
		t.evictKey()
	}
}

// follow adds f, unlocks the topic and returns the tail.
func (t *topic) follow(f *follower) hub.ID {
	defer t.mu.Unlock()
	t.expire(t.b.now())
	t.changeFollowers(func(fs []*follower) []*follower { return append(fs, f) })
	return hub.ID(t.messages.Last())
}

func (t *topic) unfollow(f *follower) {
	t.changeFollowers(func(fs []*follower) []*follower {
		return slices.DeleteFunc(fs, func(g *follower) bool { return g == f })
	})
}

func (t *topic) unfollowAll() {
	t.changeFollowers(func(fs []*follower) []*follower {
		for _, f := range fs {
			f.stopped.Store(true)
		}
		return nil
	})
}

// changeFollowers replaces the list by a changed copy: the old one may be in use by a Publish.
func (t *topic) changeFollowers(change func([]*follower) []*follower) {
	t.followersMu.Lock()
	defer t.followersMu.Unlock()
	var fs []*follower
	if old := t.followers.Load(); old != nil {
		fs = slices.Clone(*old)
	}
	if fs = change(fs); len(fs) == 0 {
		t.followers.Store(nil)
		return
	}
	t.followers.Store(&fs)
}

func (t *topic) read(after hub.ID, limit int) hub.Page {
	t.expire(t.b.now())
	var p hub.Page
	newest := t.b.counter.Load()
	seq := t.messages.First()
	if after != "" {
		n, ok := t.b.place(after, newest)
		if p.Gap = !ok || n < t.removed; !p.Gap {
			seq = t.firstAfter(n)
			if seq > t.messages.First() {
				_, before := t.messages.At(seq - 1)
				p.Final = before.n == n && before.m.Final
			}
		}
	}
	count := min(uint64(max(limit, 1)), t.messages.Next()-seq)
	p.Messages = make([]hub.Message, 0, count)
	for size := 0; uint64(len(p.Messages)) < count && size < hub.PageBytes; seq++ {
		_, e := t.messages.At(seq)
		p.Messages = append(p.Messages, e.m)
		size += len(e.m.Data)
	}
	switch {
	case len(p.Messages) > 0:
		p.Next = p.Messages[len(p.Messages)-1].ID
	case after == "" || p.Gap:
		// Nothing is retained, and what comes has a greater n: whoever takes one holds the lock.
		p.Next = t.b.id(newest)
	default:
		p.Next = after
	}
	return p
}

// firstAfter returns the sequence number of the oldest message with an n greater than n.
func (t *topic) firstAfter(n uint64) uint64 {
	first := t.messages.First()
	return first + uint64(sort.Search(t.messages.Len(), func(i int) bool {
		_, e := t.messages.At(first + uint64(i))
		return e.n > n
	}))
}

// expire removes what is too old.
func (t *topic) expire(now time.Duration) {
	o := &t.b.opts
	for !o.KeepForever && t.messages.Len() > 0 && now-t.oldestMessage().at >= o.MaxAge {
		t.evictMessage()
	}
	for t.keys.Len() > 0 && now-t.oldestKey().at >= o.KeyWindow {
		t.evictKey()
	}
}

// oldest returns the n of the oldest message or key. It reports false when there is neither.
func (t *topic) oldest() (n uint64, ok bool) {
	if t.messages.Len() > 0 {
		n, ok = t.oldestMessage().n, true
	}
	if t.keys.Len() > 0 {
		if k := t.oldestKey().n; !ok || k < n {
			n, ok = k, true
		}
	}
	return n, ok
}

// evictOldest removes what oldest speaks of, the message first where its key is as old.
func (t *topic) evictOldest() {
	n, ok := t.oldest()
	switch {
	case !ok:
	case t.messages.Len() > 0 && t.oldestMessage().n == n:
		t.evictMessage()
	default:
		t.evictKey()
	}
}

// useless reports whether the topic may be dropped.
func (t *topic) useless() bool {
	return t.messages.Len() == 0 && t.keys.Len() == 0 && t.followers.Load() == nil
}

func (t *topic) oldestMessage() entry {
	_, e := t.messages.At(t.messages.First())
	return e
}

func (t *topic) oldestKey() keyed {
	_, k := t.keys.At(t.keys.First())
	return k
}

func (t *topic) evictMessage() {
	before := t.messages.Bytes()
	t.removed = max(t.removed, t.messages.Evict().n)
	t.b.total.Add(t.messages.Bytes() - before)
}

func (t *topic) evictKey() {
	before := t.keys.Bytes()
	t.keys.Evict()
	t.b.total.Add(t.keys.Bytes() - before)
}

// What is counted beside contents: the slot in the ring, which grows by doubling, its share of
// the index, and the ID.
const (
	messageOverhead = 450
	keyOverhead     = 128
	topicOverhead   = 1000
	headersOverhead = 320
)

func messageSize(m *hub.Message) int {
	n := messageOverhead + len(m.Type) + len(m.Data)
	if len(m.Headers) > 0 {
		n += headersOverhead
	}
	for k, v := range m.Headers {
		n += 64 + len(k) + len(v)
	}
	return n
}
