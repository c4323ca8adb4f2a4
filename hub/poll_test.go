package hub

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPollBytes: a batch ends with the entry that reaches the bytes asked for, from the window
// and from a page alike.
func TestPollBytes(t *testing.T) {
	for name, window := range map[string]int{"window": 100, "page": 1} {
		t.Run(name, func(t *testing.T) {
			walk(t, chained, Options{Window: window}, func(t *testing.T, b *fake, h *Hub) {
				r := subscribe(t, h, "t", Latest())
				for range 20 {
					b.append("t", Message{Data: []byte(strings.Repeat("x", 1000))})
				}
				synctest.Wait()
				got := 0
				for got < 20 {
					batch := r.Poll(nil, 100, 2500)
					if batch.Status == Behind {
						if err := r.Fetch(t.Context()); err != nil {
							t.Fatal(err)
						}
						continue
					}
					if n := len(batch.Entries); n != 3 && got+n != 20 {
						t.Fatalf("%d entries of 1,000 bytes for 2,500", n)
					}
					got += len(batch.Entries)
				}
			})
		})
	}
}

// TestShutdownDeliversTheWindow: what was appended before Shutdown began still reaches those who
// are in the window; what comes later does not, so that they come to an end.
func TestShutdownDeliversTheWindow(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		all, polling := subscribe(t, h, "t", Latest()), subscribe(t, h, "t", Latest())
		b.add("t", 3)
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(context.Background()) }()
		synctest.Wait()
		b.add("t", 2) // by another instance
		synctest.Wait()

		got := 0
		var end error
		for m, err := range all.All() {
			if end = err; err == nil {
				got++
				_ = m
			}
		}
		if got != 3 || !errors.Is(end, ErrClosed) {
			t.Errorf("All: %d messages, then %v; want 3, then ErrClosed", got, end)
		}
		if batch := polling.Poll(nil, 10, 1<<20); len(batch.Entries) != 3 {
			t.Errorf("Poll: %+v", batch)
		}
		if batch := polling.Poll(nil, 10, 1<<20); batch.Status != Ended || !errors.Is(batch.Err, ErrClosed) {
			t.Errorf("Poll behind the window: %+v", batch)
		}
		polling.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// TestStalledReaders (G7): of readers that stop in the middle of their pages only some keep the
// rest of it in memory, within keptBytes. The others read it again when they go on, and nobody
// loses anything.
func TestStalledReaders(t *testing.T) {
	walk(t, chained, Options{Window: 1}, func(t *testing.T, b *fake, h *Hub) {
		const readers, messages = 40, 200
		data := []byte(strings.Repeat("x", 4000)) // 1.6 MB a page, as it counts
		for range messages {
			b.append("t", Message{Data: data})
		}
		stalled := make([]reader, readers)
		for i := range stalled {
			// Each at a place of its own, so that no page is shared.
			stalled[i] = subscribe(t, h, "t", After(ID(strconv.Itoa(i+1))))
			if got := stalled[i].Poll(nil, 1, 1); got.Status != Behind {
				t.Fatalf("Poll: %+v", got)
			}
			if err := stalled[i].Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := stalled[i].Poll(nil, 10, 1<<20); len(got.Entries) != 10 {
				t.Fatalf("Poll: %+v", got)
			}
		}
		if n := h.keptBytes.Load(); n == 0 || n > keptBytes {
			t.Errorf("%d bytes are kept", n)
		}
		h.reads.forgetPages()
		runtime.GC()
		runtime.GC()
		kept := 0
		for i := range stalled {
			if stalled[i].page != nil || stalled[i].rest.Value() != nil {
				kept++
			}
		}
		if kept == 0 || kept > keptBytes/(messages-readers)/8000 {
			t.Errorf("%d readers have their pages still", kept)
		}
		for i := range stalled {
			stalled[i].want(upTo(i+12, messages))
			stalled[i].Close()
		}
		if n := h.keptBytes.Load(); n != 0 {
			t.Errorf("%d bytes are kept in the end", n)
		}
	})
}

// TestFetchIsTakenUp: a caller that waits for a slow Read in short pieces gets its page, by one
// Read.
func TestFetchIsTakenUp(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", After("of-another-life"))
		release := make(chan struct{})
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				<-release
				return page(), nil
			}
		})
		if got := r.Poll(nil, 1, 1); got.Status != Behind {
			t.Fatalf("Poll: %+v", got)
		}
		before := h.Stats().Reads
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := r.Fetch(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Fetch: %v", err)
			}
			cancel()
		}
		close(release)
		if err := r.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.Poll(nil, 1, 1); !errors.Is(got.Err, ErrGap) {
			t.Errorf("Poll: %+v", got)
		}
		if n := h.Stats().Reads - before; n != 1 {
			t.Errorf("%d Reads", n)
		}
	})
}

// TestFetchIsForgottenInTheWindow (G1): a reader breaks off a Fetch, the live path brings what it
// waited for, and it falls behind the window later. The page of the first Fetch is of a place
// that it has left.
func TestFetchIsForgottenInTheWindow(t *testing.T) {
	walk(t, chained, Options{Window: 5}, func(t *testing.T, b *fake, h *Hub) {
		subscribe(t, h, "t", Latest()) // follows the topic from before the first message
		b.mute("t", true)
		b.add("t", 3)
		r := subscribe(t, h, "t", After("3"))
		release := make(chan struct{})
		b.script(func() {
			b.onRead = func(_ context.Context, call fakeRead, page func() Page) (Page, error) {
				if call.after == "3" && call.limit == pageLimit {
					<-release
				}
				return page(), nil
			}
		})
		if got := r.Poll(nil, 10, 1<<20); got.Status != Behind {
			t.Fatalf("Poll: %+v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Fetch(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Fetch: %v", err)
		}
		b.mute("t", false)
		b.deliver("t", "1", "2", "3")
		b.add("t", 1)
		synctest.Wait()
		if got := r.Poll(nil, 10, 1<<20); len(got.Entries) != 1 || got.At != "4" {
			t.Fatalf("Poll: %+v", got)
		}
		b.add("t", 20)
		close(release)
		synctest.Wait()
		r.want(upTo(5, 24))
	})
}
