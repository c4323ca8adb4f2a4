package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// living are the traits of a backend that can do all there is.
var living = Traits{
	Name: "living", Replay: true, Ordered: true, Chained: true, Keys: KeysStored, Atomic: true, Ends: true, Deletes: true,
}

// walkLife is walkBoth for such a backend, and for one whose messages do not name predecessors.
func walkLife(t *testing.T, o Options, test func(t *testing.T, b *fake, h *Hub)) {
	t.Helper()
	unchained := living
	unchained.Name, unchained.Chained = "living, unchained", false
	for _, traits := range []Traits{living, unchained} {
		t.Run(traits.Name, func(t *testing.T) { walkBoth(t, traits, o, test) })
	}
}

// TestLostNewest has the store lose its newest messages, some or more than the window holds.
func TestLostNewest(t *testing.T) {
	for _, lost := range []int{1, 7, 20} {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			walkLife(t, Options{Window: 10}, func(t *testing.T, b *fake, h *Hub) {
				b.add("t", 30)
				behind := subscribe(t, h, "t", After("2"), MarkGaps())
				tail := subscribe(t, h, "t", Latest(), MarkGaps())
				ends := subscribe(t, h, "t", Latest())
				b.add("t", lost)
				newest := 30 + lost
				tail.want(upTo(31, newest))
				ends.want(upTo(31, newest))

				b.lose("t", lost)
				b.restored("t", "")
				// Told at once, and not sent again what was had.
				tail.want("gap")
				ends.want("ErrGap")
				fresh := subscribe(t, h, "t", Latest(), MarkGaps())
				b.add("t", 2)
				news := fmt.Sprint(newest+1, " ", newest+2)
				tail.want(news)
				fresh.want(news) // what was lost before its time is no gap
				if got, want := behind.now(), upTo(3, 30); got != want+" "+news && got != want+" gap "+news {
					t.Errorf("the reader behind the window got %q", got)
				}
			})
		})
	}
}

// TestLostWhileReading loses what a reader in the window has not had yet: it is told, and gets the
// rest.
func TestLostWhileReading(t *testing.T) {
	walkLife(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest(), MarkGaps())
		b.add("t", 5)
		if got := r.Poll(nil, 2, 1<<20); len(got.Entries) != 2 {
			t.Fatalf("Poll: %+v", got)
		}
		b.lose("t", 2)
		b.restored("t", "")
		r.want("3 gap")
		b.add("t", 1)
		r.want("6")
		b.lose("t", 1)
		b.restored("t", "")
		r.want("gap") // a second loss before anything has come is told again
		b.lose("t", 1)
		b.restored("t", "")
		r.want("gap")
	})
}

// TestLostAndBack: the store is back in the history that it had left. Who has had messages of both
// is not sent those again that were lost for a while; who comes then gets them.
func TestLostAndBack(t *testing.T) {
	walkLife(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 1)
		r := subscribe(t, h, "t", Latest(), MarkGaps())
		b.add("t", 5)
		r.want("2 3 4 5 6")
		old := slices.Clone(b.topic("t").retained)
		b.lose("t", 2)
		b.restored("t", "")
		b.add("t", 1)
		r.want("gap 7")

		b.mu.Lock()
		b.topic("t").retained = old
		b.mu.Unlock()
		b.restored("t", "")
		b.add("t", 1)
		r.want("gap 8")
		for _, at := range []Position{After("4"), Last(3)} {
			subscribe(t, h, "t", at).want("5 6 8")
		}
		subscribe(t, h, "t", After("6")).want("8")
		b.add("t", 1)
		r.want("9")
	})
}

// TestCursorOfALostMessage comes back with an ID that the store has lost.
func TestCursorOfALostMessage(t *testing.T) {
	walkLife(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		keep := subscribe(t, h, "t", Latest(), MarkGaps())
		b.add("t", 5)
		b.lose("t", 1)
		b.restored("t", "")
		keep.want("1 2 3 4 gap")
		subscribe(t, h, "t", After("5"), MarkGaps()).want("gap 1 2 3 4")
		subscribe(t, h, "t", After("5"), MarkGaps(), Replay(2, 0)).want("gap 3 4")
		subscribe(t, h, "t", After("4"), MarkGaps()).want("") // where keep was told to go on
	})
}

func TestStarts(t *testing.T) {
	walkLife(t, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 10)
		for name, test := range map[string]struct {
			at   Position
			want string
		}{
			"no position":       {Position{}, ""},
			"none":              {Last(0), ""},
			"less than none":    {Last(-3), ""},
			"last 3":            {Last(3), "8 9 10"},
			"last 10":           {Last(10), upTo(1, 10)},
			"last 99":           {Last(99), upTo(1, 10)},
			"since the seventh": {Since(time.Unix(0, 7)), "7 8 9 10"},
			"since the first":   {Since(time.Unix(0, 1)), upTo(1, 10)},
			"since for ever":    {Since(time.Time{}), upTo(1, 10)},
			"since the future":  {Since(time.Unix(0, 11)), ""},
			"earliest":          {Earliest(), upTo(1, 10)},
		} {
			subscribe(t, h, "t", test.at).want(test.want)
			r := subscribe(t, h, "u", test.at)
			if got := r.now(); got != "" {
				t.Errorf("%s of an empty topic: %q", name, got)
			}
		}
		// From here on the window has the newest four.
		keep := subscribe(t, h, "t", Latest())
		b.add("t", 6)
		keep.want(upTo(11, 16))
		b.script(func() { b.seeks = 0 })
		subscribe(t, h, "t", Last(4)).want(upTo(13, 16))
		subscribe(t, h, "t", Last(1)).want("16")
		subscribe(t, h, "t", Since(time.Unix(0, 15))).want("15 16")
		if b.seeks != 0 {
			t.Errorf("the backend was asked %d times for what the window has", b.seeks)
		}
		subscribe(t, h, "t", Last(5)).want(upTo(12, 16))
		subscribe(t, h, "t", Since(time.Unix(0, 12))).want(upTo(12, 16))
	})
}

func TestSubscribeWithoutAPosition(t *testing.T) {
	walk(t, living, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 3)
		s, err := h.Subscribe(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		r := reader{s, t, make(bell, 1)}
		b.add("t", 1)
		r.want("4")
		s.Close()
	})
}

// TestReplayBound: who comes with a cursor that nobody knows gets the newest messages within the
// bound, behind a gap; whoever comes at the same time shares the reads.
func TestReplayBound(t *testing.T) {
	walkLife(t, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 50)
		for _, id := range []ID{"of-another-life", "no-id", "\x00", "777"} {
			for name, test := range map[string]struct {
				bound SubscribeOption
				want  string
			}{
				"no bound":      {Replay(0, 0), "gap " + upTo(1, 50)},
				"messages":      {Replay(3, 0), "gap 48 49 50"},
				"bytes":         {Replay(0, 10), "gap 49 50"},
				"one too large": {Replay(0, 1), "gap 50"},
				"both":          {Replay(1, 10), "gap 50"},
				"negative":      {Replay(-1, -1), "gap " + upTo(1, 50)},
			} {
				r := subscribe(t, h, "t", After(id), MarkGaps(), test.bound)
				if got := r.now(); got != test.want {
					t.Errorf("%q, %s: %q, want %q", id, name, got, test.want)
				}
			}
			subscribe(t, h, "t", After(id), Replay(3, 0)).want("ErrGap")
			subscribe(t, h, "empty", After(id), MarkGaps(), Replay(3, 0)).want("gap")
		}
		b.trim("t", 20)
		subscribe(t, h, "t", After("5"), MarkGaps(), Replay(3, 0)).want("gap 48 49 50")
		subscribe(t, h, "t", After("40"), MarkGaps(), Replay(3, 0)).want(upTo(41, 50)) // known: all of it
	})
}

func TestReplayBoundWithoutReplay(t *testing.T) {
	walkBoth(t, liveOnly, Options{}, func(t *testing.T, b *fake, h *Hub) {
		keep := subscribe(t, h, "t", Latest())
		b.add("t", 9)
		keep.want(upTo(1, 9))
		subscribe(t, h, "t", After("unknown"), MarkGaps(), Replay(2, 0)).want("gap 8 9")
		subscribe(t, h, "t", Last(3)).want("7 8 9")
	})
}

func TestDelete(t *testing.T) {
	walkLife(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 3)
		tail := subscribe(t, h, "t", Latest(), MarkGaps())
		behind := subscribe(t, h, "t", After("1"), MarkGaps())
		ends := subscribe(t, h, "t", Latest(), MarkGaps(), EndDeleted())
		strict := subscribe(t, h, "t", Latest(), EndDeleted())
		plain := subscribe(t, h, "t", Latest())
		if err := h.Delete(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		deleted := ErrDeleted.Error()
		tail.want("gap")
		ends.want("gap hub: subscribe \"t\": " + deleted)
		strict.want("hub: subscribe \"t\": " + deleted)
		plain.want("ErrGap")
		behind.want("gap")
		if info, err := h.Info(t.Context(), "t"); err != nil || info.Exists {
			t.Errorf("Info: %+v, %v", info, err)
		}
		subscribe(t, h, "t", Earliest()).want("")
		subscribe(t, h, "t", Last(5)).want("")
		subscribe(t, h, "t", After("3"), MarkGaps()).want("gap")
		// The position behind the deletion is the end, as long as the name is not used again.
		back := After(ends.last)
		subscribe(t, h, "t", back, EndDeleted()).want("hub: subscribe \"t\": " + deleted)
		subscribe(t, h, "t", Latest(), EndDeleted()).want("")
		other := open(t, b, Options{})
		subscribe(t, other, "t", back, EndDeleted()).want("hub: subscribe \"t\": " + deleted)
		b.add("t", 2)
		tail.want("5 6")
		subscribe(t, h, "t", back, EndDeleted()).want("5 6")
		subscribe(t, other, "t", back, EndDeleted()).want("5 6")
		subscribe(t, other, "t", Earliest(), EndDeleted()).want("5 6")
	})
}

// TestDeleteBehindTheWindow deletes what a reader is still reading from the backend.
func TestDeleteBehindTheWindow(t *testing.T) {
	walkLife(t, Options{Window: 2}, func(t *testing.T, b *fake, h *Hub) {
		b.script(func() { b.pageMax = 3 })
		b.add("t", 9)
		r := subscribe(t, h, "t", After("1"), MarkGaps(), EndDeleted())
		for range 2 {
			if b := r.Poll(nil, 3, 1<<20); b.Status == Behind {
				if err := r.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := h.Delete(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		r.want("gap hub: subscribe \"t\": " + ErrDeleted.Error())
	})
}

func TestErase(t *testing.T) {
	walkLife(t, Options{Window: 6}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 10)
		tail := subscribe(t, h, "t", Latest(), MarkGaps())
		b.add("t", 2)
		tail.want("11 12")
		behind := subscribe(t, h, "t", After("2"), MarkGaps())
		page := behind.Poll(nil, 1, 1)
		if page.Status == Behind {
			if err := behind.Fetch(t.Context()); err != nil { // the page is read before
				t.Fatal(err)
			}
		}
		inside := subscribe(t, h, "t", After("10"), MarkGaps())
		for _, id := range []ID{"3", "5", "11", "12"} {
			if err := h.Erase(t.Context(), "t", id); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		behind.want("4 6 7 8 9 10")
		inside.want("")
		tail.want("")
		b.add("t", 1)
		for _, r := range []reader{behind, inside, tail} {
			r.want("17")
		}
		// At an erased message nothing is missing.
		subscribe(t, h, "t", After("3"), MarkGaps()).want("4 6 7 8 9 10 17")
		subscribe(t, h, "t", After("12"), MarkGaps()).want("17")
		subscribe(t, h, "t", Earliest()).want("1 2 4 6 7 8 9 10 17")
		subscribe(t, h, "t", Last(3)).want("9 10 17") // neither in the window nor at the backend
		if s := h.Stats(); s.Gaps != 0 || s.ReaderGaps != 0 {
			t.Errorf("stats %+v", s)
		}
		if err := h.Erase(t.Context(), "t", "999"); err != nil {
			t.Errorf("a message that is not there: %v", err)
		}
	})
}

func TestLifeErrors(t *testing.T) {
	walk(t, living, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		ctx, over := context.WithCancel(t.Context())
		over()
		for name, test := range map[string]struct {
			got  func() error
			want error
		}{
			"delete nothing":     {func() error { return h.Delete(t.Context(), "") }, ErrTopic},
			"delete reserved":    {func() error { return h.Delete(t.Context(), revocationsTopic) }, ErrTopic},
			"delete, too late":   {func() error { return h.Delete(ctx, "t") }, context.Canceled},
			"erase reserved":     {func() error { return h.Erase(t.Context(), revocationsTopic, "1") }, ErrTopic},
			"erase no ID":        {func() error { return h.Erase(t.Context(), "t", "") }, ErrPosition},
			"erase a foreign ID": {func() error { return h.Erase(t.Context(), "t", "no-id") }, ErrPosition},
			"ping, too late":     {func() error { return h.Ping(ctx) }, context.Canceled},
			"info of nothing":    {func() error { _, err := h.Info(t.Context(), ""); return err }, ErrTopic},
		} {
			var e *Error
			if err := test.got(); !errors.Is(err, test.want) || !errors.As(err, &e) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := h.Ping(t.Context()); err != nil {
			t.Errorf("Ping: %v", err)
		}
		if h.IsID("no-id") || h.IsID("") || h.IsID("\n") || !h.IsID("1") {
			t.Error("IsID")
		}
	})
	walk(t, liveOnly, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		_, info := h.Info(t.Context(), "t")
		_, all := h.PublishAll(t.Context(), "t", make([]Message, 2))
		_, finish := h.Finish(t.Context(), "t", Message{})
		for name, err := range map[string]error{
			"delete": h.Delete(t.Context(), "t"), "erase": h.Erase(t.Context(), "t", "1"), "info": info,
			"publish several": all, "finish with a message": finish,
		} {
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !errors.Is(all, ErrRejected) || !errors.Is(finish, ErrRejected) {
			t.Error("the outcome is not said")
		}
		if ids, err := h.PublishAll(t.Context(), "t", make([]Message, 1)); err != nil || len(ids) != 1 {
			t.Errorf("one message: %v, %v", ids, err)
		}
	})
}

func TestPublishAll(t *testing.T) {
	walk(t, living, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		ids, err := h.PublishAll(t.Context(), "t", []Message{{Type: "a"}, {Type: "b"}, {Type: "c"}})
		if err != nil || fmt.Sprint(ids) != "[1 2 3]" {
			t.Errorf("%v, %v", ids, err)
		}
		r.want("1 2 3")
		if ids, err := h.PublishAll(t.Context(), "t", nil); err != nil || len(ids) != 0 {
			t.Errorf("no messages: %v, %v", ids, err)
		}
		for _, bad := range [][]Message{{{}, {Type: "gap"}}, {{Final: true}, {}}, {{}, {Data: []byte{0xff}}}} {
			if _, err := h.PublishAll(t.Context(), "t", bad); !errors.Is(err, ErrRejected) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		if s := h.Stats(); s.Published != 3 || s.Rejected != 3 {
			t.Errorf("stats %+v", s)
		}
		id, err := h.Finish(t.Context(), "t", Message{Type: "last"})
		if err != nil || id != "5" {
			t.Errorf("Finish: %v, %v", id, err)
		}
		r.want("4 5 end")
		if _, err := h.Finish(t.Context(), "", Message{}); !errors.Is(err, ErrTopic) || !errors.Is(err, ErrRejected) {
			t.Errorf("%v", err)
		}
	})
}
