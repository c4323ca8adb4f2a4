package redisstream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// maxPage bounds what one Read asks Redis for, whatever its limit.
const maxPage = 1 << 16

// page reads a page of a stream; see Backend.Read. A topic that is gone leaves no trace after
// expiry. What is passed over, because it cannot be transferred, counts as not retained.
func (h *history) page(ctx context.Context, stream string, after hub.ID, limit int, expiry time.Duration) (hub.Page, error) {
	for {
		from := h.obstacles.behind(spot{stream, after})
		p, err := h.pageBehind(ctx, stream, from, limit, expiry)
		if err == nil {
			p.Gap = after != "" && (p.Gap || from != after)
			return p, nil
		}
		if !h.obstructed(ctx, stream, from) {
			return hub.Page{}, err
		}
	}
}

func (h *history) pageBehind(ctx context.Context, stream string, after hub.ID, limit int, expiry time.Duration) (hub.Page, error) {
	at, known := parseID(string(after))
	known = known && after != noEntry
	from := "-"
	switch {
	case known && !at.place():
		from = string(after)
		// The entry itself is the proof that it is there.
		s, err := h.span(ctx, stream, after, limit, 0)
		if err != nil {
			return hub.Page{}, err
		}
		if s.at != nil {
			first, _ := h.decode.message(s.at.id, s.at.fields)
			p := h.fill(ctx, stream, s, limit, after)
			p.Final, p.Deleted = first.Final, first.Deleted
			if first.Erases != "" {
				p.Final, err = h.endedBefore(ctx, stream, at)
			}
			return p, err
		}
	case after == "":
		s, err := h.span(ctx, stream, "", limit, 0)
		if err != nil {
			return hub.Page{}, err
		}
		if len(s.entries) > 0 {
			return h.fill(ctx, stream, s, limit, ""), nil
		}
	}
	s, err := h.state(ctx, stream, after, from, limit)
	if err != nil {
		return hub.Page{}, err
	}
	proven := after == ""
	switch {
	case !known:
	case at.place():
		proven, err = h.begun(ctx, stream, at, &s, expiry)
	default:
		proven, err = h.reached(ctx, stream, at, &s)
	}
	if err != nil {
		return hub.Page{}, err
	}
	hold := s.tail()
	if proven && known && len(s.entries) == 0 && (!at.place() || !aged(at, s.now, expiry/renewals)) {
		hold = after
	}
	p := h.fill(ctx, stream, s.span, limit, hold)
	p.Gap = !proven
	return p, nil
}

// span is a part of a stream.
type span struct {
	at      *entry  // the one at the ID, perhaps without its data; nil if it is not there
	entries []entry // those behind it
	more    bool    // there may be more behind these
	budget  int     // how many bytes a page should have
	began   time.Time
}

// span reads what comes after an entry, "" for the beginning of the stream. used is how many bytes
// of the page there are already.
func (h *history) span(ctx context.Context, stream string, after hub.ID, limit, used int) (s span, err error) {
	a, err := h.ask(ctx, stream, after, limit, used)
	if err != nil {
		return s, err
	}
	s.budget, s.began = a.budget, time.Now()
	if a.script {
		reply, err := h.run(ctx, stream, after, a, pageScript.command(h.lanes.ctx, []string{stream}, string(after), a.entries, a.bytes))
		values, _ := reply.([]any)
		if err != nil || len(values) < 4 {
			return s, err
		}
		if first := parseEntries(values[0]); len(first) > 0 {
			s.at = &first[0]
		}
		size, _ := values[1].(int64)
		s.entries, s.more = parseEntries(values[2]), values[3] == int64(1)
		h.learn(stream, min(int(size), 1), int(size), s.entries, s.more)
		return s, nil
	}
	from, most := "-", a.entries
	if after != "" {
		from, most = string(after), a.entries+1
	}
	reply, err := h.run(ctx, stream, after, a, func(bool) redis.Cmder {
		return redis.NewCmd(h.lanes.ctx, "xrange", stream, from, "+", "count", strconv.Itoa(most))
	})
	if err != nil {
		return s, err
	}
	s.entries = parseEntries(reply)
	s.more = len(s.entries) == most
	h.learn(stream, 0, 0, s.entries, s.more)
	if after != "" && len(s.entries) > 0 && s.entries[0].id == from {
		s.at, s.entries = &s.entries[0], s.entries[1:]
	}
	return s, nil
}

// state looks at a stream in one step, with a page of its entries from an ID on, "-" for the
// oldest.
func (h *history) state(ctx context.Context, stream string, after hub.ID, from string, limit int) (state, error) {
	a, err := h.ask(ctx, stream, after, limit, 0)
	if err != nil {
		return state{}, err
	}
	began := time.Now()
	reply, err := h.run(ctx, stream, after, a, readScript.command(h.lanes.ctx, []string{stream}, string(after), a.entries, from, a.bytes))
	if err != nil {
		return state{}, err
	}
	s, err := parseState(reply, after)
	s.budget, s.began = a.budget, began
	h.learn(stream, 0, 0, s.entries, s.more)
	return s, err
}

// ask decides what to ask of a stream, and over which batcher.
func (h *history) ask(ctx context.Context, stream string, after hub.ID, limit, used int) (a ask, err error) {
	if err := ctx.Err(); err != nil {
		return a, context.Cause(ctx)
	}
	via, err := h.lanes.at(ctx, stream)
	if err != nil {
		return a, callError(ctx, err)
	}
	a = h.sizes.ask(stream, limit, used, via.link.budget())
	if _, late := h.obstacles.at(spot{stream, after}); late {
		a.entries, a.script = 1, true
	}
	a.via = via
	return a, nil
}

// learn notes what was read: some entries with a size, and others.
func (h *history) learn(stream string, n, size int, entries []entry, more bool) {
	for i := range entries {
		size += entries[i].size()
	}
	h.sizes.learn(stream, n+len(entries), size, more)
}

// aloneTime is how long a message is waited for that is asked for by itself.
const aloneTime = 20 * time.Second

// run runs a command that reads what comes after an ID. The errors are causes, but for that of ctx.
func (h *history) run(ctx context.Context, stream string, after hub.ID, a ask, command func(bySource bool) redis.Cmder) (any, error) {
	at, alone := spot{stream, after}, a.script && a.entries == 1
	own := ctx
	if alone {
		var cancel context.CancelFunc
		own, cancel = context.WithTimeout(ctx, aloneTime)
		defer cancel()
	}
	j := newJob(a.reply, command)
	if maybe, err := a.via.do(own, j); err != nil {
		// That somebody waits for less long says nothing about the message.
		alone = alone && ctx.Err() == nil
		if maybe && errors.Is(err, context.DeadlineExceeded) {
			h.obstacles.late(at, alone)
		}
		if ctx.Err() == nil {
			return nil, &failure{ErrUnreachable, "timeout"}
		}
		return nil, callError(ctx, err)
	}
	reply, err := j.cmd.(*redis.Cmd).Result()
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		h.obstacles.gone(at)
		return reply, nil
	case missed(err):
		h.obstacles.late(at, alone)
	}
	return nil, h.lanes.lacks.explain(cause(err))
}

// obstructed is for when a read after an ID failed. It reports whether the message there is passed
// over from here on: because it was asked for by itself several times and did not come,
// while the server answered what is small.
func (h *history) obstructed(ctx context.Context, stream string, after hub.ID) bool {
	at := spot{stream, after}
	if !h.obstacles.alone(at) {
		return false
	}
	from := "-"
	if id, ok := parseID(string(after)); ok && id != (entryID{}) {
		from = "(" + string(after)
	}
	reply, err := h.lanes.script(ctx, nextScript, []string{stream}, from)
	values, _ := reply.([]any)
	if err != nil || len(values) < 2 {
		return false
	}
	id, _ := values[0].(string)
	size, _ := values[1].(int64)
	if !h.obstacles.failed(at, hub.ID(id)) {
		return false
	}
	h.logger.Warn("redisstream: a message cannot be transferred, readers see a gap instead",
		"topic", h.keys.topic(stream), "id", id, "bytes", size)
	return true
}

// fill makes a page of a span, and of what follows it while the page is small. hold is the ID to go
// on from when there is nothing.
func (h *history) fill(ctx context.Context, stream string, s span, limit int, hold hub.ID) hub.Page {
	p := hub.Page{Next: hold}
	began, size := s.began, 0
	for {
		for _, e := range s.entries {
			if len(p.Messages) == limit || size >= hub.PageBytes {
				break
			}
			size += e.size()
			if m, ok := h.decode.message(e.id, e.fields); ok {
				p.Messages = append(p.Messages, m)
			}
		}
		n := len(p.Messages)
		if n > 0 {
			p.Next = p.Messages[n-1].ID
		}
		if !s.more || n == 0 || n == limit || size >= s.budget/2 || time.Since(began) > pageTime {
			return p
		}
		if h.obstacles.behind(spot{stream, p.Next}) != p.Next {
			return p // a gap is next
		}
		// It begins at the last message, as the proof that nothing was trimmed in between. What
		// fails here shows at the next Read.
		var err error
		if s, err = h.span(ctx, stream, p.Next, limit-n, size); err != nil || s.at == nil {
			return p
		}
	}
}
