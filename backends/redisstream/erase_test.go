package redisstream

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

func mustErase(t testing.TB, b hub.Backend, topic string, id hub.ID) {
	t.Helper()
	if err := b.Erase(t.Context(), topic, id); err != nil {
		t.Fatalf("Erase: %v", err)
	}
}

func TestErase(t *testing.T) {
	pairs(t, func(t *testing.T, a, b *rig, admin *redis.Client) {
		stream := a.keys.stream("t")
		here, place, _ := mustFollow(t, a, "t")
		there, _, _ := mustFollow(t, b, "t")
		var ids []hub.ID
		for i := range 5 {
			ids = append(ids, mustPublish(t, b, "t", itoa(i)))
		}
		here.await(t, 5)
		there.await(t, 5)
		known, left := append([]hub.ID{place}, ids...), slices.Clone(ids)
		prev := ids[4]
		n := 5
		for _, victim := range []hub.ID{ids[2], ids[4], ids[0], ids[1], ids[3]} { // middle, newest, oldest, oldest again, last of all
			mustErase(t, a, "t", victim)
			n++
			m := here.await(t, n)
			if m.Erases != victim || m.Deleted || len(m.Data) > 0 || m.Prev != prev {
				t.Errorf("the entry that erases %q: %+v, want it after %q", victim, m, prev)
			}
			if m := there.await(t, n); m.Erases != victim || m.Prev != prev {
				t.Errorf("the same at another instance: %+v", m)
			}
			prev = m.ID
			known = append(known, m.ID)
			left = append(slices.DeleteFunc(left, func(id hub.ID) bool { return id == victim }), m.ID)
			for i, at := range known {
				at, _ := parseID(string(at))
				want := slices.DeleteFunc(slices.Clone(left), func(id hub.ID) bool {
					other, _ := parseID(string(id))
					return other.compare(at) <= 0
				})
				wantPage(t, b, "t", known[i], false, want...)
			}
			if page := mustRead(t, b, "t", ""); !slices.Equal(idsOf(page.Messages), left) || page.Messages[len(left)-1].Erases != victim {
				t.Errorf("what is retained: %+v", page.Messages)
			}
		}
		if info := mustInfo(t, a, "t"); info != (hub.Info{}) {
			t.Errorf("Info of a topic without messages: %+v", info)
		}
		// What is not there, or is no message.
		other := mustPublish(t, a, "other", "x")
		before := admin.XLen(t.Context(), stream).Val()
		for _, id := range append(known, other, "", "x", "0-0", "18446744073709551615-18446744073709551615", "1-01") {
			mustErase(t, b, "t", id)
		}
		mustErase(t, b, "never", other)
		if n := admin.XLen(t.Context(), stream).Val(); n != before || admin.Exists(t.Context(), a.keys.stream("never")).Val() != 0 {
			t.Errorf("erasing nothing appended something: %d entries, %d before", n, before)
		}
		// The topic goes on.
		id := mustPublish(t, b, "t", "later")
		if m := here.await(t, n+1); m.ID != id || m.Prev != prev {
			t.Errorf("the message after erasures: %+v, want %q after %q", m, id, prev)
		}
		wantPage(t, a, "t", ids[3], false, append(left, id)...)
	})
}

// TestEraseBesideEnd: the message that ended a topic stays, and the topic stays finished.
func TestEraseBesideEnd(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		stream := r.keys.stream("t")
		first, second := mustPublish(t, r, "t", "1"), mustPublish(t, r, "t", "2")
		end, err := r.Publish(t.Context(), "t", hub.Message{Final: true})
		if err != nil {
			t.Fatal(err)
		}
		mustErase(t, r, "t", end)
		if n := admin.XLen(t.Context(), stream).Val(); n != 3 {
			t.Errorf("erasing the end: %d entries, want 3", n)
		}
		for _, id := range []hub.ID{second, first} {
			mustErase(t, r, "t", id)
		}
		if info := mustInfo(t, r, "t"); !info.Exists || !info.Finished || info.Oldest != end || info.Newest != end {
			t.Errorf("Info: %+v", info)
		}
		if p := mustRead(t, r, "t", end); !p.Final || p.Gap {
			t.Errorf("Read after the end: %+v", p)
		}
	})
}

func TestErasedIDsAreBounded(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		set := erasedKey(r.keys.stream("t"))
		members := make([]redis.Z, maxErased)
		for i := range members {
			members[i] = redis.Z{Score: float64(i + 1), Member: itoa(i+1) + "-1"}
		}
		if err := admin.ZAdd(t.Context(), set, members...).Err(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			mustErase(t, r, "t", mustPublish(t, r, "t", itoa(i)))
			if n := admin.ZCard(t.Context(), set).Val(); n != maxErased {
				t.Errorf("%d IDs are remembered, want %d", n, maxErased)
			}
		}
		for _, key := range []string{set, frontKey(r.keys.stream("t"))} {
			if left := admin.PTTL(t.Context(), key).Val(); left <= 0 || left > r.opts.expiry() {
				t.Errorf("%s expires in %v", key, left)
			}
		}
	})
}

// TestRandomLives publishes, erases, trims and deletes at random, and compares what is read after
// every ID there ever was with a model: nothing that was trimmed is missing without a gap, nothing
// that was erased makes one, and nothing comes that is not newer.
func TestRandomLives(t *testing.T) {
	mostly(t, testenv.IsLong(), func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		for round := range testenv.Sized(5, 60) {
			l := &randomLife{t: t, r: r, admin: admin, topic: "t" + itoa(round), rand: rand.New(rand.NewPCG(seed, uint64(round)))}
			_, place, stop := mustFollow(t, r, l.topic)
			stop()
			l.places = []position{{id: place, from: 0}}
			for range 30 {
				l.step()
			}
			l.check()
			if t.Failed() {
				t.Fatalf("round %d", round)
			}
		}
	})
}

// randomLife is a topic and a model of it.
type randomLife struct {
	t       testing.TB
	r       *rig
	admin   *redis.Client
	topic   string
	rand    *rand.Rand
	log     []modelEntry
	places  []position
	life    int // index of the life's first entry
	trimmed bool
}

type modelEntry struct {
	id    hub.ID
	state byte // 'r' retained, 'e' erased, 't' trimmed
	text  string
}

// position is an ID, and the index of the entry after it.
type position struct {
	id   hub.ID
	from int
}

func (l *randomLife) append(id hub.ID, text string) {
	l.log = append(l.log, modelEntry{id, 'r', text})
	l.places = append(l.places, position{id, len(l.log)})
}

func (l *randomLife) newest() hub.Message {
	ms := everything(l.t, l.r, l.topic)
	return ms[len(ms)-1]
}

func (l *randomLife) step() {
	stream := l.r.keys.stream(l.topic)
	var messages []int
	for i := l.life; i < len(l.log); i++ {
		if l.log[i].state == 'r' && l.log[i].text != "" {
			messages = append(messages, i)
		}
	}
	switch n := l.rand.IntN(20); {
	case n < 9 || len(messages) == 0:
		text := itoa(len(l.log))
		l.append(mustPublish(l.t, l.r, l.topic, text), text)
	case n < 17:
		i := messages[l.rand.IntN(len(messages))]
		if l.rand.IntN(2) == 0 {
			i = messages[0]
		}
		mustErase(l.t, l.r, l.topic, l.log[i].id)
		l.log[i].state = 'e'
		l.append(l.newest().ID, "")
	case n < 19:
		keep := l.rand.IntN(4)
		l.admin.XTrimMaxLen(l.t.Context(), stream, int64(keep))
		for i := len(l.log) - 1; i >= l.life; i-- {
			if l.log[i].state != 'r' {
				continue
			}
			if keep--; keep < 0 {
				l.log[i].state, l.trimmed = 't', true
			}
		}
	default:
		mustDelete(l.t, l.r, l.topic)
		for i := range l.log {
			l.log[i].state = 't'
		}
		l.life, l.trimmed = len(l.log), false
		l.append(l.newest().ID, "")
	}
	if l.rand.IntN(3) == 0 {
		l.check()
	}
}

func (l *randomLife) check() {
	l.t.Helper()
	for _, pos := range l.places {
		var want []hub.ID
		missing := l.life > 0 && pos.from <= l.life
		for _, e := range l.log[pos.from:] {
			if e.state == 'r' {
				want = append(want, e.id)
			}
			missing = missing || e.state == 't'
		}
		if at, _ := parseID(string(pos.id)); at.place() {
			want = nil
			for _, e := range l.log {
				if e.state == 'r' {
					want = append(want, e.id)
				}
			}
		}
		p := mustRead(l.t, l.r, l.topic, pos.id)
		switch {
		case missing && !p.Gap:
			l.t.Errorf("%s: Read after %q: something was removed after it, and no gap: %+v", l.topic, pos.id, l.log)
		case !missing && p.Gap && !l.trimmed:
			l.t.Errorf("%s: Read after %q: a gap, and nothing but erased messages is missing: %+v", l.topic, pos.id, l.log)
		case !slices.Equal(idsOf(p.Messages), want):
			l.t.Errorf("%s: Read after %q: %v, want %v", l.topic, pos.id, idsOf(p.Messages), want)
		}
	}
}
