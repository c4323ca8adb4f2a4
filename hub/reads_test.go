package hub

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

// TestReadersAtTheSamePlaceShareReads lets 5,000 readers resume at the same place, at once and
// one after the other within five seconds.
func TestReadersAtTheSamePlaceShareReads(t *testing.T) {
	testenv.Long(t)
	for name, apart := range map[string]time.Duration{"at once": 0, "staggered": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			eachReplay(t, Options{Window: 64}, func(t *testing.T, b *fake, h *Hub) {
				const readers, messages = 5000, 1000
				b.add("t", messages)
				b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
					time.Sleep(time.Millisecond)
					return page(), nil
				}
				var wg sync.WaitGroup
				var good atomic.Int64
				for i := range readers {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * apart)
						s, err := h.Subscribe(context.Background(), "t", After("100"))
						if err != nil {
							t.Error(err)
							return
						}
						defer s.Close()
						for n := 100; n < messages; {
							batch := s.Poll(nil, 64, 1<<20)
							if batch.Status == Behind {
								if err := s.Fetch(context.Background()); err != nil {
									t.Error(err)
									return
								}
							}
							for _, e := range batch.Entries {
								if n++; string(e.ID) != strconv.Itoa(n) {
									t.Errorf("got %q, want %d", e.ID, n)
									return
								}
							}
						}
						good.Add(1)
					})
				}
				wg.Wait()
				if n := good.Load(); n != readers {
					t.Errorf("%d readers got everything", n)
				}
				perPlace := make(map[ID]int)
				for _, r := range b.reads {
					if r.limit > 1 {
						perPlace[r.after]++
					}
				}
				if len(perPlace) < 4 {
					t.Errorf("pages read at %d places", len(perPlace))
				}
				for at, n := range perPlace {
					if n > 20 {
						t.Errorf("%d Reads after %s", n, at)
					}
				}
				if b.most > maxReads {
					t.Errorf("%d Reads at once", b.most)
				}
			})
		})
	}
}

func TestReadsUnderWayAreBounded(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
			time.Sleep(time.Second)
			return page(), nil
		}
		var wg sync.WaitGroup
		for i := range 2 * maxReads {
			wg.Go(func() {
				s, err := h.Subscribe(context.Background(), fmt.Sprint("t", i), Latest())
				if err != nil {
					t.Error(err)
					return
				}
				s.Close()
			})
		}
		wg.Wait()
		if b.most != maxReads {
			t.Errorf("%d Reads at once, want %d", b.most, maxReads)
		}
	})
}

// TestOneReaderLeavesASharedRead: the call goes on for the others.
func TestOneReaderLeavesASharedRead(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		one, two := subscribe(t, h, "t", After("0")), subscribe(t, h, "t", After("0"))
		for range maxReads {
			h.reads.slots <- struct{}{}
		}
		ctx, cancel := context.WithCancel(context.Background())
		failed := make(chan error)
		one.Poll(nil, 1, 1<<20)
		go func() { failed <- one.Fetch(ctx) }()
		synctest.Wait()
		time.AfterFunc(time.Millisecond, cancel)
		time.AfterFunc(time.Second, func() {
			for range maxReads {
				<-h.reads.slots
			}
		})
		got := make(chan string)
		go func() { got <- yields(two.Subscription) }()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		time.Sleep(2 * time.Second)
		two.Close()
		if got := <-got; got != "1 2 3 4 5 ErrClosed" {
			t.Errorf("got %q", got)
		}
		if n := b.pagesRead("t"); n != 1 {
			t.Errorf("%d Reads", n)
		}
	})
}

// TestReadBeginsAfterItWasAskedFor: who asks while an equal call is under way may not be given
// its empty page, which is older than the question.
func TestReadBeginsAfterItWasAskedFor(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		subscribe(t, h, "t", Latest())
		b.mute("t", true)
		goOn := make(chan struct{})
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				p := page()
				<-goOn
				return p, nil
			}
		})
		lengths := make(chan int)
		read := func() {
			p, err := h.reads.read(context.Background(), "t", "0", pageLimit)
			if err != nil {
				t.Error(err)
			}
			lengths <- len(p.entries)
		}
		go read()
		synctest.Wait()
		b.add("t", 1)
		go read()
		synctest.Wait()
		close(goOn)
		if one, two := <-lengths, <-lengths; one+two != 1 {
			t.Errorf("pages of %d and %d messages", one, two)
		}
	})
}

// TestFailingReadsArePaced: 100 topics heal while the backend fails.
func TestFailingReadsArePaced(t *testing.T) {
	for traits, topics := range map[Traits]int{chained: 1000, unchained: 100} {
		walkBoth(t, traits, Options{CheckEvery: time.Hour}, func(t *testing.T, b *fake, h *Hub) {
			name := func(i int) string { return fmt.Sprint("t", i) }
			var readers []reader
			for i := range topics {
				readers = append(readers, subscribe(t, h, name(i), Latest()))
			}
			b.script(func() {
				b.reads = nil
				b.onRead = func(_ context.Context, _ fakeRead, _ func() Page) (Page, error) {
					return Page{}, errors.New("down")
				}
			})
			for i := range topics {
				b.mute(name(i), true)
				b.add(name(i), 1)
				b.mute(name(i), false)
				b.restored(name(i), "")
				b.add(name(i), 2)
			}
			const seconds = 60
			before := 0
			for second := range seconds {
				time.Sleep(time.Second)
				b.mu.Lock()
				n := len(b.reads)
				b.mu.Unlock()
				// In the first second those are among them that began before any had failed.
				if n-before > 50 && second > 0 || n-before > maxReads+50 || second > 0 && n == before {
					t.Fatalf("%d Reads in second %d", n-before, second)
				}
				before = n
			}
			b.script(func() {
				// A real backend looks at its context.
				b.onRead = func(ctx context.Context, _ fakeRead, page func() Page) (Page, error) { return page(), ctx.Err() }
			})
			time.Sleep(2 * backoffMax)
			for _, r := range readers {
				r.want("1 2 3")
			}
			if s := h.Stats(); s.ReadErrors == 0 || s.Gaps+s.ReaderGaps != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// TestReadTimeoutIsOfTheCall: a call that waited long for its turn has its whole time.
func TestReadTimeoutIsOfTheCall(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onRead = func(ctx context.Context, _ fakeRead, page func() Page) (Page, error) {
			select {
			case <-time.After(readTimeout - time.Second):
				return page(), nil
			case <-ctx.Done():
				return Page{}, ctx.Err()
			}
		}
		var wg sync.WaitGroup
		for i := range 2 * maxReads {
			wg.Go(func() {
				if _, err := h.reads.read(context.Background(), fmt.Sprint("t", i), "0", pageLimit); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestHangingReadTimesOut(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onRead = func(ctx context.Context, _ fakeRead, _ func() Page) (Page, error) {
			<-ctx.Done()
			return Page{}, ctx.Err()
		}
		start := time.Now()
		_, err := h.reads.read(context.Background(), "t", "0", pageLimit)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != readTimeout {
			t.Errorf("error %v after %v", err, took)
		}
	})
}

func TestCachedPagesAreBounded(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		for i := range 40 {
			topic := fmt.Sprint("t", i)
			b.append(topic, Message{Data: make([]byte, 1<<20)})
			subscribe(t, h, topic, After("0")).want("1")
		}
		r := h.reads
		r.mu.Lock()
		if len(r.cache) == 0 || r.bytes == 0 || r.bytes > cachedBytes {
			t.Errorf("%d pages, %d bytes", len(r.cache), r.bytes)
		}
		r.mu.Unlock()
		time.Sleep(pageLife)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.cache) != 0 || r.bytes != 0 {
			t.Errorf("%d pages, %d bytes after a second", len(r.cache), r.bytes)
		}
	})
}

// TestEarliestIsNotOldNews: who starts again at the oldest message because retention overtook it
// is not given a page of a moment ago.
func TestEarliestIsNotOldNews(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 10)
		subscribe(t, h, "t", Earliest()).want(upTo(1, 10))
		b.trim("t", 3)
		subscribe(t, h, "t", Earliest()).want("8 9 10")
	})
}

// TestEmptyPagesAreShared: pages without messages are not kept, so only the call itself can be
// shared.
func TestEmptyPagesAreShared(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		for range maxReads {
			h.reads.slots <- struct{}{}
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if p, err := h.reads.read(context.Background(), "t", "0", pageLimit); err != nil || len(p.entries) != 0 {
					t.Errorf("%+v, %v", p, err)
				}
			})
		}
		synctest.Wait()
		for range maxReads {
			<-h.reads.slots
		}
		wg.Wait()
		if n := len(b.reads); n != 1 {
			t.Errorf("%d Reads", n)
		}
	})
}

// TestRunningReadIsShared: who comes while a Read is under way has its messages too, so that
// readers on a long way do not catch up with each other, and then all read.
func TestRunningReadIsShared(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
			p := page()
			time.Sleep(time.Second)
			return p, nil
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if p, err := h.reads.read(context.Background(), "t", "0", pageLimit); err != nil || len(p.entries) != 5 {
					t.Errorf("%+v, %v", p, err)
				}
			})
		}
		wg.Wait()
		if n := len(b.reads); n != 1 {
			t.Errorf("%d Reads", n)
		}
	})
}
