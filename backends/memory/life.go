package memory

import (
	"time"

	"github.com/headrace/headrace/hub"
)

// The entries of a topic's log are its messages, what Delete and Erase leave there for readers, and
// tombstones.
//
// A tombstone stands where a message was erased: its position is still known, and nothing is read
// there.

// message reports whether the entry is a message: neither a tombstone nor a word to readers.
func (e *entry) message() bool { return !e.erased && !e.m.Deleted && e.m.Erases == "" }

// delete removes what the topic has, and begins it anew.
func (t *topic) delete() {
	now := t.b.now()
	t.expire(now)
	t.b.total.Add(-t.keys.Bytes())
	t.keys.Reset("")
	if t.retained == 0 {
		return
	}
	last := t.messages.Last()
	t.b.total.Add(-t.messages.Bytes())
	t.messages.Reset(last)
	t.retained, t.end = 0, ""
	e := t.add(hub.Message{Deleted: true}, now)
	// The entry's own position is the first that is known: even who had read everything is told.
	t.removed = e.n
	t.deliver(e.m)
}

// erase puts a tombstone in the place of a message. The message that ended the topic stays: it has
// no contents, and readers wait for it.
func (t *topic) erase(id hub.ID) {
	now := t.b.now()
	t.expire(now)
	next, ok := t.messages.After(string(id))
	if !ok || next == t.messages.First() {
		return
	}
	seq := next - 1
	_, e := t.messages.At(seq)
	if !e.message() || e.m.Final {
		return
	}
	before := t.messages.Bytes()
	t.messages.Replace(seq, messageOverhead, entry{n: e.n, at: e.at, m: hub.Message{ID: id}, erased: true})
	t.b.total.Add(t.messages.Bytes() - before)
	t.retained--
	if t.end == "" {
		t.end = t.endBefore(t.messages.Next())
	}
	t.deliver(t.add(hub.Message{Erases: id}, now).m)
}

// seek walks back from the newest entry as long as the bounds allow, and returns the position
// before the last one that they did.
func (t *topic) seek(s hub.Seek) hub.ID {
	t.expire(t.b.now())
	var count int
	var bytes int64
	seq := t.messages.Next()
	for ; seq > t.messages.First(); seq-- {
		_, e := t.messages.At(seq - 1)
		if !e.message() {
			continue
		}
		count++
		bytes += int64(len(e.m.Data))
		if s.Messages > 0 && count > s.Messages || s.Bytes > 0 && bytes > s.Bytes && count > 1 || e.m.Time.Before(s.Since) {
			return e.m.ID
		}
	}
	return ""
}

// info describes the topic.
func (t *topic) info() hub.Info {
	now := t.b.now()
	t.expire(now)
	if t.retained == 0 {
		return hub.Info{}
	}
	info := hub.Info{Exists: true, Finished: t.end != ""}
	var newest time.Duration
	for seq := t.messages.First(); info.Oldest == ""; seq++ {
		if _, e := t.messages.At(seq); e.message() {
			info.Oldest = e.m.ID
		}
	}
	for seq := t.messages.Next() - 1; info.Newest == ""; seq-- {
		if _, e := t.messages.At(seq); e.message() {
			info.Newest, newest = e.m.ID, e.at
		}
	}
	if t.bounds.age > 0 {
		info.Expires = time.Now().Round(0).Add(newest + t.bounds.age - now)
	}
	return info
}

// expire removes what is too old.
func (t *topic) expire(now time.Duration) {
	for t.bounds.age > 0 && t.messages.Len() > 0 && now-t.oldestMessage().at >= t.bounds.age {
		t.evictMessage()
	}
	for t.keys.Len() > 0 && now-t.oldestKey().at >= t.b.opts.KeyWindow {
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
	e := t.messages.Evict()
	t.b.total.Add(t.messages.Bytes() - before)
	if e.erased {
		return // nobody misses it
	}
	t.removed = max(t.removed, e.n)
	if e.message() {
		t.retained--
	}
	if e.m.ID == t.end {
		t.end = ""
	}
}

func (t *topic) evictKey() {
	before := t.keys.Bytes()
	t.keys.Evict()
	t.b.total.Add(t.keys.Bytes() - before)
}
