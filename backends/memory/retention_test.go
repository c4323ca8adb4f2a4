package memory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
)

func TestRetention(t *testing.T) {
	const size = messageOverhead + 1 // of a message of one byte
	for _, tc := range []struct {
		name string
		o    Options
		wait time.Duration // before the last message
		want string
	}{
		{"defaults", Options{}, 0, "abcdef"},
		{"negative is default", Options{MaxMessages: -1, MaxBytes: -1, MaxAge: -1, KeyWindow: -1, MaxTotalBytes: -1}, 0, "abcdef"},
		{"count", Options{MaxMessages: 2}, 0, "ef"},
		{"bytes", Options{MaxBytes: 3 * size}, 0, "def"},
		{"the newest whatever its size", Options{MaxBytes: 1}, 0, "f"},
		{"age, just not reached", Options{}, 24*time.Hour - 1, "abcdef"},
		{"age", Options{}, 24 * time.Hour, "f"},
		{"forever", Options{KeepForever: true, MaxAge: 1}, 1000 * time.Hour, "abcdef"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(tc.o)
				defer b.Close()
				first := publish(t, b, "t", text("a"))
				for _, s := range []string{"b", "c", "d", "e"} {
					publish(t, b, "t", text(s))
				}
				time.Sleep(tc.wait)
				publish(t, b, "t", text("f"))
				got, p := read(t, b, "t", "")
				if strings.Join(got, "") != tc.want || p.Gap {
					t.Errorf("retained: %q, want %q", got, tc.want)
				}
				got, p = read(t, b, "t", first)
				if gap := len(tc.want) < 5; p.Gap != gap || strings.Join(got, "") != strings.TrimPrefix(tc.want, "a") {
					t.Errorf("after the first: %q, gap: %v", got, p.Gap)
				}
				if got, want := b.total.Load(), int64(len(tc.want)*size+topicOverhead+len("t")); got != want {
					t.Errorf("%d bytes counted, want %d", got, want)
				}
			})
		})
	}
}

func TestAgeEndsOnRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{MaxAge: 10 * time.Second})
		defer b.Close()
		first := publish(t, b, "t", text("a"))
		time.Sleep(6 * time.Second)
		second := publish(t, b, "t", text("b"))
		time.Sleep(4 * time.Second)
		if got, p := read(t, b, "t", first); p.Gap || !slices.Equal(got, []string{"b"}) {
			t.Errorf("after the removed message: %q, gap: %v, want what is next to it", got, p.Gap)
		}
		time.Sleep(6*time.Second - 1)
		if got, _ := read(t, b, "t", ""); !slices.Equal(got, []string{"b"}) {
			t.Errorf("%q just before its time", got)
		}
		time.Sleep(1)
		if got, p := read(t, b, "t", second); p.Gap || got != nil || p.Next != second {
			t.Errorf("%q, gap: %v, next %q", got, p.Gap, p.Next)
		}
		if _, p := read(t, b, "t", first); !p.Gap {
			t.Error("no gap though the next message is gone")
		}
	})
}

func TestKeyWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{MaxMessages: 2, MaxAge: time.Second, KeyWindow: time.Hour})
		defer b.Close()
		keyed := func(key string) hub.ID { return publish(t, b, "t", hub.Message{Key: key}) }
		first := keyed("a")
		time.Sleep(time.Hour - 1)
		if id := keyed("a"); id != first {
			t.Errorf("a repeat within the window got %q, want %q", id, first)
		}
		time.Sleep(1)
		second := keyed("a")
		if second == first {
			t.Error("the key outlived its window")
		}
		keyed("b")
		if keyed("a") != second {
			t.Error("a key was forgotten among two")
		}
		keyed("c")
		if keyed("a") == second {
			t.Error("more keys are remembered than messages are retained")
		}
	})
}

// The bound over all topics takes the oldest first, messages and keys alike.
func TestTotalBytes(t *testing.T) {
	const each = messageOverhead + 1000
	b := New(Options{MaxTotalBytes: 32 * each})
	defer b.Close()
	data := strings.Repeat("x", 1000)
	publish(t, b, "keys", hub.Message{Key: "key"})
	var firsts []hub.ID
	for i := range 40 {
		id := publish(t, b, fmt.Sprint("t", i%4), text(data))
		if i < 4 {
			firsts = append(firsts, id)
		}
		if got := b.total.Load(); got > 32*each {
			t.Fatalf("%d bytes after message %d, at most %d are allowed", got, i, 32*each)
		}
	}
	retained := 0
	oldest := uint64(40)
	for i, first := range firsts {
		got, p := read(t, b, fmt.Sprint("t", i), "")
		retained += len(got)
		n, _ := b.place(p.Messages[0].ID, b.counter.Load())
		oldest = min(oldest, n)
		if _, p := read(t, b, fmt.Sprint("t", i), first); !p.Gap {
			t.Errorf("topic %d: no gap after its first message", i)
		}
	}
	// n begins at 1 and the first was the keyed message.
	if want := uint64(41 - retained + 1); oldest != want || retained < 28 {
		t.Errorf("%d messages are retained, the oldest is %d, want %d", retained, oldest, want)
	}
	if id := publish(t, b, "keys", hub.Message{Key: "key"}); strings.HasSuffix(string(id), "-1") {
		t.Error("the oldest key is remembered")
	}
}

func TestTotalBytesOfOneMessage(t *testing.T) {
	b := New(Options{MaxTotalBytes: 1})
	defer b.Close()
	s := &sink{}
	tail, _ := follow(t, b, "t", s)
	id := publish(t, b, "t", text("a"))
	if len(s.got) != 1 {
		t.Error("not delivered")
	}
	if _, p := read(t, b, "t", tail); !p.Gap || p.Next != id {
		t.Errorf("gap: %v, next %q, want a gap and %q", p.Gap, p.Next, id)
	}
}

func TestJanitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer b.Close()
		if b.armed.Load() {
			t.Error("armed though there is nothing")
		}
		old := publish(t, b, "gone", hub.Message{Key: "k"})
		_, stop := follow(t, b, "followed", &sink{})
		quietTail, stopQuiet := follow(t, b, "quiet", &sink{})
		stopQuiet()
		if got := b.topicCount(); got != 3 {
			t.Fatalf("%d topics", got)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if got, bytes := b.topicCount(), b.total.Load(); got != 1 || bytes != int64(topicOverhead+len("followed")) {
			t.Errorf("%d topics and %d bytes are left, want the followed topic", got, bytes)
		}
		if b.armed.Load() {
			t.Error("armed though nothing can get old")
		}
		// What the dropped topics knew about their gaps is still known.
		if _, p := read(t, b, "gone", old); p.Gap || p.Next != old {
			t.Errorf("after the newest removed message: gap: %v, next %q", p.Gap, p.Next)
		}
		if _, p := read(t, b, "gone", b.id(0)); !p.Gap {
			t.Error("no gap though a message is gone, and its topic too")
		}
		tail, stopGone := follow(t, b, "gone", &sink{})
		if _, p := read(t, b, "gone", tail); p.Gap {
			t.Error("the tail of a topic that was dropped is a gap")
		}
		stopGone()
		again := publish(t, b, "gone", text("again"))
		if again == old {
			t.Error("an ID was given twice")
		}
		if _, p := read(t, b, "gone", b.id(0)); !p.Gap || len(p.Messages) != 1 {
			t.Error("no gap after the topic came back")
		}
		if got, p := read(t, b, "gone", old); p.Gap || len(got) != 1 {
			t.Error("a gap though nothing is missing")
		}
		if _, p := read(t, b, "quiet", quietTail); p.Gap {
			t.Error("a gap in a topic that never had a message")
		}
		stop()
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if got := b.topicCount(); got != 0 {
			t.Errorf("%d topics are left", got)
		}
	})
}

func TestJanitorFreesWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{MaxAge: time.Hour})
		defer b.Close()
		publish(t, b, "t", text("a"))
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		if got := b.topicCount(); got != 0 {
			t.Errorf("%d topics are left", got)
		}
	})
}

// TestManyTopics: topics cost something even when their messages are small, and that counts.
func TestManyTopics(t *testing.T) {
	const bound = 1 << 20
	b := New(Options{MaxTotalBytes: bound})
	defer b.Close()
	for i := range 20_000 {
		publish(t, b, fmt.Sprint("topic ", i), text("x"))
	}
	if n, bytes := b.topicCount(), b.total.Load(); bytes > bound || n*topicOverhead > bound || n < bound/4/(topicOverhead+messageOverhead) {
		t.Errorf("%d topics, %d bytes counted of %d", n, bytes, bound)
	}
}
