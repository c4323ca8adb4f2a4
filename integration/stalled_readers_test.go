package integration

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// TestStalledReaders: while some never read, the others get everything, and the server holds for
// each of them no more than what it was just writing. When they read at last, they are told what
// they have missed. BenchmarkStalledReader has what they cost the others in time.
func TestStalledReaders(t *testing.T) {
	testenv.Long(t)
	const (
		stalled  = 30
		size     = 16 << 10
		messages = 1500 // 24 MB, many times what is retained
		retained = 256 << 10
		// perReader is what a stalled reader may cost: a batch of 64 KiB with the message that
		// reaches it, the list of its frames, a goroutine and what one connection is.
		perReader = 128 << 10
		slack     = 2 << 20
	)
	o := feed.Options{Heartbeat: time.Hour, NoRotation: true, WriteTimeout: time.Hour}
	onEachWay(t, o, memory.Options{MaxBytes: retained}, hub.Options{WindowBytes: retained}, func(t *testing.T, l *lab) {
		before := l.holding(t)
		g := l.follow(t, 2)
		g.publish(t, 50, size) // what is retained is retained
		empty := heap()
		all := make([]*raw, stalled)
		names := make([]string, stalled)
		for i := range stalled {
			names[i] = fmt.Sprint("stalled-", i)
			var err error
			if all[i], err = openRaw(l.address(), "/clients/"+names[i], smallBuffer, 0); err != nil {
				t.Fatal(err)
			}
			g.publish(t, 10, size) // each is stuck at a place of its own, so that what they hold is not shared
		}
		var peak int64
		for range 3 {
			g.publish(t, messages/3, size)
			peak = max(peak, heap())
		}
		cost := peak - empty
		t.Logf("%d kB for %d stalled readers", cost>>10, stalled)
		if cost > stalled*perReader+slack {
			t.Errorf("the server holds %d kB for %d stalled readers", cost>>10, stalled)
		}
		for _, name := range names {
			if e := l.ends(name); len(e) > 0 {
				t.Errorf("%s: ended by %v", name, e[0].Cause)
			}
		}
		g.leave(t)
		inParallel(t, stalled, func(i int) error {
			defer all[i].Close()
			if err := readAgain(all[i].body); err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			return nil
		})
		l.settled(t, append(names, g.names...), before, feed.ErrClientGone, feed.ErrWriteFailed)
		// Pages of the backend are kept for a second, for readers that come to the same place.
		eventually(t, "what was held for them is let go", func() error {
			if held := heap() - empty; held > slack {
				return fmt.Errorf("%d kB", held>>10)
			}
			return nil
		})
	})
}

// readAgain reads what a stalled reader gets: messages in order, with a gap wherever some are
// missing, of which there is one at least, up to that with the number 0.
func readAgain(body io.Reader) error {
	d := sse.NewDecoder(body)
	for last, gap, gaps := 0, false, 0; ; gap = false {
		e, err := d.Decode()
		for ; err == nil && (e.Type == "gap" || e.Type == "checkpoint"); e, err = d.Decode() {
			if e.Type == "gap" {
				gap = true
				gaps++
			}
		}
		if err != nil {
			return fmt.Errorf("after message %d: %w", last, err)
		}
		_, n, err := numbered(e)
		switch {
		case err != nil:
			return err
		case n == 0 && gaps == 0:
			return errors.New("messages are gone, and no gap was said")
		case n == 0:
			return nil
		case last > 0 && n != last+1 && (!gap || n < last):
			return fmt.Errorf("message %d follows %d; gap: %v", n, last, gap)
		}
		last = n
	}
}
