package redisstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// nextID is next_id of id.lua, for streams without an entry of a sequence number that Lua cannot
// count.
func nextID(prev entryID, ms, random uint64) entryID {
	switch {
	case prev.ms < ms:
		return entryID{ms, random}
	case prev.seq >= 1e13:
		return entryID{prev.ms + 1, random}
	case prev.ms == ms:
		random %= 1 << 14
	}
	return entryID{prev.ms, prev.seq + 1 + random}
}

// xaddID is the ID that XADD * gives.
func xaddID(prev entryID, ms, _ uint64) entryID {
	if prev.ms < ms {
		return entryID{ms, 0}
	}
	return entryID{prev.ms, prev.seq + 1}
}

// TestNextID compares the script's function with that of the model.
func TestNextID(t *testing.T) {
	const now = 1_795_394_462_123
	next := newScript(idSource + "return next_id(ARGV[1], tonumber(ARGV[2]))")
	eval := func(t *testing.T, c *redis.Client, prev string, random uint64) string {
		t.Helper()
		id, err := c.Eval(t.Context(), next.source, nil, prev, random).Text()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	mini := startMini(t)
	mini.SetTime(time.UnixMilli(now))
	own := startServer(t)
	fake := redis.NewClient(&redis.Options{Addr: mini.Addr(), DisableIdentity: true})
	defer fake.Close()
	if got := eval(t, fake, "", 7); got != "1795394462123-7" {
		t.Errorf("the first ID is %s", got)
	}
	for _, prev := range []entryID{
		{0, 1}, {1, 0}, {999, 1 << 60}, {now - 1, 0}, {now - 1, 1<<64 - 1}, {now, 0}, {now, 262_144}, {now, 1e13 - 1}, {now, 1e13},
		{now, 1<<64 - 1}, {now + 1, 0}, {now + 1, 524_287}, {now * 10, 5}, {now * 10, 1 << 53}, {1<<53 - 2, 1}, {1<<64 - 1, 3}, {1<<64 - 1, 1 << 60},
	} {
		for _, random := range []uint64{0, 1, 1024, 16_383, 16_384, 100_000, mostRandom} {
			want := nextID(prev, now, random).String()
			if prev.ms >= 1e15 && prev.seq >= 1e13 {
				want = "*"
			}
			if got := eval(t, fake, prev.String(), random); got != want {
				t.Errorf("behind %v with %d: %s, want %s", prev, random, got, want)
			}
			got := eval(t, own.Client, prev.String(), random)
			if prev.ms > now*5 { // the server has a clock of its own
				if got != want {
					t.Errorf("redis-server, behind %v with %d: %s, want %s", prev, random, got, want)
				}
			} else if prev.ms < now && !strings.HasSuffix(got, fmt.Sprint("-", random)) {
				t.Errorf("redis-server, behind %v with %d: %s", prev, random, got)
			}
		}
	}
}

// master is a server with one history of a topic.
type master struct {
	clock   int64 // ms that it is ahead of the others
	entries []entryID
}

func (m *master) last() entryID {
	if len(m.entries) == 0 {
		return entryID{}
	}
	return m.entries[len(m.entries)-1]
}

// histories runs a topic through forks, promotions, restores and steps of clocks, each at random.
// It returns how many of its messages have the ID of another one, and whether IDs rose within
// each history.
func histories(r *rand.Rand, next func(prev entryID, ms, random uint64) entryID) (twice int, rose bool) {
	given := make(map[entryID]bool)
	now := int64(1_795_394_462_000)
	masters := []*master{{}}
	rose = true
	for range 60 {
		now += r.Int64N(10)
		i := r.IntN(len(masters))
		m := masters[i]
		switch op := r.IntN(20); {
		case op < 14: // a run of the publish script
			random := 1 + r.Uint64N(mostRandom)
			for range 1 + r.IntN(3) {
				id := next(m.last(), uint64(now+m.clock), random)
				random = 0
				rose = rose && id.compare(m.last()) > 0
				if given[id] {
					twice++
				}
				given[id] = true
				m.entries = append(m.entries, id)
			}
		case op < 16 && len(masters) < 4: // a replica that takes itself for the master
			copied := &master{m.clock + r.Int64N(21) - 10, slices.Clone(m.entries)}
			masters = append(masters, copied)
		case op < 17 && len(masters) > 1: // one is left, and the promoted one goes on
			masters = slices.Delete(masters, i, i+1)
		case op < 18: // a copy of before is restored
			m.entries = m.entries[:r.IntN(len(m.entries)+1)]
		default:
			m.clock += r.Int64N(41) - 20
		}
	}
	return twice, rose
}

// TestHistories: no ID is given to two messages, whatever happens to the servers. Two that give one
// for the same millisecond have one chance in 2^18 to give the same: 300,000 of these histories had
// six such messages, with XADD * two in three had some. The seeds are fixed.
func TestHistories(t *testing.T) {
	n := 1000
	if testenv.IsLong() {
		n = 10_000
	}
	twice, planted := 0, 0
	for seed := range n {
		of := func() *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }
		found, rose := histories(of(), nextID)
		twice += found
		if !rose {
			t.Errorf("seed %d: an ID is not greater than the one before", seed)
		}
		if found, _ := histories(of(), xaddID); found > 0 {
			planted++
		}
	}
	if twice > 0 {
		t.Errorf("%d messages have the ID of another one", twice)
	}
	if planted < n/2 {
		t.Errorf("the IDs of XADD * collide in %d of %d histories: the test shows nothing", planted, n)
	}
	t.Logf("with XADD * there are two messages of one ID in %d of %d histories", planted, n)
}

// TestRandomID: each run of the script has a number of its own.
func TestRandomID(t *testing.T) {
	b := &Backend{publisher: &appender{lanes: &lanes{}, opts: &Options{}, random: randomID}}
	b.keys = newKeys("p:", 0)
	const runs = 1000
	seen := make(map[any]bool)
	for range runs {
		command, _ := b.publisher.callCommand([]*job{b.messageJob("t", hub.Message{})})
		args := command(false).Args()
		n, ok := args[10].(int) // behind evalsha, the digest, one key, and six settings
		if !ok || n < 1 || n > mostRandom {
			t.Fatalf("%v is not from 1 to %d", args[10], mostRandom)
		}
		seen[n] = true
	}
	if len(seen) < runs*9/10 {
		t.Errorf("%d runs have %d different numbers", runs, len(seen))
	}
}
