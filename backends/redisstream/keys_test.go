package redisstream

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// keyed makes messages with the keys of the numbers from..to-1.
func keyed(from, to int) (ms []hub.Message) {
	for i := from; i < to; i++ {
		ms = append(ms, hub.Message{Data: []byte(itoa(i)), Key: "key " + itoa(i)})
	}
	return ms
}

// mustAppendAll appends messages in batches.
func mustAppendAll(t testing.TB, b hub.Backend, topic string, ms []hub.Message, size int) (ids []hub.ID) {
	t.Helper()
	for batch := range slices.Chunk(ms, size) {
		got, err := appendTo(b, topic, batch)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, got...)
	}
	return ids
}

// TestKeysAreBounded: the newest keys are remembered, and at most twice as many, whether they come
// alone, in batches, or in batches that are larger than the bound. What became of the messages does
// not count.
func TestKeysAreBounded(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		for _, test := range []struct{ most, size int }{{1, 1}, {3, 1}, {50, 1}, {50, 7}, {50, 64}, {3, 20}} {
			r := newRig(t, addr, Options{MaxKeys: test.most, Retention: []hub.Retention{{Messages: 1}}})
			topic := itoa(test.most) + "/" + itoa(test.size)
			stream := r.keys.stream(topic)
			n := 5*test.most + 10
			ms := keyed(0, n)
			var ids []hub.ID
			for batch := range slices.Chunk(ms, test.size) {
				ids = append(ids, mustAppendAll(t, r, topic, batch, test.size)...)
				count := 0
				for _, key := range []string{newerKeysKey(stream), formerKeysKey(stream)} {
					count += max(int(r.client.HLen(t.Context(), key).Val())-1, 0) // but for since
				}
				if count > 2*test.most || count < min(len(ids), test.most) {
					t.Fatalf("%s: %d keys of %d are there", topic, count, len(ids))
				}
			}
			// Asking changes nothing as long as all are known.
			known := mustAppendAll(t, r, topic, ms[n-test.most:], test.size)
			if !slices.Equal(known, ids[n-test.most:]) {
				t.Errorf("%s: the newest keys have the IDs\n%v, want\n%v", topic, known, ids[n-test.most:])
			}
			old := n - 2*test.most - 1
			if id := mustAppendAll(t, r, topic, ms[old:old+1], 1)[0]; slices.Contains(ids, id) {
				t.Errorf("%s: of %d keys the one before the newest %d is known", topic, n, n-old)
			}
		}
	})
}

// TestKeysAcrossTheBound: what is known of a batch is left out, while its other keys push out what
// is known.
func TestKeysAcrossTheBound(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		r := newRig(t, addr, Options{MaxKeys: 4})
		ids := mustAppendAll(t, r, "t", keyed(0, 4), 4)
		again := mustAppendAll(t, r, "t", keyed(0, 14), 14)
		if !slices.Equal(again[:4], ids) || slices.Contains(again[4:], "") {
			t.Errorf("a batch that begins with what is known has %v, want %v first", again, ids)
		}
		if got, want := contents(t, r, "t"), "0 1 2 3 4 5 6 7 8 9 10 11 12 13"; got != want {
			t.Errorf("the topic has %s", got)
		}
		if last := mustAppendAll(t, r, "t", keyed(10, 14), 4); !slices.Equal(last, again[10:]) {
			t.Errorf("the newest four have %v, want %v", last, again[10:])
		}
		// Batches that are refused remember nothing, and forget nothing.
		if _, err := r.PublishAll(t.Context(), "t", append(keyed(20, 40), hub.Message{Headers: manyHeaders(maxHeaders + 1)})); err == nil {
			t.Fatal("a batch with too many headers is taken")
		}
		if last := mustAppendAll(t, r, "t", keyed(10, 14), 1); !slices.Equal(last, again[10:]) {
			t.Errorf("after a refused batch the newest four have %v, want %v", last, again[10:])
		}
	})
}

// TestKeyWindow: a key is known for as long as the window, and no longer. A clock that steps back
// makes that longer, never shorter.
func TestKeyWindow(t *testing.T) {
	m := startMini(t)
	const window = time.Minute
	r := newRig(t, m.Addr(), Options{KeyWindow: window, MaxKeys: 20})
	start := time.UnixMilli(1_795_394_462_123)
	at := func(d time.Duration, topic, key string) hub.ID {
		t.Helper()
		m.SetTime(start.Add(d))
		id, err := r.Publish(t.Context(), topic, hub.Message{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := at(0, "t", "a")
	for i := range 50 {
		// Others come all along, few enough for the bound.
		if d := time.Duration(i) * window / 20; d < window {
			if id := at(d, "t", "a"); id != first {
				t.Errorf("after %v the key is not known", d)
			}
			at(d, "t", "other "+itoa(i))
		}
	}
	second := at(window, "t", "a")
	if second == first {
		t.Error("the key is known behind its window")
	}
	if id := at(2*window-time.Millisecond, "t", "a"); id != second {
		t.Error("a key that was used again is not known")
	}
	for _, step := range []time.Duration{-time.Second, -window / 2, -time.Hour} {
		topic := step.String()
		id := at(0, topic, "a")
		at(step, topic, "b")
		for _, d := range []time.Duration{step, step + window/2, step + window - 1, -step / 2} {
			if d >= step+window {
				continue
			}
			if got := at(d, topic, "a"); got != id {
				t.Errorf("after a step of %v, at %v, the key is not known", step, d)
			}
		}
	}
	// What is older than the window is not kept for long, however few keys there are.
	for i := range 40 {
		at(time.Duration(i)*window/4, "slow", itoa(i))
	}
	n := 0
	for _, key := range []string{newerKeysKey(r.keys.stream("slow")), formerKeysKey(r.keys.stream("slow"))} {
		n += int(r.client.HLen(t.Context(), key).Val()) - 1
	}
	if n < 4 || n > 8 {
		t.Errorf("%d keys are there of four in a window", n)
	}
	// In redis-server the expiry is what ends a window when nothing more comes.
	s := startServer(t)
	short := newRig(t, s.addr, Options{KeyWindow: 200 * time.Millisecond})
	id := mustAppendAll(t, short, "t", keyed(0, 1), 1)[0]
	testenv.Eventually(t, "the key to be forgotten", func() error {
		if s.Exists(t.Context(), newerKeysKey(short.keys.stream("t"))).Val() > 0 {
			return errors.New("it is there")
		}
		return nil
	})
	if again := mustAppendAll(t, short, "t", keyed(0, 1), 1)[0]; again == id {
		t.Error("a key that Redis has forgotten is known")
	}
}

// TestKeysAreForgotten: nothing of a topic's keys is left when it is deleted, also when its
// messages are gone.
func TestKeysAreForgotten(t *testing.T) {
	both(t, func(t *testing.T, addr string) {
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		for name, gone := range map[string]func(r *rig, stream string){
			"there":   func(*rig, string) {},
			"trimmed": func(_ *rig, stream string) { admin.XTrimMaxLen(t.Context(), stream, 0) },
			"expired": func(_ *rig, stream string) { admin.Del(t.Context(), stream) },
			"erased": func(r *rig, _ string) {
				for _, m := range everything(t, r, "t") {
					mustErase(t, r, "t", m.ID)
				}
			},
		} {
			r := newRig(t, addr, Options{Prefix: name + ":", MaxKeys: 3})
			stream := r.keys.stream("t")
			ids := mustAppendAll(t, r, "t", keyed(0, 5), 1)
			if n := admin.Exists(t.Context(), newerKeysKey(stream), formerKeysKey(stream)).Val(); n != 2 {
				t.Fatalf("%s: %d hashes of keys", name, n)
			}
			gone(r, stream)
			if again := mustAppendAll(t, r, "t", keyed(2, 5), 1); !slices.Equal(again, ids[2:]) {
				t.Errorf("%s: the keys have %v, want %v", name, again, ids[2:])
			}
			mustDelete(t, r, "t")
			if n := admin.Exists(t.Context(), newerKeysKey(stream), formerKeysKey(stream)).Val(); n != 0 {
				t.Errorf("%s: %d hashes of keys are left", name, n)
			}
			for _, id := range mustAppendAll(t, r, "t", keyed(0, 5), 5) {
				if slices.Contains(ids, id) {
					t.Errorf("%s: a key of before the deletion is known", name)
				}
			}
		}
	})
}

// TestKeysTakeLittle: what a key takes of Redis' memory, however long it is, in topics with few and
// with many.
func TestKeysTakeLittle(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{Retention: []hub.Retention{{Messages: 1}}})
	for _, test := range []struct{ length, keys, each, all int }{{36, 1, 0, 400}, {36, 30, 60, 0}, {36, 100, 130, 0}, {255, 30_000, 130, 0}} {
		topic := itoa(test.length) + "/" + itoa(test.keys)
		ms := keyed(0, test.keys)
		for i := range ms {
			ms[i].Key = strings.Repeat("k", test.length-len(ms[i].Key)) + ms[i].Key
		}
		mustAppendAll(t, r, topic, ms, 1000)
		bytes, there := 0, 0
		for _, key := range []string{newerKeysKey(r.keys.stream(topic)), formerKeysKey(r.keys.stream(topic))} {
			bytes += int(s.MemoryUsage(t.Context(), key, 0).Val())
			if e := s.ObjectEncoding(t.Context(), key).Val(); e == "hashtable" != (test.keys > 32) && e != "" {
				t.Errorf("%d keys are a %s", test.keys, e)
			}
			there += max(int(s.HLen(t.Context(), key).Val())-1, 0)
		}
		t.Logf("%d keys of %d bytes: %d are there, %d bytes, %d each", test.keys, test.length, there, bytes, bytes/there)
		if test.all > 0 && bytes > test.all || test.each > 0 && bytes > test.each*there || there > 20_000 {
			t.Errorf("%d keys of %d bytes take %d bytes", there, test.length, bytes)
		}
	}
}

// TestKeysWithoutTheRightToUnlink: who may not delete topics has a bounded number of keys too.
func TestKeysWithoutTheRightToUnlink(t *testing.T) {
	s := startServer(t)
	if err := s.Do(t.Context(), "ACL", "SETUSER", "default", "-unlink").Err(); err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	r := newRig(t, s.addr, Options{MaxKeys: 2, Logger: slog.New(slog.NewTextHandler(log, nil))})
	ids := mustAppendAll(t, r, "t", keyed(0, 10), 1)
	if again := mustAppendAll(t, r, "t", keyed(8, 10), 1); !slices.Equal(again, ids[8:]) {
		t.Errorf("the newest keys have %v, want %v", again, ids[8:])
	}
	if n := s.HLen(t.Context(), formerKeysKey(r.keys.stream("t"))).Val(); n != 3 {
		t.Errorf("%d fields of former keys", n)
	}
	if strings.Contains(log.String(), "was appended, but") {
		t.Errorf("logged: %s", log.String())
	}
}
