package hub

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What the fake does for the life of topics. Its IDs are numbers, so it can tell which is newer.

func (t *fakeTopic) number(i int) float64 {
	n, _ := strconv.ParseFloat(string(t.retained[i].ID), 64)
	return n
}

// next returns the ID of the next message.
func (t *fakeTopic) next() ID {
	if t.behind > 0 {
		t.behind--
		return ID(fmt.Sprintf("%s.%06d", t.root, t.count))
	}
	t.n++
	return ID(strconv.Itoa(t.n))
}

// loseBehind is lose at a store whose clock is behind: the next IDs are lower than those of what it
// lost.
func (b *fake) loseBehind(topic string, n, ids int) {
	b.lose(topic, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(topic)
	if len(t.retained) == 0 {
		return
	}
	t.root, _, _ = strings.Cut(string(t.last()), ".")
	t.behind = ids
}

func (b *fake) PublishAll(ctx context.Context, topic string, ms []Message) (ids []ID, err error) {
	for _, m := range ms {
		id, err := b.Publish(ctx, topic, m)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (b *fake) Seek(_ context.Context, topic string, s Seek) (ID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seeks++
	t := b.topic(topic)
	n, bytes := 0, int64(0)
	for _, m := range slices.Backward(t.retained) {
		if m.Deleted || m.Erases != "" {
			continue
		}
		n++
		bytes += int64(len(m.Data))
		if s.Messages > 0 && n > s.Messages || s.Bytes > 0 && bytes > s.Bytes && n > 1 || m.Time.Before(s.Since) {
			return m.ID, nil
		}
	}
	return "", nil
}

func (b *fake) Info(_ context.Context, topic string) (info Info, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.topic(topic).retained {
		if m.Deleted || m.Erases != "" {
			continue
		}
		if !info.Exists {
			info.Exists, info.Oldest = true, m.ID
		}
		info.Newest, info.Finished = m.ID, m.Final
	}
	return info, nil
}

func (b *fake) Delete(_ context.Context, topic string) error {
	b.mu.Lock()
	t := b.topic(topic)
	t.retained, t.base = nil, ID("deleted-"+strconv.Itoa(t.n))
	clear(t.keys)
	b.mu.Unlock()
	b.append(topic, Message{Deleted: true})
	return nil
}

func (b *fake) Erase(_ context.Context, topic string, id ID) error {
	b.mu.Lock()
	t := b.topic(topic)
	i := slices.IndexFunc(t.retained, func(m Message) bool { return m.ID == id })
	if i >= 0 {
		t.retained[i] = Message{ID: id, Time: t.retained[i].Time, Erases: id} // it stays as a position
	}
	b.mu.Unlock()
	if i >= 0 {
		b.append(topic, Message{Erases: id})
	}
	return nil
}

func (b *fake) Ping(ctx context.Context) error { return ctx.Err() }

func (b *fake) IsID(id ID) bool { return id != "no-id" }

// lose loses the newest messages, as a store that crashed. What comes next has other IDs.
func (b *fake) lose(topic string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(topic)
	n = min(n, len(t.retained))
	t.retained = slices.Clone(t.retained[:len(t.retained)-n])
	if len(t.retained) == 0 {
		t.base = ID("lost-" + strconv.Itoa(t.n))
	}
}
