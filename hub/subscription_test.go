package hub

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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

func TestAllIsSingleUse(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		s := subscribe(t, h, "t", Latest())
		b.add("t", 3)
		for m, err := range s.All() {
			if err != nil || m.ID == "2" {
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
		walk(t, traits, Options{}, func(t *testing.T, _ *fake, h *Hub) {
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
			if err := s.Poll(nil, 1, 1<<20).Err; !errors.Is(err, cause) {
				t.Errorf("Poll says %v", err)
			}
			if n := h.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions", n)
			}
		})
	}
}

// deaf is a watcher that does nothing when it is woken.
type deaf struct{ _ byte }

func (*deaf) Wake() {}

// TestCloseBesideTheContext: of two that close at the same time the second one waits until the
// first has let go.
func TestCloseBesideTheContext(t *testing.T) {
	h, err := New(newFake(chained), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := h.Subscribe(ctx, "t", Latest())
	if err != nil {
		t.Fatal(err)
	}
	s.Watch(&deaf{}, &deaf{})
	s.f.mu.RLock() // holds up who closes
	cancel()
	for !s.closed.Load() {
		runtime.Gosched()
	}
	left := make(chan int, 1)
	go func() {
		s.Close()
		left <- h.Stats().Subscriptions
	}()
	for range 1000 {
		runtime.Gosched() // a Close that does not wait returns now
	}
	select {
	case n := <-left:
		t.Errorf("Close returned with %d subscriptions", n)
		left <- 0
	default:
	}
	s.f.mu.RUnlock()
	if n := <-left; n != 0 {
		t.Errorf("%d subscriptions", n)
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUntilClosed(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		s, err := h.Subscribe(ctx, "t", Latest(), UntilClosed())
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		publish(t, h, "t", 1)
		if b := s.Poll(nil, 9, 1<<20); b.Status != Ready || len(b.Entries) != 1 {
			t.Errorf("%+v", b)
		}
		s.Close()
		if n := h.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions", n)
		}
		// It must not be a matter of luck, where the topic is ready.
		for topic := range strings.SplitSeq("t t t t t t t t t t t t t t t t u", " ") {
			if _, err := h.Subscribe(ctx, topic, Latest(), UntilClosed()); !errors.Is(err, context.Canceled) {
				t.Fatalf("opened under a context that has ended: %v", err)
			}
		}
	})
}

func TestFetchEndsWithItsContext(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		r := subscribe(t, h, "t", After("0"))
		b.script(func() {
			b.onRead = func(context.Context, fakeRead, func() Page) (Page, error) { return Page{}, errors.New("down") }
		})
		if got := r.Poll(nil, 1, 1<<20); got.Status != Behind {
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
	walkByHand(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 3)
		r := subscribe(t, h, "t", After("0"))
		b.add("t", 5)
		entries := make([]*Entry, 0, 8)
		entries = append(entries, nil)
		if got := r.Poll(entries, 2, 1<<20); got.Status != Behind || got.At != "0" {
			t.Fatalf("Poll: %+v", got)
		}
		if err := r.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := r.Poll(entries, 2, 1<<20)
		if got.Status != Ready || len(got.Entries) != 3 || got.Entries[0] != nil || got.Entries[2].ID != "2" || got.At != "2" || got.Gap {
			t.Fatalf("Poll: %+v", got)
		}
		r.want("3 4 5 6 7 8")
		b.add("t", 2)
		if got := r.Poll(nil, 0, 1<<20); len(got.Entries) != 1 || got.At != "9" {
			t.Errorf("Poll with limit 0: %+v", got)
		}
		r.want("10")
		if got := r.Poll(nil, 1, 1<<20); got.Status != Waiting || got.Changed == nil || got.At != "10" {
			t.Errorf("Poll: %+v", got)
		}
		changed := r.Poll(nil, 1, 1<<20).Changed
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
		a := one.Poll(nil, 1, 1<<20).Entries[0].Encoded(by)
		c := two.Poll(nil, 1, 1<<20).Entries[0].Encoded(by)
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

// TestAppendedDuringAReadThatLeadsElsewhere: the place that the reader is given will never be in
// the window, so only the wake-up of the message that came meanwhile makes it ask again.
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
		if got := r.Poll(nil, 1, 1<<20); len(got.Entries) != 1 {
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

// TestPageAheadOfTheLivePath: a reader gets from a page what the live path has not brought yet.
// It waits for it without asking again and again.
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

// TestAppendedDuringAnEmptyRead: the message comes while the Read that does not see it is under
// way.
func TestAppendedDuringAnEmptyRead(t *testing.T) {
	walkByHand(t, Options{CheckEvery: time.Hour}, func(t *testing.T, b *fake, h *Hub) {
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
		r.quiet = never // as if it came here with this position
		done := make(chan string)
		go func() { done <- yields(r.Subscription) }()
		synctest.Wait()
		r.Close()
		if got := <-done; got != "4 ErrClosed" {
			t.Errorf("got %q", got)
		}
	})
}
