package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestFirstReaderLeavesWhileFollowing: the topic is followed for whoever comes, not for whoever
// came first.
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
		r := reader{<-second, t, make(bell, 1)}
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
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		goOn := make(chan struct{})
		b.onFollow = func(context.Context, string, Sink) error {
			<-goOn // and no look at ctx
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := h.Subscribe(ctx, "t", Latest()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
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
