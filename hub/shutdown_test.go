package hub

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestShutdown(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 500)
		b.onStop = func(string) {}
		waiting, polling := subscribe(t, h, "t", Latest()), subscribe(t, h, "t", Latest())
		idle := subscribe(t, h, "idle", Latest())
		idle.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := yields(waiting.Subscription); got != "ErrClosed" {
				t.Errorf("got %q", got)
			}
		})
		changed := polling.Poll(nil, 1, 1<<20).Changed
		synctest.Wait()
		select {
		case <-h.Closing():
			t.Error("Closing is closed")
		default:
		}

		done := make(chan error)
		go func() { done <- h.Shutdown(context.Background()) }()
		synctest.Wait()
		<-h.Closing()
		<-changed
		if got := polling.Poll(nil, 1, 1<<20); got.Status != Ended || !errors.Is(got.Err, ErrClosed) {
			t.Errorf("Poll: %+v", got)
		}
		wg.Wait()
		if _, err := h.Publish(t.Context(), "t", Message{}); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrRejected) {
			t.Errorf("Publish: %v", err)
		}
		if _, err := h.Finish(t.Context(), "t"); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrRejected) {
			t.Errorf("Finish: %v", err)
		}
		if _, err := h.Subscribe(t.Context(), "t", Latest()); !errors.Is(err, ErrClosed) {
			t.Errorf("Subscribe: %v", err)
		}
		time.Sleep(time.Minute)
		select {
		case err := <-done:
			t.Fatalf("Shutdown returned %v while a subscription was open", err)
		default:
		}
		polling.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if b.follows != b.stops {
			t.Errorf("%d Follows, %d stops", b.follows, b.stops)
		}
		if s := h.Stats(); s.Subscriptions != 0 || s.Topics != 0 || s.WindowBytes != 0 {
			t.Errorf("stats %+v", s)
		}
		if err := h.Shutdown(context.Background()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

func TestShutdownReportsWhatIsLeft(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		one, two := subscribe(t, h, "t", Latest()), subscribe(t, h, "u", Latest())
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		err := h.Shutdown(ctx)
		var e *Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Op != "shutdown" || !strings.Contains(err.Error(), "2 subscriptions") {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
		if b.stops != 2 {
			t.Errorf("%d stops", b.stops)
		}
		one.want("ErrClosed")
		one.Close()
		two.Close()
	})
}

func TestShutdownReportsCallsThatHang(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		goOn := make(chan struct{})
		subscribe(t, h, "t", Latest()).Close()
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				<-goOn
				return page(), nil
			}
		})
		b.restored("t", "")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "calls to the backend") {
			t.Errorf("Shutdown: %v", err)
		}
		close(goOn)
	})
}

func TestShutdownWhileTheBackendHangs(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		r, healing := subscribe(t, h, "t", After("0")), subscribe(t, h, "u", Latest())
		b.script(func() {
			b.onRead = func(ctx context.Context, _ fakeRead, _ func() Page) (Page, error) {
				<-ctx.Done()
				return Page{}, ctx.Err()
			}
			b.onFollow = func(ctx context.Context, _ string, _ Sink) error {
				<-ctx.Done()
				return ctx.Err()
			}
		})
		b.restored("u", "")
		var wg sync.WaitGroup
		for _, r := range []reader{r, healing} {
			wg.Go(func() {
				if got := yields(r.Subscription); got != "ErrClosed" {
					t.Errorf("got %q", got)
				}
			})
		}
		wg.Go(func() {
			if _, err := h.Subscribe(context.Background(), "v", Latest()); !errors.Is(err, ErrClosed) {
				t.Errorf("Subscribe: %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if err := h.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wg.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

// TestPollThatLookedBeforeShutdownBegan: a reader is between its look at the hub and its look at
// the log when Shutdown begins and wakes all.
func TestPollThatLookedBeforeShutdownBegan(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		go func() {
			if err := h.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if got := r.fromLog(nil, 1, 1<<20); got.Status != Ended || !errors.Is(got.Err, ErrClosed) {
			t.Errorf("Poll: %+v", got)
		}
	})
}

// TestShutdownAmongReaders runs on real threads, with readers that come and go.
func TestShutdownAmongReaders(t *testing.T) {
	for range 200 {
		b := newFake(chained)
		h, err := New(b, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					s, err := h.Subscribe(context.Background(), "t", Latest())
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					for _, err := range s.All() {
						if err != nil && !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						break
					}
				}
			})
		}
		for range 20 {
			publish(t, h, "t", 1)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := h.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		wg.Wait()
	}
}
