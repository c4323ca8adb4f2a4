package redisstream

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// entryID is the ID of a stream entry: milliseconds of Redis' clock and a sequence number.
//
// An ID 0-<milliseconds> names a position: before the first message of a topic whose key was absent
// at that time. Redis gives no entry such an ID by itself.
type entryID struct{ ms, seq uint64 }

// earliestPlace tells positions from entries that someone added under an ID of his own with 0
// before the dash: no clock shows a time before it.
const earliestPlace = 100_000_000_000

// parseID reads an ID as Redis writes it. Other spellings of the same numbers are refused: IDs
// are compared for equality elsewhere.
func parseID(s string) (id entryID, ok bool) {
	ms, seq, ok := strings.Cut(s, "-")
	if !ok {
		return id, false
	}
	if id.ms, ok = parseUint(ms); !ok {
		return id, false
	}
	id.seq, ok = parseUint(seq)
	return id, ok
}

func parseUint(s string) (uint64, bool) {
	if s == "" || s[0] == '+' || s[0] == '0' && s != "0" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func placeID(ms uint64) hub.ID { return hub.ID("0-" + strconv.FormatUint(ms, 10)) }

func (id entryID) place() bool { return id.ms == 0 && id.seq >= earliestPlace }

func (id entryID) compare(other entryID) int {
	return cmp.Or(cmp.Compare(id.ms, other.ms), cmp.Compare(id.seq, other.seq))
}

func (id entryID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

// time returns when the entry was added, by Redis' clock.
// An entry that someone added under an ID of his own may say anything.
func (id entryID) time() time.Time { return time.UnixMilli(int64(min(id.ms, latestTime))) }

// latestTime is the end of the year 9999 in ms: later ones have no form in JSON.
const latestTime = 253_402_300_799_999

// noEntry is the last generated ID of a stream that never had an entry.
const noEntry = "0-0"
