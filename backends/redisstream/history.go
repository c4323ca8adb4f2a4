package redisstream

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// history reads what streams retain.
type history struct {
	lanes  *lanes
	decode *decoder
	expiry time.Duration // of a topic without new messages, 0 for none
	guess  pageGuess
}

// maxPage bounds what one Read asks Redis for, whatever its limit.
const maxPage = 1 << 16

// Read implements hub.Backend.
//
// A page has no gap when it can be proven that nothing is missing: the entry with the given ID is
// still there, and so is all that came after it; or it is the one that the stream gave last, now or
// when everything had been trimmed and the oldest entry came; or the ID is a position before the
// topic's first message, which is still there. Everything else is a gap: IDs that are malformed or
// foreign, and those whose entry was trimmed, deleted, or lost together with the stream.
func (b *Backend) Read(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
	p, err := b.history.page(ctx, b.keys.stream(topic), after, min(max(limit, 1), maxPage))
	if err != nil {
		return hub.Page{}, opError("read", topic, err)
	}
	return p, nil
}

// page reads a page of a stream. See Backend.Read.
func (h *history) page(ctx context.Context, stream string, after hub.ID, limit int) (hub.Page, error) {
	at, known := parseID(string(after))
	known = known && after != noEntry
	if known && !at.place() {
		// The entry itself comes first, as the proof that it is there.
		entries, err := h.xrange(ctx, stream, string(after), limit+1)
		if err != nil {
			return hub.Page{}, err
		}
		if len(entries) > 0 && entries[0].id == string(after) {
			first, _ := h.decode.message(entries[0].id, entries[0].fields)
			p := h.fill(entries[1:], limit, after)
			p.Final = first.Final
			return p, nil
		}
	}
	if after == "" {
		entries, err := h.xrange(ctx, stream, "-", limit)
		if err != nil {
			return hub.Page{}, err
		}
		if len(entries) > 0 {
			return h.fill(entries, limit, ""), nil
		}
	}
	s, err := h.state(ctx, stream, string(after), h.guess.entries(limit))
	if err != nil {
		return hub.Page{}, err
	}
	hold := hub.ID(s.last)
	if !s.exists || s.last == noEntry {
		hold = placeID(s.now)
	}
	proven := after == ""
	switch {
	case !known:
	case at.place():
		proven = h.proven(at, &s)
		if proven && len(s.entries) == 0 {
			hold = after
		}
	default:
		proven = s.exists && s.last == string(after) || len(s.entries) > 0 && s.entries[0].follows(at)
	}
	p := h.fill(s.entries, limit, hold)
	p.Gap = !proven
	return p, nil
}

// proven reports whether a topic that was empty at a position has lost nothing since.
func (h *history) proven(at entryID, s *state) bool {
	if at.seq > s.now {
		return false // forged
	}
	// A topic can come and go within the time it takes to expire, and nothing would be left to
	// tell.
	if e := h.expiry; e > 0 && s.now-at.seq >= uint64(e.Milliseconds()) {
		return false
	}
	if !s.exists || s.last == noEntry {
		return true
	}
	if s.added >= 0 && s.added == s.length {
		return true
	}
	return len(s.entries) > 0 && s.entries[0].follows(at)
}

// entry is a stream entry as Redis returns it.
type entry struct {
	id     string
	fields []string
}

func (e *entry) size() (n int) {
	for _, f := range e.fields {
		n += len(f)
	}
	return n
}

// fill makes a page of entries. hold is the ID to go on from when there are none.
func (h *history) fill(entries []entry, limit int, hold hub.ID) hub.Page {
	p := hub.Page{Next: hold}
	size := 0
	for _, e := range entries {
		if len(p.Messages) == limit || size >= hub.PageBytes {
			break
		}
		size += e.size()
		if m, ok := h.decode.message(e.id, e.fields); ok {
			p.Messages = append(p.Messages, m)
		}
	}
	if n := len(p.Messages); n > 0 {
		h.guess.learn(size / n)
		p.Next = p.Messages[n-1].ID
	}
	return p
}

// pageGuess remembers about how large entries are: a page is asked for by number of entries and
// should end at a number of bytes.
type pageGuess struct{ size atomic.Int64 }

const firstGuess = hub.PageBytes / 256

// entries returns how many entries to ask for, at least two: the one at the ID, and one after it.
func (g *pageGuess) entries(limit int) int {
	size := g.size.Load()
	if size == 0 {
		size = firstGuess
	}
	return min(limit, int(hub.PageBytes/size)+2)
}

// learn takes the size of a page's entries into account: at once when they are larger than thought,
// slowly when they are smaller.
func (g *pageGuess) learn(size int) {
	old := g.size.Load()
	g.size.Store(max(int64(size), old-old/4, 1))
}

// xrange returns entries from an ID on, that of the ID included; fewer than most when they are
// large.
func (h *history) xrange(ctx context.Context, stream, from string, most int) ([]entry, error) {
	count := strconv.Itoa(h.guess.entries(most))
	reply, err := h.command(ctx, stream, func(bool) redis.Cmder {
		return redis.NewCmd(h.lanes.ctx, "xrange", stream, from, "+", "count", count)
	})
	if err != nil {
		return nil, err
	}
	return parseEntries(reply), nil
}

// tail returns the newest position of a topic.
func (h *history) tail(ctx context.Context, stream string) (hub.ID, error) {
	s, err := h.state(ctx, stream, "", 0)
	switch {
	case err != nil:
		return "", err
	case !s.exists || s.place == noEntry:
		return placeID(s.now), nil
	}
	return hub.ID(s.place), nil
}

// state is what a stream is like at one moment.
type state struct {
	now     uint64 // Redis' time in ms
	exists  bool
	place   string // the newest position: the next message names it as the one before
	last    string // the ID that was given last
	length  int64
	added   int64 // -1 when the server does not count
	entries []entry
}

// state looks at a stream in one step. It returns up to so many of the oldest entries, none when
// the given ID is the one given last.
func (h *history) state(ctx context.Context, stream, after string, most int) (s state, err error) {
	reply, err := h.command(ctx, stream, func(bySource bool) redis.Cmder {
		return redis.NewCmd(h.lanes.ctx, append(readScript.args(bySource, 4), 1, stream, after, most)...)
	})
	if err != nil {
		return s, err
	}
	values, _ := reply.([]any)
	if len(values) == 0 {
		return s, &failure{ErrReply, ""}
	}
	ms, _ := values[0].(string)
	if s.now, _ = parseUint(ms); s.now == 0 {
		return s, &failure{ErrReply, ""}
	}
	if len(values) < 6 {
		return s, nil
	}
	s.exists = true
	s.place, _ = values[1].(string)
	s.last, _ = values[2].(string)
	s.length, _ = values[3].(int64)
	s.added, _ = values[4].(int64)
	s.entries = parseEntries(values[5])
	return s, nil
}

// command runs a command that reads, together with those of other calls.
func (h *history) command(ctx context.Context, stream string, command func(bySource bool) redis.Cmder) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	j := newJob(commandOverhead, command)
	if _, err := h.lanes.do(ctx, stream, j); err != nil {
		return nil, callError(ctx, err)
	}
	reply, err := j.cmd.(*redis.Cmd).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, cause(err)
	}
	return reply, nil
}

// parseEntries reads a list of entries. What has not the form of an entry is left out.
func parseEntries(reply any) []entry {
	list, _ := reply.([]any)
	entries := make([]entry, 0, len(list))
	for _, item := range list {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			continue
		}
		id, ok := pair[0].(string)
		values, ok2 := pair[1].([]any)
		if !ok || !ok2 {
			continue
		}
		e := entry{id: id, fields: make([]string, len(values))}
		for i, v := range values {
			e.fields[i], _ = v.(string)
		}
		entries = append(entries, e)
	}
	return entries
}
