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
	bounds   bounds
	retained int    // how many entries are messages
	end      hub.ID // of the newest message, if it ended the topic
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
	// erased marks a tombstone.
	erased bool
}

type keyed struct {
	n  uint64
	at time.Duration
}

type follower struct {
	sink    hub.Sink
	stopped atomic.Bool
}

func newTopic(b *Backend, name string, newest, removed uint64) *topic {
	return &topic{
		b:        b,
		bounds:   b.opts.bounds(name),
		messages: log.New[entry](string(b.id(newest))),
		keys:     log.New[keyed](""),
		removed:  removed,
	}
}

// publish appends m, delivers it and unlocks the topic.
func (t *topic) publish(m hub.Message) (hub.ID, error) {
	defer t.mu.Unlock()
	now := t.b.now()
	t.expire(now)
	if id, ok := t.first(m.Key); ok {
		return id, nil
	}
	switch {
	case t.end == "" || m.AfterEnd:
	case m.Final:
		return t.end, nil
	default:
		return "", hub.ErrEnded
	}
	e := t.add(m, now)
	t.deliver(e.m)
	return e.m.ID, nil
}

// publishAll is publish for several messages, all or none.
func (t *topic) publishAll(ms []hub.Message) ([]hub.ID, error) {
	defer t.mu.Unlock()
	now := t.b.now()
	t.expire(now)
	end := t.end
	again := end != "" && ms[len(ms)-1].Final // to finish once more appends nothing
	ids := make([]hub.ID, len(ms))
	for i := range ms {
		var known bool
		ids[i], known = t.first(ms[i].Key)
		switch {
		case known:
		case again:
			ids[i] = end
		case end != "" && !ms[i].AfterEnd:
			return nil, hub.ErrEnded
		}
	}
	fresh := make([]hub.Message, 0, len(ms))
	for i := range ms {
		if ids[i] != "" {
			continue
		}
		// A key may be there twice.
		id, known := t.first(ms[i].Key)
		if !known {
			m := t.add(ms[i], now).m
			fresh = append(fresh, m)
			id = m.ID
		}
		ids[i] = id
	}
	t.deliver(fresh...)
	return ids, nil
}

// first returns the ID of the message that was published with a key.
func (t *topic) first(key string) (id hub.ID, ok bool) {
	if !t.keys.Has(key) {
		return "", false
	}
	next, _ := t.keys.After(key)
	_, k := t.keys.At(next - 1)
	return t.b.id(k.n), true
}

// add appends m with the next ID, remembers its key, and returns the entry.
func (t *topic) add(m hub.Message, now time.Duration) entry {
	key := m.Key
	n := t.b.counter.Add(1)
	m.ID, m.Prev = t.b.id(n), hub.ID(t.messages.Last())
	m.Data, m.Headers = bytes.Clone(m.Data), maps.Clone(m.Headers)
	m.Key, m.Gap, m.AfterEnd = "", false, false
	m.Time = time.Now().Round(0)
	e := entry{n: n, at: now, m: m}
	size := messageSize(&e.m)
	t.messages.Append(string(e.m.ID), size, e)
	t.b.total.Add(int64(size))
	if e.message() {
		t.retained++
		t.end = ""
		if e.m.Final {
			t.end = e.m.ID
		}
	}
	for t.messages.Len() > t.bounds.messages || t.messages.Bytes() > t.bounds.bytes && t.messages.Len() > 1 {
		t.evictMessage()
	}
	if key != "" {
		t.remember(key, keyed{n: n, at: now})
	}
	return e
}

// deliver hands messages to the followers.
func (t *topic) deliver(ms ...hub.Message) {
	fs := t.followers.Load()
	if fs == nil || len(ms) == 0 {
		return
	}
	for _, f := range *fs {
		if !f.stopped.Load() && !t.b.closed.Load() {
			f.sink.Deliver(ms...)
		}
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
				p.Final = before.n == n && (before.m.Final || before.m.Erases != "" && t.endBefore(seq) != "")
				p.Deleted = before.n == n && before.m.Deleted
			}
		}
	}
	count := min(uint64(max(limit, 1)), t.messages.Next()-seq)
	p.Messages = make([]hub.Message, 0, count)
	for size := 0; uint64(len(p.Messages)) < count && size < hub.PageBytes && seq < t.messages.Next(); seq++ {
		_, e := t.messages.At(seq)
		if e.erased {
			continue
		}
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

// endBefore returns the ID of the newest message before a sequence number if it ended the topic.
func (t *topic) endBefore(seq uint64) hub.ID {
	for ; seq > t.messages.First(); seq-- {
		switch _, e := t.messages.At(seq - 1); {
		case e.m.Final:
			return e.m.ID
		case e.message() || e.m.Deleted:
			return ""
		}
	}
	return ""
}

// firstAfter returns the sequence number of the oldest message with an n greater than n.
func (t *topic) firstAfter(n uint64) uint64 {
	first := t.messages.First()
	return first + uint64(sort.Search(t.messages.Len(), func(i int) bool {
		_, e := t.messages.At(first + uint64(i))
		return e.n > n
	}))
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
