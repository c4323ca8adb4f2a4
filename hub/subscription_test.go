package hub

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPositions(t *testing.T) {
	tests := []struct {
		at    Position
		start ID
		want  string
	}{
		{Position{}, "6", "7"},
		{Latest(), "6", "7"},
		{Earliest(), "", "3 4 5 6 7"},
		{After("2"), "2", "3 4 5 6 7"}, // retention passed 2, and 3 is still there
		{After("5"), "5", "6 7"},
		{After("6"), "6", "7"},
		{After("1"), "1", "ErrGap"},
		{After("9"), "9", "ErrGap"},
	}
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		b.trim("t", 3)
		subscribe(t, h, "t", Latest())
		b.add("t", 1) // only this one is in the window
		var readers []reader
		for _, test := range tests {
			r := subscribe(t, h, "t", test.at)
			if r.Start() != test.start {
				t.Errorf("%v: Start is %q, want %q", test.at, r.Start(), test.start)
			}
			if r.Topic() != "t" {
				t.Errorf("Topic is %q", r.Topic())
			}
			readers = append(readers, r)
		}
		b.add("t", 1)
		for i, test := range tests {
			if got := readers[i].now(); got != test.want {
				t.Errorf("%v: got %q, want %q", test.at, got, test.want)
			}
		}
	})
}

func TestPositionsWithoutReplay(t *testing.T) {
	walk(t, liveOnly, Options{Window: 3}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 2)
		first := subscribe(t, h, "t", Earliest())
		if first.Start() != "2" {
			t.Errorf("Start is %q", first.Start())
		}
		b.add("t", 5)
		tests := []struct {
			at          Position
			start       ID
			want, marks string
		}{
			{Latest(), "7", "8", "8"},
			{Earliest(), "4", "5 6 7 8", "5 6 7 8"},
			{After("4"), "4", "5 6 7 8", "5 6 7 8"},
			{After("6"), "6", "7 8", "7 8"},
			{After("3"), "3", "ErrGap", "gap 6 7 8"},
			{After("2"), "2", "ErrGap", "gap 6 7 8"},
		}
		var readers, marking []reader
		for _, test := range tests {
			r := subscribe(t, h, "t", test.at)
			if r.Start() != test.start {
				t.Errorf("%v: Start is %q, want %q", test.at, r.Start(), test.start)
			}
			readers = append(readers, r)
			marking = append(marking, subscribe(t, h, "t", test.at, MarkGaps()))
		}
		readers[1].want("5 6 7")
		readers[2].want("5 6 7")
		marking[1].want("5 6 7")
		marking[2].want("5 6 7")
		b.add("t", 1)
		for i, test := range tests {
			got, want := readers[i].now(), strings.TrimPrefix(test.want, "5 6 7 ")
			if got != want {
				t.Errorf("%v: got %q, want %q", test.at, got, want)
			}
			got, want = marking[i].now(), strings.TrimPrefix(test.marks, "5 6 7 ")
			if got != want {
				t.Errorf("%v, marking gaps: got %q, want %q", test.at, got, want)
			}
		}
		// first never read: it fell out of the window.
		first.want("ErrGap")
	})
}

func TestEmptyTopics(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		var readers []reader
		for _, at := range []Position{Latest(), Earliest(), After("0")} {
			r := subscribe(t, h, "t", at)
			if r.Start() != "0" {
				t.Errorf("%v: Start is %q", at, r.Start())
			}
			r.want("")
			readers = append(readers, r)
		}
		b.add("t", 2)
		for _, r := range readers {
			r.want("1 2")
		}
	})
}

func TestSubscribeAgainAfterStart(t *testing.T) {
	eachReplay(t, Options{Window: 2}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 3)
		for _, at := range []Position{Latest(), After("0"), After("2")} {
			r := subscribe(t, h, "t", at)
			b.add("t", 5)
			again := subscribe(t, h, "t", After(r.Start()))
			if got, want := again.now(), r.now(); got != want {
				t.Errorf("%v: again %q, at first %q", at, got, want)
			}
		}
	})
}

var badIDs = map[string]ID{
	"long":      ID(strings.Repeat("7", 10_000)),
	"too long":  ID(strings.Repeat("7", MaxID+1)),
	"binary":    "\xff\xfe\x00\x01",
	"NUL":       "7\x00",
	"a space":   " 7",
	"a newline": "7\n",
}

func TestMalformedIDsAreGaps(t *testing.T) {
	for name, id := range badIDs {
		t.Run(name, func(t *testing.T) {
			each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
				marks := subscribe(t, h, "t", After(id), MarkGaps())
				b.add("t", 2)
				ends := subscribe(t, h, "t", After(id))
				if ends.Start() != "" {
					t.Errorf("Start is %q", ends.Start())
				}
				ends.want("ErrGap")
				marks.want("gap 1 2")
				b.add("t", 1)
				marks.want("3")
				for _, call := range b.reads {
					if call.after == id {
						t.Error("the backend was asked for it")
					}
				}
			})
		})
	}
}

func TestMalformedIDOfAnEmptyTopicIsAGapAtOnce(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", After("\xff"), MarkGaps())
		r.want("gap")
		b.add("t", 1)
		r.want("1")
	})
}

func FuzzAfter(f *testing.F) {
	for _, id := range badIDs {
		f.Add(string(id))
	}
	f.Add("2")
	f.Add("")
	b := newFake(chained)
	b.add("t", 3)
	h, err := New(b, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, id string) {
		s, err := h.Subscribe(context.Background(), "t", After(ID(id)), MarkGaps())
		if id == "" {
			if !errors.Is(err, ErrPosition) {
				t.Errorf("error %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		known := slices.Contains([]string{"0", "1", "2", "3"}, id)
		for batch := s.Poll(nil, 10); batch.Status != Waiting; batch = s.Poll(nil, 10) {
			if batch.Status == Behind {
				if err := s.Fetch(context.Background()); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if batch.Gap == known {
				t.Errorf("gap %v", batch.Gap)
			}
		}
	})
}

func TestSubscribeErrors(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		for _, test := range []struct {
			topic string
			at    Position
			want  error
		}{
			{"", Latest(), ErrTopic},
			{"a\nb", Latest(), ErrTopic},
			{"_headrace/x", Latest(), ErrTopic},
			{"t", After(""), ErrPosition},
		} {
			_, err := h.Subscribe(t.Context(), test.topic, test.at)
			var e *Error
			if !errors.Is(err, test.want) || !errors.As(err, &e) || e.Op != "subscribe" || e.Topic != test.topic {
				t.Errorf("%q %v: error %v", test.topic, test.at, err)
			}
		}
		if b.follows != 0 {
			t.Error("the backend was asked to follow")
		}
	})
}

func TestSubscribeWithAnEndedContext(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onFollow = func(ctx context.Context, _ string, _ Sink) error {
			<-ctx.Done()
			return ctx.Err()
		}
		cause := errors.New("gone")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(cause)
		if _, err := h.Subscribe(ctx, "t", Latest()); !errors.Is(err, cause) {
			t.Errorf("error %v", err)
		}
	})
}

// TestFirstReaderLeavesWhileFollowing: the topic is followed for whoever comes, not for whoever came first.
func TestFirstReaderLeavesWhileFollowing(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		goOn := make(chan struct{})
		b.onFollow = func(ctx context.Context, _ string, _ Sink) error {
			select {
			case <-goOn:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		failed := make(chan error)
		go func() {
			_, err := h.Subscribe(ctx, "t", Latest())
			failed <- err
		}()
		synctest.Wait()
		second := make(chan *Subscription)
		go func() {
			s, err := h.Subscribe(context.Background(), "t", Latest())
			if err != nil {
				t.Error(err)
			}
			second <- s
		}()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Subscribe returned after %v", took)
		}
		close(goOn)
		r := reader{<-second, t}
		defer r.Close()
		b.add("t", 1)
		r.want("1")
		if b.follows != 1 {
			t.Errorf("%d Follows", b.follows)
		}
	})
}

func TestFollowFails(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		down := errors.New("down")
		b.onFollow = func(context.Context, string, Sink) error {
			time.Sleep(time.Second)
			return down
		}
		failed := make(chan error)
		for range 3 {
			go func() {
				_, err := h.Subscribe(context.Background(), "t", Latest())
				failed <- err
			}()
		}
		for range 3 {
			if err := <-failed; !errors.Is(err, down) {
				t.Errorf("error %v", err)
			}
		}
		if b.follows != 1 {
			t.Errorf("%d Follows", b.follows)
		}
		if s := h.Stats(); s.Topics != 0 || s.Subscriptions != 0 {
			t.Errorf("stats %+v", s)
		}
		b.script(func() { b.onFollow = nil })
		r := subscribe(t, h, "t", Latest())
		b.add("t", 1)
		r.want("1")
	})
}

func TestReadingTheTailFails(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		down := errors.New("down")
		b.onRead = func(context.Context, fakeRead, func() Page) (Page, error) { return Page{}, down }
		if _, err := h.Subscribe(context.Background(), "t", Latest()); !errors.Is(err, down) {
			t.Errorf("error %v", err)
		}
		if b.stops != 1 {
			t.Errorf("%d stops for one Follow", b.stops)
		}
		b.script(func() { b.onRead = nil })
		subscribe(t, h, "t", Latest()).want("")
	})
}

func TestFollowHangs(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onFollow = func(ctx context.Context, _ string, _ Sink) error {
			<-ctx.Done()
			return ctx.Err()
		}
		start := time.Now()
		if _, err := h.Subscribe(context.Background(), "t", Latest()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != followTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// TestLeavingWhileTheBackendHangs: whatever the backend does, who leaves is gone at once.
func TestLeavingWhileTheBackendHangs(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 500)
		behind := subscribe(t, h, "t", After("0"))
		healing := subscribe(t, h, "t", Latest())
		// Another topic's stop takes long, against the rules.
		b.onStop = func(topic string) {
			if topic == "slow" {
				time.Sleep(time.Minute)
			}
		}
		subscribe(t, h, "slow", Latest()).Close()
		time.Sleep(31 * time.Second)
		defer time.Sleep(time.Minute)
		b.script(func() {
			b.onRead = func(ctx context.Context, _ fakeRead, _ func() Page) (Page, error) { return Page{}, hang(ctx) }
			b.onFollow = func(ctx context.Context, _ string, _ Sink) error { return hang(ctx) }
		})
		b.restored("t", "")
		start := time.Now()
		immediately := func(what string) {
			t.Helper()
			synctest.Wait()
			if took := time.Since(start); took != 0 {
				t.Fatalf("%s took %v", what, took)
			}
		}

		done := make(chan error)
		read := func(s *Subscription) {
			var last error
			for _, err := range s.All() {
				last = err
			}
			done <- last
		}
		go read(behind.Subscription)
		go read(healing.Subscription)
		synctest.Wait()
		behind.Close()
		immediately("closing in a Read")
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
		healing.Close()
		immediately("closing while healing")
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}

		ctx, cancel := context.WithCancel(context.Background())
		for _, at := range []Position{Latest(), Earliest()} {
			for _, topic := range []string{"t", "u"} {
				go func() {
					s, err := h.Subscribe(ctx, topic, at)
					if err == nil {
						s.Close()
					}
					done <- err
				}()
			}
		}
		synctest.Wait()
		cancel()
		for range 4 {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		}
		immediately("Subscribe")
	})
}

func TestFinish(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		other := open(t, b, Options{})
		r := subscribe(t, h, "t", Latest())
		publish(t, h, "t", 2)
		id, err := h.Finish(t.Context(), "t")
		if err != nil || id != "3" {
			t.Fatalf("Finish: %q, %v", id, err)
		}
		var got []Message
		for m, err := range r.All() {
			if err != nil {
				t.Errorf("error %v", err)
			}
			got = append(got, m)
		}
		if len(got) != 3 || !got[2].Final || got[2].Type != "close" || got[1].Final {
			t.Errorf("got %+v", got)
		}
		for name, h := range map[string]*Hub{"the same hub": h, "another hub": other} {
			for _, at := range []Position{After("3"), Latest()} {
				s := subscribe(t, h, "t", at)
				if b := s.Poll(nil, 1); b.Status != Ended || b.Err != nil {
					t.Errorf("%s, %v: the first Poll is %+v", name, at, b)
				}
			}
			subscribe(t, h, "t", After("1")).want("2 3 end")
			subscribe(t, h, "t", Earliest()).want("1 2 3 end")
		}
	})
}

func TestFinishedTopicIsPublishedTo(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		early := subscribe(t, h, "t", Latest())
		publish(t, h, "t", 1)
		if _, err := h.Finish(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		publish(t, h, "t", 2)
		early.want("1 2 end")
		other := open(t, b, Options{})
		for _, h := range []*Hub{h, other} {
			subscribe(t, h, "t", After("2")).want("end")
			subscribe(t, h, "t", Latest()).want("")
			subscribe(t, h, "t", After("3")).want("4")
			subscribe(t, h, "t", After("0")).want("1 2 end")
		}
	})
}

func TestFinalLeavesTheWindow(t *testing.T) {
	eachReplay(t, Options{Window: 1}, func(t *testing.T, b *fake, h *Hub) {
		subscribe(t, h, "t", Latest())
		if _, err := h.Finish(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		publish(t, h, "t", 1)
		subscribe(t, h, "t", After("1")).want("end") // 1 is the base
		publish(t, h, "t", 1)
		subscribe(t, h, "t", After("1")).want("end") // 1 is out of the window
	})
}

func TestFinalInALostStretch(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.mute("t", true)
		publish(t, h, "t", 1)
		if _, err := h.Finish(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		b.restored("t", "")
		r.want("1 2 end")
		subscribe(t, h, "t", Latest()).want("end")
	})
}

func TestAllIsSingleUse(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		s := subscribe(t, h, "t", Latest())
		b.add("t", 3)
		for m := range s.All() {
			if m.ID == "2" {
				break
			}
		}
		if n := h.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are open after the loop", n)
		}
		n := 0
		for m, err := range s.All() {
			n++
			if m.ID != "" || !errors.Is(err, ErrClosed) {
				t.Errorf("again: %+v, %v", m, err)
			}
		}
		if n != 1 {
			t.Errorf("again: %d yields", n)
		}
		s.Close()
		s.Close()
	})
}

// yields runs over All and returns IDs, "gap" before marked ones, and the ending.
func yields(s *Subscription) string {
	var words []string
	for m, err := range s.All() {
		if err != nil {
			if m.ID != "" || m.Gap {
				words = append(words, "error with a message")
			}
			words = append(words, ending(err))
			continue
		}
		if m.Gap {
			words = append(words, "gap")
		}
		words = append(words, string(m.ID))
	}
	return strings.Join(words, " ")
}

func TestErrGapComesOnceAndLast(t *testing.T) {
	eachReplay(t, Options{Window: 2}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 10)
		b.pageMax = 2
		s := subscribe(t, h, "t", After("3"))
		n := 0
		var words []string
		for m, err := range s.All() {
			if n++; n == 2 {
				b.trim("t", 2) // retention overtakes the reader
			}
			if err != nil {
				words = append(words, ending(err))
				continue
			}
			words = append(words, string(m.ID))
		}
		if got := strings.Join(words, " "); got != "4 5 ErrGap" {
			t.Errorf("got %q", got)
		}
		if got := yields(s.Subscription); got != "ErrClosed" {
			t.Errorf("again: %q", got)
		}
	})
}

func TestMarkedGapOnAnEmptyTopicMarksTheNextMessage(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		s := subscribe(t, h, "t", After("unheard-of"), MarkGaps())
		got := make(chan string)
		go func() { got <- yields(s.Subscription) }()
		synctest.Wait()
		b.add("t", 2)
		synctest.Wait()
		s.Close()
		if got := <-got; got != "gap 1 2 ErrClosed" {
			t.Errorf("got %q", got)
		}
	})
}

func TestEndOfContextYieldsItsCause(t *testing.T) {
	for _, traits := range []Traits{chained, liveOnly} {
		walk(t, traits, Options{}, func(t *testing.T, b *fake, h *Hub) {
			cause := errors.New("token expired")
			ctx, cancel := context.WithCancelCause(context.Background())
			s, err := h.Subscribe(ctx, "t", Latest())
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan error)
			go func() {
				var last error
				for _, err := range s.All() {
					last = err
				}
				got <- last
			}()
			synctest.Wait()
			cancel(cause)
			if err := <-got; !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
			if err := s.Poll(nil, 1).Err; !errors.Is(err, cause) {
				t.Errorf("Poll says %v", err)
			}
			if n := h.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions", n)
			}
		})
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		r := subscribe(t, h, "t", After("0"))
		b.script(func() {
			b.onRead = func(context.Context, fakeRead, func() Page) (Page, error) { return Page{}, errors.New("down") }
		})
		if got := r.Poll(nil, 1); got.Status != Behind {
			t.Fatalf("Poll: %+v", got)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var e *Error
		if err := r.Fetch(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) {
			t.Errorf("Fetch: %v", err)
		}
		b.script(func() { b.onRead = nil })
		r.want("1 2 3 4 5")
	})
}

func TestPoll(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 3)
		r := subscribe(t, h, "t", After("0"))
		b.add("t", 5)
		entries := make([]*Entry, 0, 8)
		entries = append(entries, nil)
		if got := r.Poll(entries, 2); got.Status != Behind || got.At != "0" {
			t.Fatalf("Poll: %+v", got)
		}
		if err := r.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := r.Poll(entries, 2)
		if got.Status != Ready || len(got.Entries) != 3 || got.Entries[0] != nil || got.Entries[2].ID != "2" || got.At != "2" || got.Gap {
			t.Fatalf("Poll: %+v", got)
		}
		r.want("3 4 5 6 7 8")
		b.add("t", 2)
		if got := r.Poll(nil, 0); len(got.Entries) != 1 || got.At != "9" {
			t.Errorf("Poll with limit 0: %+v", got)
		}
		r.want("10")
		if got := r.Poll(nil, 1); got.Status != Waiting || got.Changed == nil || got.At != "10" {
			t.Errorf("Poll: %+v", got)
		}
		changed := r.Poll(nil, 1).Changed
		b.add("t", 1)
		<-changed
		r.want("11")
	})
}

func TestEntriesShareTheirWireForm(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		one, two := subscribe(t, h, "t", Latest()), subscribe(t, h, "t", Latest())
		b.add("t", 1)
		by, other := &countingEncoder{}, &countingEncoder{}
		a := one.Poll(nil, 1).Entries[0].Encoded(by)
		c := two.Poll(nil, 1).Entries[0].Encoded(by)
		if by.n != 1 || !bytes.Equal(a, c) || &a[0] != &c[0] {
			t.Errorf("encoded %d times", by.n)
		}
		e := h.topics["t"]
		_, entry := e.log.At(e.log.First())
		entry.Encoded(other)
		if entry.Encoded(by); by.n != 1 || other.n != 1 {
			t.Errorf("encoded %d and %d times", by.n, other.n)
		}
	})
}

type countingEncoder struct{ n int }

func (c *countingEncoder) Encode(m *Message) []byte {
	c.n++
	return []byte(m.ID)
}

func TestTwoHubsOnOneBackend(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		other := open(t, b, Options{})
		one, two := subscribe(t, h, "t", Latest()), subscribe(t, other, "t", Latest())
		publish(t, h, "t", 2)
		publish(t, other, "t", 2)
		one.want("1 2 3 4")
		two.want("1 2 3 4")
		subscribe(t, other, "t", After("2")).want("3 4")
		one.Close()
		time.Sleep(time.Minute) // this hub lets go of the topic
		publish(t, other, "t", 2)
		subscribe(t, h, "t", After("3")).want("4 5 6")
		two.want("5 6")
	})
}

func TestIdleRelease(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 3)
		r.Close()
		time.Sleep(30*time.Second - 1)
		synctest.Wait()
		if b.stops != 0 || h.Stats().Topics != 1 {
			t.Fatalf("%d stops before the delay ended", b.stops)
		}
		// Who comes back before finds the topic followed, and the window full.
		r = subscribe(t, h, "t", After("1"))
		time.Sleep(time.Minute)
		r.want("2 3")
		if b.follows != 1 || b.stops != 0 {
			t.Fatalf("%d Follows, %d stops", b.follows, b.stops)
		}
		r.Close()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if s := h.Stats(); b.stops != 1 || s.Topics != 0 || s.WindowBytes != 0 {
			t.Errorf("%d stops after the delay, stats %+v", b.stops, s)
		}
		r = subscribe(t, h, "t", Latest())
		b.add("t", 1)
		r.want("4")
		if b.follows != 2 {
			t.Errorf("%d Follows", b.follows)
		}
	})
}

func TestIdleReleaseOfATopicThatNobodyWaitedFor(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		goOn := make(chan struct{})
		b.onFollow = func(context.Context, string, Sink) error {
			<-goOn // and no look at ctx
			return nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := h.Subscribe(ctx, "t", Latest()); err == nil {
			t.Fatal("no error")
		}
		time.Sleep(time.Minute)
		if n := h.Stats().Topics; n != 0 {
			t.Errorf("%d topics", n)
		}
		close(goOn)
		synctest.Wait()
		if b.stops != 1 {
			t.Errorf("%d stops", b.stops)
		}
	})
}

// TestReaderComesBackAsTheIdleTimerFires: the timer could not be stopped any more.
func TestReaderComesBackAsTheIdleTimerFires(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		if h.forgetIdle(h.topics["t"]) {
			t.Error("a topic with a reader was forgotten")
		}
		b.add("t", 1)
		r.want("1")
	})
}

// TestAppendedDuringAReadThatLeadsElsewhere: the place that the reader is given will never be in the window, so only the wake-up of the message that came meanwhile
// makes it ask again.
func TestAppendedDuringAReadThatLeadsElsewhere(t *testing.T) {
	eachReplay(t, Options{CheckEvery: time.Hour}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", After("unheard-of"), MarkGaps())
		b.script(func() {
			b.onRead = func(_ context.Context, call fakeRead, page func() Page) (Page, error) {
				switch call.after {
				case "unheard-of":
					b.add("t", 1)
					return Page{Gap: true, Next: "elsewhere"}, nil
				case "elsewhere":
					p := b.page(fakeRead{call.topic, "0", call.limit})
					return p, nil
				}
				return page(), nil
			}
		})
		done := make(chan string)
		go func() { done <- yields(r.Subscription) }()
		synctest.Wait()
		r.Close()
		if got := <-done; got != "gap 1 ErrClosed" {
			t.Errorf("got %q", got)
		}
	})
}

func TestEvictedUnderAReader(t *testing.T) {
	eachReplay(t, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 2)
		if got := r.Poll(nil, 1); len(got.Entries) != 1 {
			t.Fatalf("Poll: %+v", got)
		}
		b.add("t", 600)
		b.script(func() { b.pageMax = 100 })
		r.want(upTo(2, 602))
		if n := b.pagesRead("t"); n != 6 {
			t.Errorf("%d pages were read", n)
		}
		b.add("t", 1)
		r.want("603")
		if n := b.pagesRead("t"); n != 6 {
			t.Errorf("%d pages were read: the reader is not in the window", n)
		}
	})
	walk(t, liveOnly, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
		marks, ends := subscribe(t, h, "t", Latest(), MarkGaps()), subscribe(t, h, "t", Latest())
		b.add("t", 2)
		marks.want("1 2")
		ends.want("1 2")
		b.add("t", 6)
		marks.want("gap 5 6 7 8")
		ends.want("ErrGap")
		b.add("t", 1)
		marks.want("9")
		// Exactly at the oldest there is no gap.
		b.add("t", 4)
		marks.want("10 11 12 13")
	})
}

// TestPageAheadOfTheLivePath: a reader gets from a page what the live path has not brought yet. It waits for it without asking again and again.
func TestPageAheadOfTheLivePath(t *testing.T) {
	eachReplay(t, Options{CheckEvery: time.Hour}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 2)
		r := subscribe(t, h, "t", After("0"))
		b.mute("t", true)
		b.add("t", 3)
		r.want("1 2 3 4 5")
		n := b.pagesRead("t")
		for range 10 {
			time.Sleep(time.Minute)
			r.want("")
		}
		if again := b.pagesRead("t"); n > 2 || again != n {
			t.Errorf("%d pages were read, %d after waiting", n, again)
		}
		b.deliver("t", "3", "4", "5")
		r.want("")
		b.mute("t", false)
		b.add("t", 1)
		r.want("6")
		if again := b.pagesRead("t"); again > n+1 {
			t.Errorf("%d pages were read, %d in the end", n, again)
		}
		if s := h.Stats(); s.ReaderGaps != 0 || s.Gaps != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestAppendedDuringAnEmptyRead: the message comes while the Read that does not see it is under way.
func TestAppendedDuringAnEmptyRead(t *testing.T) {
	eachReplay(t, Options{CheckEvery: time.Hour}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 2)
		r := subscribe(t, h, "t", After("1"))
		b.mute("t", true)
		b.add("t", 1)
		r.want("2 3") // ahead of the live path
		b.script(func() {
			b.onRead = func(_ context.Context, call fakeRead, page func() Page) (Page, error) {
				p := page()
				if call.after == "3" {
					b.mute("t", false)
					b.deliver("t", "3")
					b.add("t", 1)
				}
				return p, nil
			}
		})
		r.settled = nil // as if it came here with this position
		done := make(chan string)
		go func() { done <- yields(r.Subscription) }()
		synctest.Wait()
		r.Close()
		if got := <-done; got != "4 ErrClosed" {
			t.Errorf("got %q", got)
		}
	})
}
