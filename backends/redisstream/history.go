package redisstream

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// history reads what streams retain.
type history struct {
	lanes  *lanes
	decode *decoder
	keys   keys
	logger *slog.Logger
	sizes  sizes
	// Where reads do not come in time.
	obstacles obstacles
}

// renewals is how many times a position before a topic's first message is renewed while it is good:
// so often that who asks now and then has a good one when it asks again.
const renewals = 8

// endedBefore reports whether the newest message of all has ended the topic and is before an ID.
// What may not be asked is not known.
func (h *history) endedBefore(ctx context.Context, stream string, at entryID) (bool, error) {
	info, err := h.info(ctx, stream)
	if errors.Is(err, ErrDenied) {
		return false, nil
	}
	newest, ok := parseID(string(info.Newest))
	return ok && info.Finished && newest.compare(at) < 0, err
}

// begun reports whether a topic that was empty at a position has lost nothing since.
func (h *history) begun(ctx context.Context, stream string, at entryID, s *state, expiry time.Duration) (bool, error) {
	// A forged position is one of the future. And a topic can come and go within the time it takes
	// to expire, and nothing would be left to tell.
	if at.seq > s.now || aged(at, s.now, expiry) {
		return false, nil
	}
	switch {
	case !s.exists || s.last == noEntry:
		return true, nil
	case len(s.entries) == 0 || s.entries[0].deleted() || s.entries[0].before(at):
		return false, nil
	case s.added >= 0 && s.added == s.length || s.entries[0].follows(at):
		return true, nil
	}
	from, ok, err := h.erasedInFront(ctx, stream, s)
	return ok && from == entryID{}, err
}

// aged reports whether a position is of so long ago.
func aged(at entryID, now uint64, age time.Duration) bool {
	return at.seq <= now && now-at.seq >= uint64(age.Milliseconds())
}

// reached reports whether nothing is missing after an ID whose entry is not there.
func (h *history) reached(ctx context.Context, stream string, at entryID, s *state) (bool, error) {
	last, _ := parseID(s.last)
	switch {
	case !s.exists || at.compare(last) > 0:
		return false, nil
	case at == last || len(s.entries) > 0 && s.entries[0].follows(at):
		return true, nil
	case s.oldest == "":
		return false, nil
	}
	// The answers are of a later moment than the state. An ID that is known as erased now was so
	// then, for its entry was gone; and what is noted of the front holds only for the entry that
	// was the oldest.
	score, err := h.known(ctx, stream, "zscore", erasedKey(stream), at.String())
	if err != nil || score == nil {
		return false, err
	}
	if oldest, _ := parseID(s.oldest); oldest.compare(at) < 0 {
		return true, nil
	}
	from, ok, err := h.erasedInFront(ctx, stream, s)
	return ok && from.compare(at) <= 0, err
}

// erasedInFront returns the ID from which on everything before the oldest entry was erased, that
// of noEntry if this is so from the beginning. It reports false when that is not known.
func (h *history) erasedInFront(ctx context.Context, stream string, s *state) (from entryID, ok bool, err error) {
	reply, err := h.known(ctx, stream, "get", frontKey(stream))
	if err != nil {
		return from, false, err
	}
	noted, _ := reply.(string)
	first, rest, _ := strings.Cut(noted, " ")
	from, ok = parseID(first)
	return from, ok && rest == s.oldest, nil
}

// known asks for something that is known of erased messages. What may not be asked is not known: a
// gap that is none is better than a Read that fails.
func (h *history) known(ctx context.Context, stream string, args ...any) (any, error) {
	reply, err := h.lanes.command(ctx, stream, func(bool) redis.Cmder { return redis.NewCmd(h.lanes.ctx, args...) })
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrWrongType) || errors.Is(err, ErrReply) {
		return nil, nil //nolint:nilnil // nothing is known
	}
	return reply, err
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

// info describes a topic.
func (h *history) info(ctx context.Context, stream string) (hub.Info, error) {
	reply, err := h.lanes.script(ctx, infoScript, []string{stream})
	if err != nil {
		return hub.Info{}, err
	}
	values, _ := reply.([]any)
	if len(values) < 5 {
		return hub.Info{}, nil
	}
	oldest, _ := values[0].(string)
	newest, _ := values[1].(string)
	ended, _ := values[2].(int64)
	now, _ := values[3].(string)
	left, _ := values[4].(int64)
	info := hub.Info{Exists: true, Oldest: hub.ID(oldest), Newest: hub.ID(newest), Finished: ended == 1}
	if ms, ok := parseUint(now); ok && left >= 0 {
		info.Expires = time.UnixMilli(int64(min(ms, latestTime)) + left)
	}
	return info, nil
}

// tail returns the newest position of a topic.
func (h *history) tail(ctx context.Context, stream string) (hub.ID, error) {
	reply, err := h.lanes.script(ctx, readScript, []string{stream}, "", 0, "-", 0)
	if err != nil {
		return "", err
	}
	s, err := parseState(reply, "")
	if err != nil {
		return "", err
	}
	return s.tail(), nil
}

// state is what a stream is like at one moment.
type state struct {
	now    uint64 // Redis' time in ms
	exists bool
	place  string // the newest position: the next message names it as the one before
	last   string // the ID that was given last
	length int64
	added  int64 // -1 when the server does not count
	// Only when entries were asked for, and the given ID is not the one given last:
	oldest string // the ID of the oldest entry, "" for none
	span
}

// tail is the newest position.
func (s *state) tail() hub.ID {
	if !s.exists || s.place == noEntry {
		return placeID(s.now)
	}
	return hub.ID(s.place)
}

// parseState reads what the read script returned for an ID.
func parseState(reply any, after hub.ID) (s state, err error) {
	values, _ := reply.([]any)
	if len(values) == 0 {
		return s, &failure{ErrReply, ""}
	}
	ms, _ := values[0].(string)
	if s.now, _ = parseUint(ms); s.now == 0 {
		return s, &failure{ErrReply, ""}
	}
	if len(values) < 8 {
		return s, nil
	}
	s.exists = true
	s.place, _ = values[1].(string)
	s.last, _ = values[2].(string)
	s.length, _ = values[3].(int64)
	s.added, _ = values[4].(int64)
	s.oldest, _ = values[5].(string)
	s.entries = parseEntries(values[6])
	s.more = values[7] == int64(1)
	if len(s.entries) > 0 && s.entries[0].id == string(after) {
		// Somebody added it in between.
		s.entries = s.entries[1:]
	}
	return s, nil
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
