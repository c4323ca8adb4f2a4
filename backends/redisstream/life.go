package redisstream

import (
	"context"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// Read implements hub.Backend.
//
// A page has no gap when it can be proven that nothing is missing: the entry with the given ID is
// still there, and so is all that came after it; or the entry was erased, and nothing that came
// after it was trimmed; or it is the one that the stream gave last, now or when everything had been
// trimmed and the oldest entry came; or the ID is a position before the topic's first message,
// which is still there. Everything else is a gap: IDs that are malformed or foreign, and those
// whose entry was trimmed, or lost together with the stream.
//
// After a gap the page begins with the oldest message that is newer than the ID. For a malformed
// ID, and for a position before the topic's first message, it begins with the oldest one.
func (b *Backend) Read(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
	p, err := b.history.page(ctx, b.keys.stream(topic), after, min(max(limit, 1), maxPage), b.opts.placeExpiry(topic))
	if err != nil {
		return hub.Page{}, opError("read", topic, err)
	}
	return p, nil
}

// maxErased is how many erased IDs of a topic are remembered, the newest ones: a reader that comes
// back with an older one has a gap.
const maxErased = 10_000

// Delete implements hub.Backend. What it needs is done in one step. It waits for the answer, at
// most until ctx ends; with an error that is no reply of Redis (see the causes of this package) the
// topic may be deleted or not. A topic whose retained messages have all been erased or trimmed has
// none, and loses only what is known of its idempotency keys. The entry that is left expires with
// the topic, and where topics are kept for ever, after MinExpiry or 24 hours, whichever is longer.
func (b *Backend) Delete(ctx context.Context, topic string) error {
	stream := b.keys.stream(topic)
	keys := []string{stream, erasedKey(stream), frontKey(stream), newerKeysKey(stream), formerKeysKey(stream)}
	reply, err := b.writer.script(ctx, deleteScript, keys,
		randomID(), milliseconds(b.opts.deletionExpiry(topic)), b.keys.suffix, b.publisher.announce)
	if err != nil {
		return opError("delete", topic, err)
	}
	b.warnOf(topic, reply)
	return nil
}

// Erase implements hub.Backend. What it needs is done in one step; it blocks and fails as Delete
// does. The message that ended a topic is not erased, nor is an entry that is no message: nothing
// is done then, and the error is nil. An idempotency key of the message stays known. The 10,000
// newest IDs of erased messages of a topic are remembered.
func (b *Backend) Erase(ctx context.Context, topic string, id hub.ID) error {
	if at, ok := parseID(string(id)); !ok || at.place() {
		return nil
	}
	stream := b.keys.stream(topic)
	reply, err := b.writer.script(ctx, eraseScript, []string{stream, erasedKey(stream), frontKey(stream)},
		string(id), randomID(), milliseconds(b.opts.expiryOf(topic)), -maxErased-1, b.keys.suffix, b.publisher.announce,
		milliseconds(b.opts.finishedExpiry(topic)))
	if err != nil {
		return opError("erase", topic, err)
	}
	b.warnOf(topic, reply)
	return nil
}

// warnOf logs the warning in what a script returned.
func (b *Backend) warnOf(topic string, reply any) {
	text, _ := reply.(string)
	if _, warning, ok := strings.Cut(text, " "); ok {
		b.warn(topic, warning)
	}
}

// seekEntries is how many entries one run of the seek script looks at: some milliseconds of Redis'
// time.
const seekEntries = 1000

// Seek implements hub.Backend. No contents are transferred, but Redis walks over the messages
// within the bounds; it does so in steps, and ctx may end in between. The time of a message is that
// in its ID. Bytes are those of Data; of an entry that another program added, those of its values.
func (b *Backend) Seek(ctx context.Context, topic string, s hub.Seek) (hub.ID, error) {
	old := ""
	if ms := s.Since.Add(time.Millisecond - 1).UnixMilli(); !s.Since.IsZero() && ms > 0 {
		old = entryID{ms: uint64(ms) - 1, seq: 1<<64 - 1}.String()
	}
	from := []any{"+", 0, 0}
	for {
		args := append([]any{max(s.Messages, 0), max(s.Bytes, 0), old, seekEntries}, from...)
		reply, err := b.reader.script(ctx, seekScript, []string{b.keys.stream(topic)}, args...)
		if err != nil {
			return "", opError("seek", topic, err)
		}
		switch reply := reply.(type) {
		case string:
			return hub.ID(reply), nil
		case []any:
			from = reply
		default:
			return "", opError("seek", topic, ErrReply)
		}
	}
}

// Info implements hub.Backend, in one step. Expires is by Redis' clock.
func (b *Backend) Info(ctx context.Context, topic string) (hub.Info, error) {
	info, err := b.history.info(ctx, b.keys.stream(topic))
	if err != nil {
		return hub.Info{}, opError("info", topic, err)
	}
	return info, nil
}
