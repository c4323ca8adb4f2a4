package cursor

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"

	"github.com/headrace/headrace/hub"
)

// timed is an ID of two decimal numbers, as Redis gives them.
type timed struct {
	kind      uint64 // with kindOther it is not of this form, and the rest is 0
	time, seq uint64
}

// parseTimed reads an ID that is exactly what the numbers would be written as: with any other
// spelling it would come back as another ID.
func parseTimed(id hub.ID) timed {
	other := timed{kind: kindOther}
	i := 0
	for i < len(id) && id[i] != '-' {
		i++
	}
	if i == len(id) {
		return other
	}
	ms, ok := parseNumber(id[:i])
	if !ok || ms > maxTime {
		return other
	}
	seq, ok := parseNumber(id[i+1:])
	switch {
	case !ok || ms == 0 && seq > maxTime:
		return other
	case ms == 0:
		return timed{kind: kindEmpty, time: seq}
	case seq == 0:
		return timed{kind: kindZero, time: ms}
	case seq >= 1<<seqBits && seq < 1<<longBits:
		return timed{kind: kindLong, time: ms, seq: seq}
	}
	return timed{kind: kindSeq, time: ms, seq: seq}
}

// parseNumber reads a number of 64 bits without leading zeros.
func parseNumber(s hub.ID) (n uint64, ok bool) {
	if s == "" || s[0] == '0' && len(s) > 1 || len(s) > 20 {
		return 0, false
	}
	for i := range len(s) {
		d := uint64(s[i]) - '0'
		// Only the twentieth digit can be too much.
		if d > 9 || i == 19 && n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

func (t timed) append(dst []byte, base uint64) []byte {
	x := base - t.time
	switch t.kind {
	case kindZero:
		return binary.AppendUvarint(dst, x<<kindBits)
	case kindEmpty:
		return binary.AppendUvarint(dst, x<<1<<kindBits|kindEmpty)
	case kindLong:
		x = x<<longLow | t.seq&(1<<longLow-1)
		dst = binary.AppendUvarint(dst, (x<<1|1)<<kindBits|kindEmpty)
		return binary.BigEndian.AppendUint16(dst, uint16(t.seq>>longLow))
	}
	x = (x<<seqBits | t.seq&(1<<seqBits-1)) << 1
	more := t.seq >> seqBits
	if more == 0 {
		return binary.AppendUvarint(dst, x<<kindBits|t.kind)
	}
	dst = binary.AppendUvarint(dst, (x|1)<<kindBits|t.kind)
	return binary.AppendUvarint(dst, more)
}

// appendOther appends the v of kindOther that is not a number after the text before.
func appendOther(dst []byte, what uint64) []byte {
	return binary.AppendUvarint(dst, (what<<1|1)<<kindBits|kindOther)
}

// appendText appends an ID that is not timed, and returns the text that the next one may refer to.
func appendText(dst []byte, id, last hub.ID) (_ []byte, text hub.ID) {
	if !id.Valid() {
		return appendOther(dst, otherDoubtful), last
	}
	if u, ok := parseUUID(id); ok {
		return append(appendOther(dst, otherUUID), u[:]...), last
	}
	text, number, ok := cutNumber(id)
	switch {
	case !ok:
		return append(appendOther(dst, otherText+uint64(len(id))<<1), id...), last
	case text == last && number <= maxNumber:
		return binary.AppendUvarint(dst, number<<1<<kindBits|kindOther), text
	}
	dst = append(appendOther(dst, otherText+(uint64(len(text))<<1|1)), text...)
	return binary.AppendUvarint(dst, number), text
}

// cutNumber cuts the number off the end of an ID, as much of it as fits 64 bits. Leading zeros
// stay with the text, for they would be lost.
func cutNumber(id hub.ID) (text hub.ID, number uint64, ok bool) {
	// Every number of 19 digits fits.
	i := len(id)
	for i > max(0, len(id)-19) && '0' <= id[i-1] && id[i-1] <= '9' {
		i--
	}
	for i < len(id)-1 && id[i] == '0' {
		i++
	}
	number, ok = parseNumber(id[i:])
	return id[:i], number, ok
}

// parseUUID reads a UUID in its canonical form. In capitals or without dashes it would come back
// as another ID.
func parseUUID(id hub.ID) (u [16]byte, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return u, false
	}
	i := 0
	for j := range u {
		if j == 4 || j == 6 || j == 8 || j == 10 {
			i++ // the dash
		}
		high, low := hexDigit(id[i]), hexDigit(id[i+1])
		if high > 15 || low > 15 {
			return u, false
		}
		u[j] = high<<4 | low
		i += 2
	}
	return u, true
}

// hexDigit returns more than 15 for what is none.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// id appends the next ID to dst, nothing when the topic's position is doubtful.
func (r *vectorReader) id(dst []byte) []byte {
	v := r.uvarint()
	x, kind := v>>kindBits, v&(1<<kindBits-1)
	if kind == kindOther {
		return r.other(dst, x)
	}
	age, seq := x, uint64(0)
	long := kind == kindEmpty && x&1 == 1
	switch {
	case long:
		age, seq = x>>(longLow+1), x>>1&(1<<longLow-1)
		if b := r.bytes(2); b != nil {
			seq |= uint64(binary.BigEndian.Uint16(b)) << longLow
		}
	case kind == kindEmpty:
		age = x >> 1
	case kind == kindSeq:
		age, seq = x>>(seqBits+1), x>>1&(1<<seqBits-1)
		if x&1 == 1 {
			more := r.uvarint()
			if more > math.MaxUint64>>seqBits {
				r.fail()
			}
			seq |= more << seqBits
		}
	}
	if r.failed || age > r.base {
		r.fail()
		return dst
	}
	ms := r.base - age
	if kind == kindEmpty && !long {
		ms, seq = 0, ms
	}
	dst = strconv.AppendUint(dst, ms, 10)
	return strconv.AppendUint(append(dst, '-'), seq, 10)
}

// other appends an ID of kindOther to dst.
func (r *vectorReader) other(dst []byte, x uint64) []byte {
	if x&1 == 0 {
		return r.numbered(dst, x>>1)
	}
	switch what := x >> 1; what {
	case otherUUID:
		u := r.bytes(16)
		if u == nil {
			return dst
		}
		dst = hex.AppendEncode(dst, u[:4])
		for i := 4; i < 10; i += 2 {
			dst = hex.AppendEncode(append(dst, '-'), u[i:i+2])
		}
		return hex.AppendEncode(append(dst, '-'), u[10:])
	case otherDoubtful:
		return dst
	default:
		text := r.bytes((what - otherText) >> 1)
		if len(text) > 0 && !hub.ID(text).Valid() {
			r.fail()
			return dst
		}
		if (what-otherText)&1 == 1 {
			r.text = text
			return r.numbered(dst, r.uvarint())
		}
		if len(text) == 0 {
			r.fail() // otherDoubtful says this in one way, one is enough
		}
		return append(dst, text...)
	}
}

// numbered appends an ID of the last text and a number to dst.
func (r *vectorReader) numbered(dst []byte, number uint64) []byte {
	dst = strconv.AppendUint(append(dst, r.text...), number, 10)
	if len(dst) > hub.MaxID {
		r.fail()
	}
	return dst
}
