package memory

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
)

func publishAll(t testing.TB, b *Backend, topic string, ms ...hub.Message) []hub.ID {
	t.Helper()
	ids, err := b.PublishAll(t.Context(), topic, ms)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// counted fails the test when the bytes that are counted are not those of the topics.
func counted(t testing.TB, b *Backend) {
	t.Helper()
	var sum int64
	for i := range b.shards {
		for name, topic := range b.shards[i].snapshot() {
			retained := 0
			for seq := topic.messages.First(); seq < topic.messages.Next(); seq++ {
				if _, e := topic.messages.At(seq); e.message() {
					retained++
				}
			}
			if retained != topic.retained {
				t.Errorf("%s: %d messages are counted, %d are there", name, topic.retained, retained)
			}
			sum += topic.messages.Bytes() + topic.keys.Bytes() + int64(topicOverhead+len(name))
		}
	}
	if got := b.total.Load(); got != sum {
		t.Errorf("%d bytes are counted, the topics have %d", got, sum)
	}
}

func TestPublishAllIsOneDelivery(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	s := &sink{}
	tail, _ := follow(t, b, "t", s)
	ids := publishAll(t, b, "t", hub.Message{Key: "k", Data: []byte("a")}, text("b"), hub.Message{Key: "k", Data: []byte("c")})
	if ids[2] != ids[0] || len(s.got) != 2 || s.got[0].Prev != tail || s.got[1].Prev != ids[0] {
		t.Errorf("%q, delivered %+v", ids, s.got)
	}
	counted(t, b)
}

// A batch that is refused leaves nothing behind: no message, no key.
func TestARefusedBatchLeavesNothing(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	end := publish(t, b, "t", hub.Message{Type: "close", Final: true})
	_, err := b.PublishAll(t.Context(), "t", []hub.Message{{Key: "k", AfterEnd: true}, text("b")})
	if !errors.Is(err, hub.ErrEnded) || !errors.Is(err, hub.ErrRejected) {
		t.Errorf("%v", err)
	}
	if got, _ := read(t, b, "t", end); got != nil || b.total.Load() != topicOverhead+1+int64(messageOverhead+len("close")) {
		t.Errorf("%q, %d bytes", got, b.total.Load())
	}
	// The topic goes on behind its end, and is finished no longer.
	after := publish(t, b, "t", hub.Message{AfterEnd: true})
	if next := publish(t, b, "t", text("c")); next == after {
		t.Error("not appended")
	}
}

func TestTheEndGoesWithItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{MaxAge: time.Minute})
		defer b.Close()
		publish(t, b, "t", hub.Message{Type: "close", Final: true})
		time.Sleep(time.Minute)
		publish(t, b, "t", text("again"))
	})
}

func TestDeleteForgets(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	s := &sink{}
	tail, _ := follow(t, b, "t", s)
	old := publish(t, b, "t", hub.Message{Key: "k", Data: []byte("a")})
	if err := b.Delete(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if len(s.got) != 2 || !s.got[1].Deleted || s.got[1].Prev != old {
		t.Fatalf("delivered %+v", s.got)
	}
	begin := s.got[1].ID
	for _, id := range []hub.ID{tail, old} {
		if _, p := read(t, b, "t", id); !p.Gap || len(p.Messages) != 1 || p.Messages[0].ID != begin {
			t.Errorf("after %q: %+v", id, p)
		}
	}
	if _, p := read(t, b, "t", begin); p.Gap || !p.Deleted {
		t.Errorf("at the beginning: %+v", p)
	}
	if again := publish(t, b, "t", hub.Message{Key: "k"}); again == old {
		t.Error("the key is still known")
	}
	counted(t, b)
}

// A topic without messages has nothing to delete, but its keys go.
func TestDeleteOfNothing(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	for range 2 {
		if err := b.Delete(t.Context(), "t"); err != nil || b.topicCount() != 0 {
			t.Errorf("%v, %d topics", err, b.topicCount())
		}
	}
	erased := publish(t, b, "t", hub.Message{Key: "k"})
	if err := b.Erase(t.Context(), "t", erased); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, p := read(t, b, "t", ""); len(p.Messages) != 1 || p.Messages[0].Erases != erased {
		t.Errorf("%+v", p)
	}
	if publish(t, b, "t", hub.Message{Key: "k"}) == erased {
		t.Error("the key is still known")
	}
	counted(t, b)
}

// What was erased is missed by nobody, not even when its tombstone has left the log.
func TestErasedIsNeverAGap(t *testing.T) {
	b := New(Options{MaxMessages: 4})
	defer b.Close()
	a := publish(t, b, "t", text("a"))
	erased := publish(t, b, "t", text("a secret"))
	last := publish(t, b, "t", text("c"))
	for range 2 {
		if err := b.Erase(t.Context(), "t", erased); err != nil {
			t.Fatal(err)
		}
	}
	counted(t, b)
	for _, more := range []string{"d", "e"} { // the second takes the tombstone's place
		for _, id := range []hub.ID{a, erased} {
			if got, p := read(t, b, "t", id); p.Gap || got[0] != "c" {
				t.Errorf("after %q: %q, gap %v", id, got, p.Gap)
			}
		}
		last = publish(t, b, "t", text(more))
	}
	if _, p := read(t, b, "t", a); p.Gap {
		t.Error("a gap for a tombstone")
	}
	publish(t, b, "t", text("f"))
	if _, p := read(t, b, "t", a); !p.Gap {
		t.Error("no gap for a message")
	}
	if got, p := read(t, b, "t", last); p.Gap || !slices.Equal(got, []string{"f"}) {
		t.Errorf("%q, gap %v", got, p.Gap)
	}
	counted(t, b)
}

func TestTheEndIsNotErased(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	a := publish(t, b, "t", text("a"))
	end := publish(t, b, "t", hub.Message{Type: "close", Final: true})
	for _, id := range []hub.ID{end, a, a, "foreign", b.id(0)} {
		if err := b.Erase(t.Context(), "t", id); err != nil {
			t.Fatal(err)
		}
	}
	if again := publish(t, b, "t", hub.Message{Final: true}); again != end {
		t.Errorf("ended at %q and %q", end, again)
	}
	_, p := read(t, b, "t", "")
	if len(p.Messages) != 2 || p.Messages[0].ID != end || p.Messages[1].Erases != a {
		t.Errorf("%+v", p.Messages)
	}
	info, err := b.Info(t.Context(), "t")
	if err != nil || !info.Exists || info.Oldest != end || info.Newest != end || !info.Finished {
		t.Errorf("%+v, %v", info, err)
	}
	if err := b.Erase(t.Context(), "t", p.Messages[1].ID); err != nil {
		t.Fatal(err)
	}
	if _, p := read(t, b, "t", ""); len(p.Messages) != 2 {
		t.Error("the word to readers was erased")
	}
}

func TestSeekAndInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer b.Close()
		start := time.Now()
		var ids []hub.ID
		for range 4 {
			ids = append(ids, publish(t, b, "t", text("abc")))
			time.Sleep(time.Minute)
		}
		for _, tc := range []struct {
			s    hub.Seek
			want hub.ID
		}{
			{hub.Seek{Messages: 1}, ids[2]},
			{hub.Seek{Messages: 3}, ids[0]},
			{hub.Seek{Messages: 4}, ""},
			{hub.Seek{Messages: 9}, ""},
			{hub.Seek{Bytes: 1}, ids[2]},
			{hub.Seek{Bytes: 6}, ids[1]},
			{hub.Seek{Since: start}, ""},
			{hub.Seek{Since: start.Add(1)}, ids[0]},
			{hub.Seek{Since: start.Add(time.Hour)}, ids[3]},
			{hub.Seek{Messages: 3, Bytes: 6}, ids[1]},
		} {
			if got, err := b.Seek(t.Context(), "t", tc.s); err != nil || got != tc.want {
				t.Errorf("%+v: %q, %v, want %q", tc.s, got, err, tc.want)
			}
		}
		info, err := b.Info(t.Context(), "t")
		want := hub.Info{Exists: true, Oldest: ids[0], Newest: ids[3], Expires: start.Add(3*time.Minute + 24*time.Hour).Round(0)}
		if err != nil || info != want {
			t.Errorf("%+v, %v, want %+v", info, err, want)
		}
		if info, err := b.Info(t.Context(), "absent"); err != nil || info != (hub.Info{}) {
			t.Errorf("absent: %+v, %v", info, err)
		}
	})
}

func TestRetentionByPrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{MaxMessages: 3, KeepForever: true, Retention: []hub.Retention{
			{Prefix: "a/", Messages: 5},
			{Prefix: "a/old/", Age: time.Minute},
			{Prefix: "b/", Bytes: 2 * (messageOverhead + 1)},
		}})
		defer b.Close()
		want := map[string]int{"x": 3, "a/x": 5, "a/old/x": 3, "b/x": 2}
		for topic := range want {
			for range 7 {
				publish(t, b, topic, text("x"))
			}
		}
		for range 2 {
			for topic, n := range want {
				if got, _ := read(t, b, topic, ""); len(got) != n {
					t.Errorf("%s: %d messages, want %d", topic, len(got), n)
				}
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			want["a/old/x"] = 0
		}
		if n := b.topicCount(); n != 3 {
			t.Errorf("%d topics are left, want 3", n)
		}
	})
}

func TestIsID(t *testing.T) {
	b, other := New(Options{}), New(Options{})
	for id, want := range map[hub.ID]bool{
		b.id(0): true, b.id(7): true, other.id(7): true,
		b.id(7) + "x": false, "x" + b.id(7): false, "7": false, "": false, "-7": false,
		hub.ID(b.epoch): false, hub.ID(b.epoch + "07"): false, "1700000000000-0": false, "ABCDEFGHIJKL-7": false,
	} {
		if got := b.IsID(id); got != want {
			t.Errorf("IsID(%q) is %v", id, got)
		}
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	b.Close()
	if err := b.Ping(t.Context()); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := b.Delete(t.Context(), "t"); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// TestTheEndCountsAgain: a topic that went on behind its end is finished when what came is erased.
func TestTheEndCountsAgain(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	publish(t, b, "t", text("first"))
	end := publish(t, b, "t", hub.Message{Final: true})
	var late []hub.ID
	for range 2 {
		late = append(late, publish(t, b, "t", hub.Message{AfterEnd: true}))
	}
	for i, id := range late {
		if err := b.Erase(t.Context(), "t", id); err != nil {
			t.Fatal(err)
		}
		if info, err := b.Info(t.Context(), "t"); err != nil || info.Finished != (i == 1) {
			t.Errorf("%d erased: %+v, %v", i+1, info, err)
		}
	}
	if id, err := b.Publish(t.Context(), "t", hub.Message{Final: true}); id != end || err != nil {
		t.Errorf("to finish again: %q, %v, want %q", id, err, end)
	}
}
