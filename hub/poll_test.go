package hub

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// TestPollBytes: a batch ends with the entry that reaches the bytes asked for, from the window and from a page alike.
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

// TestShutdownDeliversTheWindow: what was appended before Shutdown began still reaches those who are in the window; what comes later does not, so that they come to an end.
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

// TestStalledReaderKeepsNoPage (G7): a reader that stops in the middle of a page does not keep the rest of it in memory, and reads it again when it goes on.
func TestStalledReaderKeepsNoPage(t *testing.T) {
	walk(t, chained, Options{Window: 1}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 100)
		synctest.Wait()
		if err := r.Fetch(t.Context()); err == nil && r.page == nil {
			if got := r.Poll(nil, 1, 1); got.Status != Behind {
				t.Fatalf("Poll: %+v", got)
			}
			if err := r.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.Poll(nil, 10, 1<<20); len(got.Entries) != 10 || r.rest.Value() == nil {
			t.Fatalf("Poll: %+v", got)
		}
		h.reads.forgetPages()
		runtime.GC()
		runtime.GC()
		if r.rest.Value() != nil {
			t.Fatal("the rest of the page is still there")
		}
		r.want(upTo(11, 100))
	})
}
