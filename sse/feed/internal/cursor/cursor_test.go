package cursor

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

func topicNames(n int) []string {
	topics := make([]string, n)
	for i := range topics {
		topics[i] = "room/" + strconv.Itoa(i)
	}
	return topics
}

// placed is the Position that a topic has again after a cursor with its ID.
func placed(id hub.ID) Position {
	if id == "" {
		return missing
	}
	return known(id)
}

func known(id hub.ID) Position { return Position{ID: id, State: Known} }

var (
	missing  = Position{}
	doubtful = Position{State: Doubtful}
)

// parseAs demands that a cursor is a vector with these positions.
func parseAs(t *testing.T, s *Set, cursor string, want ...Position) {
	t.Helper()
	got, ok := s.Parse(cursor)
	if !ok || !slices.Equal(got, want) {
		t.Errorf("%s: got %+v, %v, want %+v", cursor, got, ok, want)
	}
}

// vector makes a cursor of bytes.
func vector(parts ...any) string {
	var b []byte
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			b = binary.AppendUvarint(b, uint64(part))
		case uint64:
			b = binary.AppendUvarint(b, part)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, part)
		case string:
			b = append(b, part...)
		}
	}
	return Prefix + base64.RawURLEncoding.EncodeToString(b)
}

// collision returns two topics whose hashes begin with the same four bytes.
var collision = sync.OnceValue(func() [2]string {
	seen := make(map[uint32]int)
	for i := 0; ; i++ {
		hash := narrowHash(strconv.Itoa(i))
		if other, ok := seen[hash]; ok {
			return [2]string{strconv.Itoa(other), strconv.Itoa(i)}
		}
		seen[hash] = i
	}
})

func narrowHash(topic string) uint32 {
	sum := sha256.Sum256([]byte(topic))
	return binary.BigEndian.Uint32(sum[:])
}

// oddIDs are IDs near the borders between the kinds.
var oddIDs = []hub.ID{
	"", "0", "1", "-", "1-1", "0-0", "0-1", "1-0", "00-0", "0-00", "007-1", "7-001", "1-", "-1", "1-1-1", "1--1", "a", "a7", "a007", "a0", "a00", "000", "a-0", "a-9-0",
	"~", "1700000000000-0", "1700000000000-1023", "1700000000000-1024", "1700000000000-262144", "1700000000000-524287", "1700000000000-524288", "2251799813685247-262144", "2251799813685248-262144",
	"1700000000000-18446744073709551615", "1700000000000-18446744073709551616",
	"0-1700000000000", "0-18446744073709551615", "18446744073709551615", "18446744073709551616", "9223372036854775807", "99999999999999999999999999",
	"2251799813685247-0", "2251799813685248-0", "2251799813685247-18446744073709551615", "0-2251799813685247", "0-2251799813685248",
	"2305843009213693951", "2305843009213693952", "a2305843009213693951", "a2305843009213693952", "4611686018427387904-1", "18446744073709551615-18446744073709551615",
	"0198c0de-89ab-7def-8123-456789abcdef", "0198C0DE-89ab-7def-8123-456789abcdef", "0198c0de-89ab-7def-8123-456789abcdeg", "0198c0de89ab7def8123456789abcdef",
	"0198c0de089ab-7def-8123-456789abcdef", "0198c0de-89ab07def-8123-456789abcdef", "0198c0de-89ab-7def08123-456789abcdef", "0198c0de-89ab-7def-81230456789abcdef",
	"0198c0de-89ab-7def-8123-4567-9abcdef", "-198c0de-89ab-7def-8123-456789abcdef", "00000000-0000-0000-0000-000000000000", "12345678-1234-1234-1234-123456789012",
	"k5g2mvtq7xan-0", "k5g2mvtq7xan-12345", "k5g2mvtq7xan-012345", "k5g2mvtq7xan-",
	hub.ID(strings.Repeat("z", hub.MaxID)), hub.ID(strings.Repeat("9", hub.MaxID)), hub.ID(strings.Repeat("0", hub.MaxID)), hub.ID(strings.Repeat("-", hub.MaxID)),
	hub.ID(strings.Repeat("z", hub.MaxID-1) + "5"), hub.ID(strings.Repeat("z", hub.MaxID-19) + "9999999999999999999"),
}

// TestVectorIsExact: IDs are compared for equality, so each must come back as it was, alone and
// after any other.
func TestVectorIsExact(t *testing.T) {
	set := New([]string{"a", "b"})
	for _, a := range oddIDs {
		for _, b := range oddIDs {
			parseAs(t, set, string(set.Append(nil, []hub.ID{a, b})), placed(a), placed(b))
		}
	}
	// More topics than append keeps what it read of.
	const many = 20
	set = New(topicNames(many))
	for ids := range slices.Chunk(slices.Concat(oddIDs, oddIDs[:many-len(oddIDs)%many]), many) {
		at, want := make([]hub.ID, many), []Position{}
		for i, id := range ids {
			if len(id) < hub.MaxID { // a cursor of many long ones is beyond maxLength
				at[i] = id
			}
			want = append(want, placed(at[i]))
		}
		parseAs(t, set, string(set.Append(nil, at)), want...)
	}
}

// TestVectorForm: a cursor outlives the process that gave it, so the form stays.
func TestVectorForm(t *testing.T) {
	topics := []string{"orders", "alerts", "room/1"}
	hash := func(i int) uint32 { return narrowHash(topics[i]) }
	order := []int{0, 1, 2}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(hash(a), hash(b)) })
	for _, tc := range []struct {
		name string
		ids  [3]hub.ID // by ascending hash
		want string
	}{
		{"no Position", [3]hub.ID{}, vector(0, 0)},
		{"one Position", [3]hub.ID{"", "5-0", ""}, vector(1<<1, 5, hash(order[1]), 0)},
		{"times", [3]hub.ID{"1000-0", "990-3", "0-900"}, vector(3<<1, 1000,
			hash(order[0]), 0, hash(order[1]), (10<<11|3<<1)<<2|1, hash(order[2]), 100<<3|2)},
		{"long sequences", [3]hub.ID{"1000-1029", "990-524287", "980-1024"}, vector(3<<1, 1000,
			hash(order[0]), (5<<1|1)<<2|2, "\x00\x80", hash(order[1]), ((10<<3|7)<<1|1)<<2|2, "\xff\xff", hash(order[2]), (20<<3<<1|1)<<2|2, "\x00\x80")},
		{"longer sequences", [3]hub.ID{"1000-524289", "990-1024000000", ""}, vector(2<<1, 1000,
			hash(order[0]), (1<<1|1)<<2|1, 512, hash(order[1]), ((10<<10|1024000000&1023)<<1|1)<<2|1, 1024000000>>10)},
		{"text and number", [3]hub.ID{"ab-7", "ab-300", "12"}, vector(3<<1, 0,
			hash(order[0]), ((3<<1|1)+2)<<3|7, "ab-", 7, hash(order[1]), 300<<3|3, hash(order[2]), 3<<3|7, 12)},
		{"long numbers and zeros", [3]hub.ID{"x007", hub.ID("y" + strings.Repeat("9", 20)), "x008"}, vector(3<<1, 0,
			hash(order[0]), ((3<<1|1)+2)<<3|7, "x00", 7, hash(order[1]), ((2<<1|1)+2)<<3|7, "y9", uint64(9999999999999999999),
			hash(order[2]), ((3<<1|1)+2)<<3|7, "x00", 8)},
		{"text", [3]hub.ID{"ab", "", ""}, vector(1<<1, 0, hash(order[0]), (2<<1+2)<<3|7, "ab")},
		{"UUID", [3]hub.ID{"30313233-3435-3637-3839-3a3b3c3d3e3f", "", ""}, vector(1<<1, 0, hash(order[0]), 7, "0123456789:;<=>?")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := make([]hub.ID, 3)
			for i, topic := range order {
				at[topic] = tc.ids[i]
			}
			equal(t, "cursor", string(New(topics).Append([]byte("id: "), at)), "id: "+tc.want)
		})
	}
	equal(t, "golden", string(New(topics).Append(nil, []hub.ID{"1700000000000-0", "1699999990000-5", "0-1699999000000"})), goldenVector)
}

const goldenVector = "v1.BoDQlf-8MRwWitsAszImgIKk6APes-NmqYCIJw"

// TestVectorRefused: what is not a vector in every respect is none.
func TestVectorRefused(t *testing.T) {
	set := New([]string{"a"})
	const h, h2 = uint32(1 << 30), uint32(1<<30 + 1)
	long := strings.Repeat("z", hub.MaxID)
	for _, tc := range []struct {
		name   string
		cursor string
		ok     bool
	}{
		{"nothing", "", false},
		{"an ID", "1700000000000-0", false},
		{"only the prefix", "v1.", false},
		{"another version", "v2." + vector(0, 0)[3:], false},
		{"no topics", vector(0, 0), true},
		{"no base", vector(0), false},
		{"padding", "v1." + base64.URLEncoding.EncodeToString([]byte{0, 0}), false},
		{"spare bits", "v1.AAB", false},
		{"a line end", "v1.A\nAA", false},
		{"a carriage return", "v1.AAA\r", false},
		{"a letter of the other base64", "v1.AA+A", false},
		{"one entry", vector(1<<1, 5, h, 0), true},
		{"an entry too few", vector(2<<1, 5, h, 0), false},
		{"an entry too many", vector(1<<1, 5, h, 0, h2, 0), false},
		{"entries without end", vector(uint64(math.MaxUint64), 5, h, 0), false},
		{"trailing byte", vector(1<<1, 5, h, 0, "\x00"), false},
		{"a hash cut off", vector(1<<1, 5, "abc"), false},
		{"no ID", vector(1<<1, 5, h), false},
		{"wide, with narrow hashes", vector(1<<1|1, 5, h, 0), false},
		{"hashes ascend", vector(2<<1, 5, h, 0, h2, 0), true},
		{"the same hash twice", vector(2<<1, 5, h, 0, h, 0), false},
		{"hashes descend", vector(2<<1, 5, h2, 0, h, 0), false},
		{"a base too large", vector(1<<1, uint64(1<<51), h, 0), false},
		{"the largest base", vector(1<<1, uint64(1<<51-1), h, 0), true},
		{"an age beyond the base", vector(1<<1, 5, h, 6<<2), false},
		{"a number that never ends", vector(1<<1, 5, h, strings.Repeat("\x80", 11)), false},
		{"the largest sequence", vector(1<<1, 5, h, (1<<1|1)<<2|1, uint64(1<<54-1)), true},
		{"a sequence too large", vector(1<<1, 5, h, (1<<1|1)<<2|1, uint64(1<<54)), false},
		{"a long sequence", vector(1<<1, 5, h, 1<<2|2, "ab"), true},
		{"a long sequence cut off", vector(1<<1, 5, h, 1<<2|2, "a"), false},
		{"an age beyond the base, with a long sequence", vector(1<<1, 5, h, (6<<3<<1|1)<<2|2, "ab"), false},
		{"no sequence", vector(1<<1, 5, h, (1<<1|1)<<2|1), false},
		{"a UUID cut off", vector(1<<1, 5, h, 7, "0123456789abcde"), false},
		{"doubtful", vector(1<<1, 5, h, 1<<3|7), true},
		{"empty text", vector(1<<1, 5, h, 2<<3|7), false},
		{"empty text, number", vector(1<<1, 5, h, 3<<3|7, 1), true},
		{"no number", vector(1<<1, 5, h, 3<<3|7), false},
		{"text cut off", vector(1<<1, 5, h, (2<<1+2)<<3|7, "a"), false},
		{"a text of great length", vector(1<<1, 5, h, uint64(math.MaxUint64), "a"), false},
		{"text that no ID has", vector(1<<1, 5, h, (2<<1+2)<<3|7, "a\n"), false},
		{"text that no ID has before a number", vector(1<<1, 5, h, (2<<1+3)<<3|7, "a:", 1), false},
		{"the longest text", vector(1<<1, 5, h, (128<<1+2)<<3|7, long), true},
		{"a text too long", vector(1<<1, 5, h, (129<<1+2)<<3|7, long+"z"), false},
		{"the longest text with a number", vector(1<<1, 5, h, (127<<1+3)<<3|7, long[1:], 9), true},
		{"a text with a number too long", vector(1<<1, 5, h, (127<<1+3)<<3|7, long[1:], 10), false},
		{"a number too long for the text before", vector(2<<1, 5, h, (127<<1+3)<<3|7, long[1:], 9, h2, 10<<3|3), false},
		// No base64 has the length between.
		{"as long as can be", manyEntries(t, maxLength-1), true},
		{"too long", manyEntries(t, maxLength+1), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			positions, ok := set.Parse(tc.cursor)
			equal(t, "ok", ok, tc.ok)
			equal(t, "positions", len(positions), map[bool]int{true: 1}[tc.ok])
		})
	}
}

// manyEntries returns a vector of a given length, with short IDs of topics that nobody knows.
func manyEntries(t *testing.T, length int) string {
	t.Helper()
	size := (length - len(Prefix)) * 3 / 4
	n := size/5 - 6
	parts := []any{n << 1, 5}
	for i := range n {
		parts = append(parts, uint32(i), 0)
	}
	// The last entry fills up.
	rest := size - (len(vector(parts...))-len(Prefix))*3/4
	for text := range rest {
		last := append(slices.Clone(parts), uint32(n), (text<<1+2)<<3|7, strings.Repeat("z", text))
		last[0] = (n + 1) << 1
		if v := vector(last...); len(v) == length {
			return v
		}
	}
	t.Fatalf("no vector has %d bytes", length)
	return ""
}

// TestVectorCutOff: a cursor that lost its end must not be a shorter vector, in which topics are
// missing.
func TestVectorCutOff(t *testing.T) {
	set := New(topicNames(9))
	at := slices.Repeat([]hub.ID{"1700000000000-0"}, 9)
	cursor := string(set.Append(nil, at))
	for i := range cursor {
		if positions, ok := set.Parse(cursor[:i]); ok {
			t.Errorf("%s: read as %+v", cursor[:i], positions)
		}
	}
}

// TestVectorOtherSet: the topics of a route may change between two connections.
func TestVectorOtherSet(t *testing.T) {
	cursor := string(New([]string{"a", "b", "c"}).Append(nil, []hub.ID{"1-1", "2-2", "3-3"}))
	for _, tc := range []struct {
		topics []string
		want   []Position
	}{
		{[]string{"a", "b", "c"}, []Position{known("1-1"), known("2-2"), known("3-3")}},
		{[]string{"c", "a", "b"}, []Position{known("3-3"), known("1-1"), known("2-2")}},
		{[]string{"d", "c", "b", "a", "e"}, []Position{missing, known("3-3"), known("2-2"), known("1-1"), missing}},
		{[]string{"b"}, []Position{known("2-2")}},
		{[]string{"d"}, []Position{missing}},
		{nil, nil},
	} {
		parseAs(t, New(tc.topics), cursor, tc.want...)
	}
	// An ID that refers to the text of a topic that has left.
	cursor = string(New([]string{"a", "b", "c"}).Append(nil, []hub.ID{"x-1", "x-2", "x-3"}))
	for i, topic := range []string{"a", "b", "c"} {
		parseAs(t, New([]string{topic}), cursor, known(hub.ID("x-"+strconv.Itoa(i+1))))
	}
}

// TestVectorCollision: topics whose hashes begin alike are told apart by longer ones, and where
// that comes too late they are doubtful.
func TestVectorCollision(t *testing.T) {
	a, b := collision()[0], collision()[1]
	if a == b || narrowHash(a) != narrowHash(b) {
		t.Fatalf("%q and %q do not collide", a, b)
	}
	other := New([]string{"c"})
	alone := New([]string{a, "c"})
	both := New([]string{"c", b, a})
	equal(t, "wide", alone.wide, false)
	equal(t, "wide", both.wide, true)

	wide := string(both.Append(nil, []hub.ID{"3-3", "2-2", "1-1"}))
	parseAs(t, both, wide, known("3-3"), known("2-2"), known("1-1"))
	parseAs(t, alone, wide, known("1-1"), known("3-3"))
	parseAs(t, New([]string{b}), wide, known("2-2"))
	parseAs(t, other, wide, known("3-3"))

	half := string(both.Append(nil, []hub.ID{"3-3", "", "1-1"}))
	parseAs(t, both, half, known("3-3"), missing, known("1-1"))

	narrow := string(alone.Append(nil, []hub.ID{"1-1", "3-3"}))
	parseAs(t, alone, narrow, known("1-1"), known("3-3"))
	parseAs(t, both, narrow, known("3-3"), doubtful, doubtful)
	parseAs(t, both, string(other.Append(nil, []hub.ID{"3-3"})), known("3-3"), missing, missing)
}

// TestVectorCollisionOfAll: not even the long hashes differ.
func TestVectorCollisionOfAll(t *testing.T) {
	both := newHashed([]uint64{7 << 40, 1 << 40, 7 << 40, 7<<40 + 1})
	alone := newHashed([]uint64{7 << 40, 1 << 40})
	for _, at := range [][]hub.ID{{"1-1", "2-2", "3-3", "4-4"}, {"", "2-2", "3-3", "4-4"}, {"1-1", "2-2", "", "4-4"}, {"", "2-2", "", "4-4"}} {
		cursor := string(both.Append(nil, at))
		parseAs(t, both, cursor, doubtful, known("2-2"), doubtful, known("4-4"))
		// The other one has left, and its ID must not be found here.
		parseAs(t, alone, cursor, doubtful, known("2-2"))
	}
	wide := string(newHashed([]uint64{7 << 40, 7<<40 + 1}).Append(nil, []hub.ID{"1-1", "4-4"}))
	parseAs(t, both, wide, doubtful, missing, doubtful, known("4-4"))
	narrow := string(alone.Append(nil, []hub.ID{"1-1", "2-2"}))
	parseAs(t, both, narrow, doubtful, known("2-2"), doubtful, doubtful)
}

// TestVectorBadID: an ID that should not exist costs its topic a gap, and the others nothing.
func TestVectorBadID(t *testing.T) {
	set := New([]string{"a", "b", "c"})
	for _, bad := range []hub.ID{"\n", "ä", "1 2", hub.ID(strings.Repeat("1", hub.MaxID+1)), "x\x00-1"} {
		parseAs(t, set, string(set.Append(nil, []hub.ID{"x-1", bad, "x-2"})), known("x-1"), doubtful, known("x-2"))
	}
}

// TestVectorLength: a cursor of nine topics is short, for each event has one.
func TestVectorLength(t *testing.T) {
	const (
		now    = 1_795_394_462_000
		day    = 24 * 60 * 60 * 1000
		topics = 9
	)
	random := rand.New(rand.NewPCG(1, 2))
	ms := func(days int64) string { return strconv.FormatInt(now-random.Int64N(days*day+1), 10) }
	b := memory.New(memory.Options{})
	defer b.Close()
	first, err := b.Publish(t.Context(), "t", hub.Message{})
	if err != nil {
		t.Fatal(err)
	}
	epoch := strings.TrimRight(string(first), "0123456789")
	for _, tc := range []struct {
		name string
		id   func() string
		most int
	}{
		{"Redis, a moment", func() string { return fmt.Sprint(now-random.Int64N(1000), "-", random.IntN(1<<longBits)) }, 118},
		{"Redis, six days", func() string { return fmt.Sprint(ms(6), "-", random.IntN(1<<longBits)) }, 139},
		{"Redis, 90 days", func() string { return fmt.Sprint(ms(90), "-", random.IntN(1<<longBits)) }, 150},
		{"Redis, six days, with the clock behind", func() string { return fmt.Sprint(ms(6), "-", random.IntN(1<<24)) }, 151},
		{"Redis, positions and messages", func() string {
			if random.IntN(2) > 0 {
				return fmt.Sprint(ms(6), "-", random.IntN(1<<longBits))
			}
			return "0-" + ms(6)
		}, 139},
		{"XADD, six days", func() string { return fmt.Sprint(ms(6), "-", random.IntN(1<<seqBits)) }, 127},
		{"XADD, 90 days", func() string { return ms(90) + "-0" }, 118},
		{"memory, 10,000 messages", func() string { return epoch + strconv.Itoa(random.IntN(10_000)) }, 110},
		{"memory, 30 million messages", func() string { return epoch + strconv.Itoa(random.IntN(30_000_000)) }, 124},
		{"UUID", func() string {
			var u [16]byte
			binary.BigEndian.PutUint64(u[:], random.Uint64())
			binary.BigEndian.PutUint64(u[8:], random.Uint64())
			return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
		}, 258},
		{"offsets", func() string { return strconv.Itoa(random.IntN(30_000_000)) }, 124},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := New(topicNames(topics))
			most, sum := 0, 0
			const rounds = 2000
			for range rounds {
				at := make([]hub.ID, topics)
				for i := range at {
					at[i] = hub.ID(tc.id())
				}
				n := len(set.Append(nil, at))
				most, sum = max(most, n), sum+n
			}
			t.Logf("at most %d, %d on average", most, sum/rounds)
			if most > tc.most {
				t.Errorf("a cursor has %d bytes, want at most %d", most, tc.most)
			}
		})
	}
	// More topics than append keeps what it read of.
	equal(t, "bytes of 20 topics", len(New(topicNames(20)).Append(nil, slices.Repeat([]hub.ID{"1700000000000-0"}, 20))), 3+143)
}

// TestVectorBound: the longest cursor of nine Redis topics with positions of up to six days, all as
// old as they can be and none the one that the others are counted from.
func TestVectorBound(t *testing.T) {
	const now = 1_795_394_462_000
	at := slices.Repeat([]hub.ID{hub.ID(fmt.Sprint(now-6*24*60*60*1000, "-", 1<<longBits-1))}, 9)
	at[0] = hub.ID(fmt.Sprint(now, "-", 1<<longBits-1))
	equal(t, "bytes", len(New(topicNames(9)).Append(nil, at)), 139)
}

// TestVectorAllocates: append has no buffer of its own, and what parse allocates does not depend
// on what a client claims.
func TestVectorAllocates(t *testing.T) {
	set := New(topicNames(9))
	at := benchIDs()
	dst := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { dst = set.Append(dst[:0], at) }); n != 0 {
		t.Errorf("append allocates %v times", n)
	}
	for _, claim := range []string{
		vector(uint64(math.MaxUint64), 5),
		vector(1<<1, 5, uint32(1), uint64(math.MaxUint64)),
		strings.Repeat(string(dst), 100),
	} {
		if n := testing.AllocsPerRun(100, func() { set.Parse(claim) }); n > 2 {
			t.Errorf("%.40s: parse allocates %v times", claim, n)
		}
	}
}

func FuzzVector(f *testing.F) {
	a, b := collision()[0], collision()[1]
	sets := []*Set{
		New([]string{a}), New([]string{a, b, "c"}), New([]string{"c", "a", "b", a}), New(nil),
		newHashed([]uint64{7 << 40, 7 << 40, 7<<40 + 1, 1}), New(topicNames(14)),
	}
	for i, id := range oddIDs {
		next, other := oddIDs[(i+1)%len(oddIDs)], oddIDs[(i+7)%len(oddIDs)]
		f.Add(string(sets[1].Append(nil, []hub.ID{id, next, other})), string(id), string(next), string(other), uint64(i), uint64(i))
		f.Add(string(sets[2].Append(nil, []hub.ID{id, next, other, id})), "a", "b", "c", uint64(1)<<i, uint64(math.MaxUint64)>>i)
	}
	f.Fuzz(func(t *testing.T, cursor, first, second, third string, ms, seq uint64) {
		for _, set := range sets {
			positions, ok := set.Parse(cursor)
			if !ok {
				if positions != nil {
					t.Fatalf("%q: refused, with positions %+v", cursor, positions)
				}
				continue
			}
			roundTrip(t, set, positions)
		}
		var ids []hub.ID
		for _, id := range []string{first, second, third, fmt.Sprint(ms, "-", seq), first + strconv.FormatUint(seq, 10)} {
			if hub.ID(id).Valid() {
				ids = append(ids, hub.ID(id))
			} else {
				ids = append(ids, "")
			}
		}
		for _, set := range sets {
			positions := make([]Position, len(set.slots))
			for i := range positions {
				if id := ids[i%len(ids)]; id != "" {
					positions[i] = known(id)
				}
			}
			roundTrip(t, set, positions)
			slices.Reverse(ids)
		}
	})
}

// roundTrip demands that the positions come back from a cursor made of them. A topic without a
// Position of its own is left out of cursors.
func roundTrip(t *testing.T, set *Set, positions []Position) {
	t.Helper()
	if len(positions) != len(set.slots) {
		t.Fatalf("%d positions for %d topics", len(positions), len(set.slots))
	}
	at := make([]hub.ID, len(positions))
	want := make([]Position, len(positions))
	for _, sl := range set.slots {
		p := positions[sl.topic]
		if (p.State == Known) != (p.ID != "") || p.ID != "" && !p.ID.Valid() {
			t.Fatalf("a Position of no kind: %+v", p)
		}
		if at[sl.topic] = p.ID; p.State == Known {
			want[sl.topic] = p
		}
		if sl.shared {
			want[sl.topic] = doubtful
		}
	}
	cursor := string(set.Append(nil, at))
	got, ok := set.Parse(cursor)
	if !ok || !slices.Equal(got, want) {
		t.Fatalf("%q: got %+v, %v, want %+v", cursor, got, ok, want)
	}
}

func benchIDs() []hub.ID {
	at := make([]hub.ID, 9)
	for i := range at {
		at[i] = hub.ID(fmt.Sprint(1_795_394_462_000-i*12_345_678, "-", i*28_937))
	}
	return at
}

func BenchmarkVectorAppend(b *testing.B) {
	for _, bc := range []struct {
		name string
		id   func(i int) string
	}{
		{"Redis", func(i int) string { return string(benchIDs()[i]) }},
		{"memory", func(i int) string { return "k5g2mvtq7xan-" + strconv.Itoa(i*1234567) }},
		{"UUID", func(i int) string { return fmt.Sprintf("0198c0de-89ab-7def-8123-%012d", i) }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			set := New(topicNames(9))
			at := make([]hub.ID, 9)
			for i := range at {
				at[i] = hub.ID(bc.id(i))
			}
			dst := make([]byte, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				dst = set.Append(dst[:0], at)
			}
			b.ReportMetric(float64(len(dst)), "bytes")
		})
	}
}

func BenchmarkVectorParse(b *testing.B) {
	set := New(topicNames(9))
	cursor := string(set.Append(nil, benchIDs()))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := set.Parse(cursor); !ok {
			b.Fatal("refused")
		}
	}
}

func BenchmarkTopicSet(b *testing.B) {
	topics := topicNames(9)
	b.ReportAllocs()
	for b.Loop() {
		New(topics)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %#v, want %#v", what, got, want)
	}
}
