// Package cursor is the cursor of a stream of several topics: pure functions from IDs to its text
// and back, and the lines of events that end in it.
package cursor

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/headrace/headrace/hub"
)

// The cursor of a stream over several topics is a vector of their IDs: Prefix and, in base64url
// without padding,
//
//	uvarint  number of entries << 1 | wide
//	uvarint  base: the latest time in the vector, 0 without any
//	entries  by ascending hash: hash of the topic (4 bytes, 8 if wide), uvarint v, what v says
//	         that follows
//
// The two low bits of v are the kind of the ID, and the rest is x. An age is base minus the time
// in the ID: topics in use have an age that takes few bytes, which one topic long idle does not
// change for them.
//
//	kindZero   <time>-0      x is the age
//	kindSeq    <time>-<seq>  x is age << 11 | seq & 1023 << 1 | more; with more, uvarint
//	                         seq >> 10 follows
//	kindEmpty  0-<time>      x is age << 1; Redis topics without messages have such an ID, which
//	                         as kindSeq would take twice as much
//	           <time>-<seq>  x is (age << 3 | seq & 7) << 1 | 1, and two bytes of seq >> 3
//	                         follow: messages of Redis have a seq of 18 or 19 bits
//	kindOther  x even           the text of the last ID that was text and number, "" before the
//	                            first, and after it the number x >> 1
//	           x odd, x>>1 = 0  a UUID as 16 bytes
//	           x odd, x>>1 = 1  no ID: the position of the topic is doubtful
//	           x odd, else      x>>1 - 2 is length << 1 | numbered: a text of that length follows;
//	                            if numbered, a uvarint of the number after it
//
// The IDs of nine Redis topics, of six days and with a seq of up to 19 bits, never take more than
// 139 bytes: that is why the seq's low bits share a uvarint with the age. No browser asks first
// because of a cursor of that length; what it costs is on each event. A seq below 1024, as XADD
// gives it, takes less, and IDs that end in the count of one process share their text.
//
// The number of entries is there because a cursor that was cut off between two entries would else
// be a shorter vector, and what is missing from a vector starts anew, without a gap.

// Prefix is what every cursor of several topics begins with.
const Prefix = "v1."

// maxLength is the length of the longest cursor that is looked at: whoever sends a longer one
// costs no more than that. As many topics as a stream may have, with the longest IDs, stay below
// it.
const maxLength = 16 << 10

const (
	kindZero = iota
	kindSeq
	kindEmpty
	kindOther
)

// kindLong is the second form of kindEmpty.
const kindLong = 1<<kindBits | kindEmpty

const (
	otherUUID = iota
	otherDoubtful
	otherText
)

const (
	kindBits = 2
	seqBits  = 10
	// longBits are those of a seq of kindLong, and longLow those that stand beside the age.
	longBits = 19
	longLow  = 3
	// maxTime is the greatest time that leaves room for all the rest in 64 bits. Greater ones are
	// text.
	maxTime = 1<<(64-kindBits-seqBits-1) - 1
	// maxNumber is the greatest number that leaves room for the kind and the bit that tells it
	// from the others of kindOther.
	maxNumber = 1<<(64-kindBits-1) - 1
)

// vectorEncoding refuses spare bits that are not zero: what was altered should not pass for what
// was sent. It still skips line ends.
var vectorEncoding = base64.RawURLEncoding.Strict()

const vectorAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// Set is the topics of a stream, prepared for cursors. It never changes and is safe for
// concurrent use.
type Set struct {
	slots []slot // by hash
	// wide is set when four bytes do not tell the topics apart.
	wide bool
}

// slot is one topic of a set.
type slot struct {
	hash  uint64 // the first four bytes are those of a narrow cursor
	topic int    // its index in the route's order
	// shared: not even eight bytes tell the topic from another. No cursor can say where these
	// topics are, only that they were there.
	shared bool
	// spoken: the slot before has the same hash, and its entry is for both.
	spoken bool
}

// Position is where a cursor puts a topic.
type Position struct {
	ID    hub.ID // "" unless Known
	State State
}

// State says what a cursor knows of a topic.
type State uint8

// States of a Position.
const (
	Missing  State = iota // the cursor does not know the topic, which starts where the route says
	Known                 // at an ID
	Doubtful              // the cursor had a position and it is not certain which: a gap
)

// New prepares topics, which are distinct and in the route's order.
//
// A topic is known in cursors by the first bytes of the SHA-256 of its name: names are too long,
// and indexes would mean other topics when the route's set changes between two connections. With
// four bytes, a topic that joins gets the position of one that left in one of 2^32 cases.
func New(topics []string) *Set {
	hashes := make([]uint64, len(topics))
	for i, topic := range topics {
		sum := sha256.Sum256([]byte(topic))
		hashes[i] = binary.BigEndian.Uint64(sum[:])
	}
	return newHashed(hashes)
}

// newHashed is New with the topics' hashes.
func newHashed(hashes []uint64) *Set {
	s := &Set{slots: make([]slot, len(hashes))}
	for i, hash := range hashes {
		s.slots[i] = slot{hash: hash, topic: i}
	}
	slices.SortFunc(s.slots, func(a, b slot) int { return cmp.Compare(a.hash, b.hash) })
	for i := 1; i < len(s.slots); i++ {
		before, here := &s.slots[i-1], &s.slots[i]
		if before.hash>>32 == here.hash>>32 {
			s.wide = true
		}
		if before.hash == here.hash {
			before.shared, here.shared, here.spoken = true, true, true
		}
	}
	return s
}

// Append appends the cursor of a stream that has come to at[i] in topic i, and returns the
// extended dst. A topic whose ID is "" has no position and is left out; without any position the
// cursor is a vector too, of no topics.
//
// Topics that share eight bytes of hash are marked doubtful, with a position or without: left out
// they would start anew, and their IDs might be taken for each other's once one of them has left
// the set. So is a topic whose ID is not valid, for the hub lets none through.
func (s *Set) Append(dst []byte, at []hub.ID) []byte {
	entries, base := uint64(0), uint64(0)
	// Most streams have no more topics, and for those that have it is cheaper to read an ID twice
	// than to allocate.
	var kept [12]timed
	for i := range s.slots {
		switch sl := &s.slots[i]; {
		case sl.spoken:
		case sl.shared:
			entries++
		case at[sl.topic] != "":
			entries++
			t := parseTimed(at[sl.topic])
			base = max(base, t.time)
			if i < len(kept) {
				kept[i] = t
			}
		}
	}
	dst = append(dst, Prefix...)
	start := len(dst)
	entries <<= 1
	if s.wide {
		entries |= 1
	}
	dst = binary.AppendUvarint(dst, entries)
	dst = binary.AppendUvarint(dst, base)
	text := hub.ID("")
	for i := range s.slots {
		sl := &s.slots[i]
		if sl.spoken || !sl.shared && at[sl.topic] == "" {
			continue
		}
		if s.wide {
			dst = binary.BigEndian.AppendUint64(dst, sl.hash)
		} else {
			dst = binary.BigEndian.AppendUint32(dst, uint32(sl.hash>>32))
		}
		if sl.shared {
			dst = appendOther(dst, otherDoubtful)
			continue
		}
		var t timed
		if i < len(kept) {
			t = kept[i]
		} else {
			t = parseTimed(at[sl.topic])
		}
		if t.kind == kindOther {
			dst, text = appendText(dst, at[sl.topic], text)
		} else {
			dst = t.append(dst, base)
		}
	}
	return encodeTail(dst, start)
}

// encodeTail replaces dst[start:] by its base64url. It goes from the end to the beginning, where
// the longer text never meets bytes that are yet to be read: so it needs no second buffer for
// each event.
func encodeTail(dst []byte, start int) []byte {
	n := len(dst) - start
	length := vectorEncoding.EncodedLen(n)
	dst = slices.Grow(dst, length-n)[:start+length]
	b := dst[start:]
	from, to := n-n%3, n/3*4
	switch n % 3 {
	case 1:
		v := uint32(b[from]) << 16
		b[to], b[to+1] = vectorAlphabet[v>>18], vectorAlphabet[v>>12&63]
	case 2:
		v := uint32(b[from])<<16 | uint32(b[from+1])<<8
		b[to], b[to+1], b[to+2] = vectorAlphabet[v>>18], vectorAlphabet[v>>12&63], vectorAlphabet[v>>6&63]
	}
	for from > 0 {
		from, to = from-3, to-4
		v := uint32(b[from])<<16 | uint32(b[from+1])<<8 | uint32(b[from+2])
		b[to], b[to+1] = vectorAlphabet[v>>18], vectorAlphabet[v>>12&63]
		b[to+2], b[to+3] = vectorAlphabet[v>>6&63], vectorAlphabet[v&63]
	}
	return dst
}

// Parse finds the topics of the set by a client's cursor, one position for each in the
// route's order. It reports false for what is not a vector; then it is unknown where any of the
// topics was.
//
// Hashes that are not in the set are skipped, for topics may leave it. Topics that the cursor's
// hash does not tell apart are all doubtful: when a second one with the same four bytes has
// joined the set, a narrow cursor cannot say which of them it means. Hashes must ascend, so that
// none comes twice and there is nothing to choose between.
func (s *Set) Parse(cursor string) (positions []Position, ok bool) {
	if len(cursor) > maxLength {
		return nil, false
	}
	text, ok := strings.CutPrefix(cursor, Prefix)
	if !ok || strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	raw, err := vectorEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	r := vectorReader{rest: raw}
	entries := r.uvarint()
	wide := entries&1 == 1
	if r.base = r.uvarint(); r.base > maxTime {
		return nil, false
	}
	positions = make([]Position, len(s.slots))
	var (
		next   int // in slots
		before uint64
		buf    [hub.MaxID]byte
	)
	for i := range entries >> 1 {
		hash := r.hash(wide)
		id := r.id(buf[:0])
		if r.failed || i > 0 && hash <= before {
			return nil, false
		}
		before = hash
		next = s.put(positions, next, hash, wide, id)
	}
	if r.failed || len(r.rest) > 0 {
		return nil, false
	}
	return positions, true
}

// put gives an entry's ID to the topic that has its hash, searching the slots from next. It
// returns where to search for the next entry.
func (s *Set) put(positions []Position, next int, hash uint64, wide bool, id []byte) int {
	shift := 32
	if wide {
		shift = 0
	}
	for next < len(s.slots) && s.slots[next].hash>>shift < hash {
		next++
	}
	from := next
	for next < len(s.slots) && s.slots[next].hash>>shift == hash {
		positions[s.slots[next].topic].State = Doubtful
		next++
	}
	if next-from == 1 && len(id) > 0 {
		positions[s.slots[from].topic] = Position{ID: hub.ID(id), State: Known}
	}
	return next
}

// vectorReader takes a vector apart. Once it has failed it returns zeros.
type vectorReader struct {
	rest   []byte
	base   uint64
	text   []byte // of the last ID that was text and number
	failed bool
}

func (r *vectorReader) fail() {
	r.failed, r.rest = true, nil
}

func (r *vectorReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// bytes returns the next n bytes, nil if there are not as many.
func (r *vectorReader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *vectorReader) hash(wide bool) uint64 {
	if wide {
		if b := r.bytes(8); b != nil {
			return binary.BigEndian.Uint64(b)
		}
	} else if b := r.bytes(4); b != nil {
		return uint64(binary.BigEndian.Uint32(b))
	}
	return 0
}
