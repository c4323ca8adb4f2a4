package redisstream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// line is a batcher over a send that the test controls.
type line struct {
	*batcher
	wg      sync.WaitGroup
	mu      sync.Mutex
	batches [][]*job
	hold    chan struct{} // send waits for it
	err     error
}

func newLine(ctx context.Context) *line {
	l := &line{hold: make(chan struct{})}
	l.batcher = newBatcher(ctx, func(f func()) bool { l.wg.Go(f); return true })
	l.batcher.send = l.send
	return l
}

func (l *line) send(jobs []*job) {
	l.mu.Lock()
	l.batches = append(l.batches, append([]*job(nil), jobs...))
	l.mu.Unlock()
	<-l.hold
	for _, j := range jobs {
		j.cmd.SetErr(l.err)
	}
}

func (l *line) sizes() (ns []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.batches {
		ns = append(ns, len(b))
	}
	return ns
}

func testJob(size int) *job {
	return newJob(size, func(bool) redis.Cmder { return redis.NewCmd(context.Background(), "ping") })
}

func TestBatches(t *testing.T) {
	for _, test := range []struct {
		name  string
		size  int
		count int
		want  []int // sizes of the batches, the first of which go while the line is free
	}{
		{"a lone job goes at once", 100, 1, []int{1}},
		{"what comes meanwhile goes together", 100, 12, []int{1, 1, 10}},
		{"no more than so many commands", 100, 2 + 300, []int{1, 1, 128, 128, 44}},
		{"no more than so many bytes", 100 << 10, 2 + 5, []int{1, 1, 2, 2, 1}},
		{"a job that is too large goes alone", 1 << 20, 2 + 2, []int{1, 1, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLine(t.Context())
				var wg sync.WaitGroup
				for range test.count {
					wg.Go(func() {
						if maybe, err := l.do(t.Context(), testJob(test.size)); !maybe || err != nil {
							t.Errorf("do: %v, %v", maybe, err)
						}
					})
					synctest.Wait()
				}
				if got := len(l.sizes()); got != min(test.count, batchesAtOnce) {
					t.Errorf("%d batches are under way", got)
				}
				// One after the other, so that the order of the batches is known.
				for range test.want {
					l.hold <- struct{}{}
					synctest.Wait()
				}
				wg.Wait()
				l.wg.Wait()
				got := l.sizes()
				if len(got) != len(test.want) {
					t.Fatalf("batches of %v, want %v", got, test.want)
				}
				for i := range got {
					if got[i] != test.want[i] {
						t.Fatalf("batches of %v, want %v", got, test.want)
					}
				}
			})
		})
	}
}

// TestBatchesOfReplies: where the size of a job is that of its reply, a batch has what the link
// carries soon.
func TestBatchesOfReplies(t *testing.T) {
	for _, test := range []struct{ budget, want int }{{0, 10}, {hub.PageBytes, 10}, {firstBudget - 1, 2}, {leastBudget, 1}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLine(t.Context())
			l.replies = true
			l.link.bytes.Store(int64(test.budget))
			var wg sync.WaitGroup
			for range 2 + 20 {
				wg.Go(func() { _, _ = l.do(t.Context(), testJob(hub.PageBytes/10)) })
				synctest.Wait()
			}
			close(l.hold)
			wg.Wait()
			l.wg.Wait()
			if got := l.sizes()[2]; got != test.want {
				t.Errorf("with a budget of %d: %d jobs in a batch, want %d", test.budget, got, test.want)
			}
		})
	}
}

func TestBatchOutlivesCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		type outcome struct {
			maybe bool
			err   error
		}
		do := func(ctx context.Context) <-chan outcome {
			c := make(chan outcome, 1)
			go func() {
				maybe, err := l.do(ctx, testJob(1))
				c <- outcome{maybe, err}
			}()
			synctest.Wait()
			return c
		}
		sent, other := do(ctx), do(t.Context())
		queued, behind := do(ctx), do(t.Context())
		cancel()
		if o := <-sent; !o.maybe || !errors.Is(o.err, context.Canceled) {
			t.Errorf("a caller whose command was under way: %+v", o)
		}
		if o := <-queued; o.maybe || !errors.Is(o.err, context.Canceled) {
			t.Errorf("a caller whose command was queued: %+v", o)
		}
		close(l.hold)
		if o := <-other; o.err != nil {
			t.Errorf("a caller beside: %+v", o)
		}
		if o := <-behind; o.err != nil {
			t.Errorf("a caller behind: %+v", o)
		}
		l.wg.Wait()
		n := 0
		for _, size := range l.sizes() {
			n += size
		}
		if n != 3 {
			t.Errorf("%d commands were sent, want 3: the one that was taken back is not", n)
		}
	})
}

func TestBatchesAreSpacedWhileFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t.Context())
		l.err = errors.New("network")
		close(l.hold)
		for range 3 {
			_, _ = l.do(t.Context(), testJob(1))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*failingPace)
		defer cancel()
		var wg sync.WaitGroup
		before := len(l.sizes())
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					_, _ = l.do(ctx, testJob(1))
				}
			})
		}
		wg.Wait()
		if n := len(l.sizes()) - before; n > 13 {
			t.Errorf("%d batches in the time of 10", n)
		}
		l.wg.Wait()
	})
}

func TestBatcherOfClosedBackend(t *testing.T) {
	l := newLine(t.Context())
	close(l.hold)
	l.err = redis.ErrClosed
	l.spawn = func(func()) bool { return false }
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			j := testJob(1)
			if _, err := l.do(t.Context(), j); err != nil || j.cmd.Err() != redis.ErrClosed {
				t.Errorf("%v, %v", err, j.cmd.Err())
			}
		})
	}
	wg.Wait()
}

// TestBrokenOffAlone: who cannot wait for his call says nothing about the node, and callers who
// break off one after the other do not go on alone.
func TestBrokenOffAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t.Context())
		close(l.hold)
		alone := 0
		l.sendAlone = func(ctx context.Context, j *job) {
			alone++
			<-ctx.Done()
			j.cmd.SetErr(errors.New("connection closed"))
		}
		do := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := l.do(ctx, testJob(1)); err != nil {
				t.Errorf("do: %v", err)
			}
		}
		began := time.Now()
		do()
		do()
		if l.pace.Failing() || alone != 1 || time.Since(began) != time.Millisecond {
			t.Errorf("%d calls alone in %v; failing: %v", alone, time.Since(began), l.pace.Failing())
		}
		time.Sleep(failingPace)
		do()
		if alone != 2 {
			t.Errorf("%d calls alone, want 2", alone)
		}
		l.wg.Wait()
	})
}
