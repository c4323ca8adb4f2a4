package redisstream

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// sought is what Seek has to find among what is retained.
func sought(ms []hub.Message, s hub.Seek) hub.ID {
	n, size := -1, int64(0)
	for _, m := range slices.Backward(ms) {
		if m.Erases == "" && !m.Deleted {
			n++
		}
		size += int64(len(m.Data))
		if s.Messages > 0 && n == s.Messages || s.Bytes > 0 && n > 0 && size > s.Bytes || m.Time.Before(s.Since) {
			return m.ID
		}
	}
	return ""
}

func TestSeek(t *testing.T) {
	mostly(t, testenv.IsLong(), func(t *testing.T, addr string) {
		a, b := newRig(t, addr, Options{}), newRig(t, addr, Options{})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		seek := func(topic string, s hub.Seek) hub.ID {
			t.Helper()
			id, err := b.Seek(t.Context(), topic, s)
			if err != nil {
				t.Fatalf("Seek: %v", err)
			}
			return id
		}
		now := time.Now()
		for _, s := range []hub.Seek{{Messages: 1}, {Bytes: 1}, {Since: now}} {
			if id := seek("never", s); id != "" {
				t.Errorf("%+v of a topic that never was: %q", s, id)
			}
		}
		// Entries of all kinds: more than one run of the script looks at, several in a millisecond,
		// and of another program.
		stream := a.keys.stream("t")
		at := now.Add(-time.Hour).UnixMilli()
		pipe := admin.Pipeline()
		for i := range 2*seekEntries + 100 {
			if i%3 == 0 {
				at++
			}
			values := []string{"hr", "1", "type", "a type that is no data", "data", strings.Repeat("x", i%50)}
			if i%7 == 0 {
				values = []string{"hr", "1e", "erases", "1-1"}
			}
			id := entryID{uint64(at), uint64(i)}.String()
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: id, Values: values})
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustPublish(t, a, "t", "newest")
		all := everything(t, a, "t")
		rnd := rand.New(rand.NewPCG(1, 2))
		seeks := []hub.Seek{
			{Messages: 1}, {Messages: len(all) - 1}, {Messages: len(all)}, {Messages: len(all) + 1}, {Messages: 1 << 62},
			{Bytes: 1}, {Bytes: 1 << 62}, {Since: all[0].Time}, {Since: all[0].Time.Add(1)}, {Since: all[0].Time.Add(-time.Hour)},
			{Since: now.Add(time.Hour)}, {Since: time.Unix(-1e9, 0)}, {Since: all[10].Time, Messages: 1 << 40}, {Since: all[10].Time, Bytes: 1 << 40},
		}
		for range 25 {
			var s hub.Seek
			if rnd.IntN(2) == 0 {
				s.Messages = 1 + rnd.IntN(len(all))
			}
			if rnd.IntN(2) == 0 {
				s.Bytes = 1 + rnd.Int64N(25*int64(len(all)))
			}
			if s == (hub.Seek{}) || rnd.IntN(2) == 0 {
				s.Since = all[rnd.IntN(len(all))].Time.Add(time.Duration(rnd.IntN(3)-1) * 300 * time.Microsecond)
			}
			seeks = append(seeks, s)
		}
		for _, s := range seeks {
			if got, want := seek("t", s), sought(all, s); got != want {
				t.Errorf("%+v: %q, want %q", s, got, want)
			}
		}
		// Of entries of other programs all values count.
		for range 3 {
			admin.XAdd(t.Context(), &redis.XAddArgs{Stream: a.keys.stream("foreign"), Values: []string{"a", "12345", "b", "12345"}})
		}
		all = everything(t, a, "foreign")
		for bytes, want := range map[int64]hub.ID{1: all[1].ID, 19: all[1].ID, 20: all[0].ID, 29: all[0].ID, 30: ""} {
			if got := seek("foreign", hub.Seek{Bytes: bytes}); got != want {
				t.Errorf("%d bytes: %q, want %q", bytes, got, want)
			}
		}
	})
}

func TestInfo(t *testing.T) {
	mostly(t, testenv.IsLong(), func(t *testing.T, addr string) {
		a, b := newRig(t, addr, Options{MaxAge: 30 * time.Hour}), newRig(t, addr, Options{KeepForever: true})
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		want := hub.Info{}
		check := func(what string) {
			t.Helper()
			got := mustInfo(t, b, "t")
			got.Expires = time.Time{}
			if got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		check("never")
		first := mustPublish(t, a, "t", "1")
		want = hub.Info{Exists: true, Oldest: first, Newest: first}
		check("one message")
		now, err := admin.Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if left := mustInfo(t, b, "t").Expires.Sub(now); left < 59*time.Hour || left > 61*time.Hour {
			t.Errorf("the topic expires in %v", left)
		}
		second := mustPublish(t, a, "t", "2")
		want.Newest = second
		check("two")
		mustErase(t, a, "t", mustPublish(t, a, "t", "3"))
		check("an erasure at the end")
		mustErase(t, a, "t", first)
		want.Oldest = second
		check("an erasure in front")
		end, err := a.Publish(t.Context(), "t", hub.Message{Final: true})
		if err != nil {
			t.Fatal(err)
		}
		want.Newest, want.Finished = end, true
		check("the end")
		// As a publisher that may publish behind the end.
		foreign, err := admin.XAdd(t.Context(), &redis.XAddArgs{Stream: a.keys.stream("t"), Values: []string{"a", "b"}}).Result()
		if err != nil {
			t.Fatal(err)
		}
		want.Newest, want.Finished = hub.ID(foreign), false
		check("an entry of another program")
		admin.XTrimMaxLen(t.Context(), a.keys.stream("t"), 0)
		want = hub.Info{}
		check("all trimmed")
		id := mustPublish(t, b, "forever", "x")
		if info := mustInfo(t, a, "forever"); info != (hub.Info{Exists: true, Oldest: id, Newest: id}) {
			t.Errorf("a topic that is kept for ever: %+v", info)
		}
		// More entries that are no messages than are looked at in one step.
		for i := range 200 {
			mustErase(t, a, "many", mustPublish(t, a, "many", itoa(i)))
		}
		if info := mustInfo(t, b, "many"); info != (hub.Info{}) {
			t.Errorf("a topic with nothing but erasures: %+v", info)
		}
		id = mustPublish(t, a, "many", "x")
		if info := mustInfo(t, b, "many"); info.Oldest != id || info.Newest != id {
			t.Errorf("a message behind many erasures: %+v, want %q", info, id)
		}
	})
}
