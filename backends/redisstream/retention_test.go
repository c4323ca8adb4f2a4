package redisstream

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// retained are all messages of a topic at one moment.
func (r *rig) retained(t testing.TB, topic string) (ms []hub.Message) {
	t.Helper()
	reply, err := r.client.Do(t.Context(), "XRANGE", r.keys.stream(topic), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range parseEntries(reply) {
		m, ok := r.decode.message(e.id, e.fields)
		if !ok {
			t.Fatalf("%s: no message", e.id)
		}
		ms = append(ms, m)
	}
	return ms
}

// load publishes messages of up to some size to a topic, from several publishers, until look
// reports that it has seen enough of what is retained.
func load(t *testing.T, r *rig, topic string, size int, look func(retained []hub.Message) (done bool)) {
	t.Helper()
	const publishers = 4
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(p), 1))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := hub.Message{Type: "note", Data: bytes.Repeat([]byte("x"), random.IntN(size)), Headers: map[string]string{"n": itoa(i)}}
				ms := []hub.Message{m, m, m}[:1+i%3]
				if _, err := appendTo(r, topic, ms); err != nil {
					t.Errorf("%s: %v", topic, err)
					return
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	waitFor(t, "what is retained", func() bool { return t.Failed() || look(r.retained(t, topic)) })
}

func contentBytes(ms []hub.Message) (n int) {
	for _, m := range ms {
		n += len(m.Type) + len(m.Data)
		for k, v := range m.Headers {
			n += len(k) + len(v)
		}
	}
	return n
}

// TestRetentionUnderLoad: bounds of a prefix hold within a tenth while several publish.
func TestRetentionUnderLoad(t *testing.T) {
	mostly(t, testenv.IsLong(), func(t *testing.T, addr string) {
		const count, size, age = 100, 64 << 10, 400 * time.Millisecond
		r := newRig(t, addr, Options{Retention: []hub.Retention{
			{Messages: 5000}, {Prefix: "count/", Messages: count}, {Prefix: "bytes/", Bytes: size}, {Prefix: "age/", Age: age}, {Prefix: "age/long/", Age: time.Hour},
		}})
		filled := 0
		load(t, r, "count/a", 20, func(ms []hub.Message) bool {
			if len(ms) > count*11/10 || filled > 0 && len(ms) < count*9/10 {
				t.Errorf("%d messages are retained, want %d", len(ms), count)
			}
			if len(ms) > count*9/10 {
				filled++
			}
			return filled > 10
		})
		filled = 0
		load(t, r, "bytes/a", 2000, func(ms []hub.Message) bool {
			n := contentBytes(ms)
			if n > size*11/10 || filled > 0 && n < size*9/10 {
				t.Errorf("%d bytes are retained, want %d", n, size)
			}
			if n > size*9/10 {
				filled++
			}
			return filled > 10
		})
		// The same times are looked at all along: those of Redis.
		var oldest time.Time
		trimmed := 0
		load(t, r, "age/a", 20, func(ms []hub.Message) bool {
			if len(ms) == 0 {
				return false
			}
			if span := ms[len(ms)-1].Time.Sub(ms[0].Time); span > age*11/10 {
				t.Errorf("messages of %v are retained, want %v", span, age)
			}
			if first := ms[0].Time; !oldest.IsZero() && first.After(oldest) {
				if ms[len(ms)-1].Time.Sub(oldest) < age {
					t.Errorf("a message was trimmed before its time")
				}
				trimmed++
			}
			oldest = ms[0].Time
			return trimmed > 5
		})
		ttl := func(topic string) time.Duration { return r.client.PTTL(t.Context(), r.keys.stream(topic)).Val() }
		if d := ttl("age/a"); d < 9*time.Minute || d > 10*time.Minute {
			t.Errorf("a topic of %v expires after %v", age, d)
		}
		mustPublish(t, r, "age/long/a", "x")
		mustPublish(t, r, "other", "x")
		if d := ttl("age/long/a"); d < 119*time.Minute || d > 2*time.Hour {
			t.Errorf("a topic of an hour expires after %v", d)
		}
		if d := ttl("other"); d < 47*time.Hour {
			t.Errorf("a topic without a bound of age expires after %v", d)
		}
	})
}

// TestAgeUnderAPrefix: a prefix may have an age where all else is kept for ever.
func TestAgeUnderAPrefix(t *testing.T) {
	m := startMini(t)
	r := newRig(t, m.Addr(), Options{KeepForever: true, Retention: []hub.Retention{{Prefix: "a/", Age: time.Minute}}})
	now := time.UnixMilli(1_795_394_462_123)
	for i := range 10 {
		m.SetTime(now.Add(time.Duration(i) * 20 * time.Second))
		mustPublish(t, r, "a/t", itoa(i))
		mustPublish(t, r, "t", itoa(i))
	}
	if got := contents(t, r, "a/t"); got != "6 7 8 9" {
		t.Errorf("with an age: %s", got)
	}
	if got := contents(t, r, "t"); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("without an age: %s", got)
	}
}

// TestByteBound appends to topics with a bound of bytes in all the ways there are, and compares
// with what should be retained.
func TestByteBound(t *testing.T) {
	mostly(t, testenv.IsLong(), func(t *testing.T, addr string) {
		const bound = 10_000
		foreign := func(e Entry) hub.Message { return hub.Message{Data: []byte(strings.Join(e.Fields, ""))} }
		r := newRig(t, addr, Options{Foreign: foreign, Retention: []hub.Retention{{Prefix: "b/", Bytes: bound}}})
		plain := newRig(t, addr, Options{})
		random := rand.New(rand.NewPCG(1, 2))
		data := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
		for _, test := range []struct {
			name string
			step func(topic string, i int)
		}{
			{"alone", func(topic string, _ int) { mustAppend(t, r, topic, data(random.IntN(500))) }},
			{"batches", func(topic string, _ int) {
				mustAppend(t, r, topic, data(random.IntN(200)), data(random.IntN(200)), data(random.IntN(200)))
			}},
			{"empty messages between", func(topic string, i int) { mustAppend(t, r, topic, data(i%2*random.IntN(500))) }},
			{"with entries of others", func(topic string, i int) {
				if i%3 == 0 {
					r.xadd(t, topic, "*", "f", string(data(random.IntN(500))), "g", "")
				}
				mustAppend(t, r, topic, data(random.IntN(500)))
			}},
			{"with publishers that know no bound", func(topic string, i int) {
				if i%3 == 0 {
					mustAppend(t, plain, topic, data(random.IntN(500)))
				}
				mustAppend(t, r, topic, data(random.IntN(500)))
			}},
			{"a bound that came later", func(topic string, i int) {
				if i < 80 {
					mustAppend(t, plain, topic, data(random.IntN(500)))
				} else {
					mustAppend(t, r, topic, data(random.IntN(500)))
				}
			}},
			{"a bound that came soon", func(topic string, i int) {
				if i < 10 {
					mustAppend(t, plain, topic, data(random.IntN(500)))
				} else {
					mustAppend(t, r, topic, data(random.IntN(500)))
				}
			}},
		} {
			topic := "b/" + test.name
			for i := range 150 {
				test.step(topic, i)
				n := contentBytes(r.retained(t, topic))
				slack := bound / 10
				if test.name == "a bound that came later" {
					slack *= 2 // as long as there are entries that do not say where they start
					if i < 80 {
						continue
					}
				}
				if n > bound+slack || i > 100 && n < bound-slack {
					t.Errorf("%s: %d bytes are retained after step %d, want %d", test.name, n, i, bound)
					break
				}
			}
		}
		for range 3 {
			mustAppend(t, r, "b/large", data(3*bound))
			mustAppend(t, r, "b/large", data(1))
			mustAppend(t, r, "b/large", data(3*bound))
			if ms := everything(t, r, "b/large"); len(ms) != 1 || len(ms[0].Data) != 3*bound {
				t.Errorf("%d messages beside one that exceeds the bound", len(ms)-1)
			}
		}
	})
}

func mustAppend(t *testing.T, r *rig, topic string, data ...[]byte) {
	t.Helper()
	ms := make([]hub.Message, len(data))
	for i, d := range data {
		ms[i].Data = d
	}
	if _, err := appendTo(r, topic, ms); err != nil {
		t.Fatal(err)
	}
}
