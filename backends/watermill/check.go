package watermill

import (
	"context"
	"fmt"
	"time"

	"github.com/headrace/headrace/hub"
)

const (
	checkProbes = 8
	checkWait   = 5 * time.Second
)

// check is a wait for a row of probes.
type check struct {
	missing map[uint64]bool
	last    uint64 // the highest number of the row
	came    int
	done    chan struct{} // closed when all have come
}

// see notes a probe that came back. The probes' mu is held.
func (c *check) see(number uint64) {
	if !c.missing[number] {
		return
	}
	delete(c.missing, number)
	c.came++
	if c.came == checkProbes {
		close(c.done)
	}
}

// verify sends a row of probes and waits for all of them. Of subscriptions that compete, each gets
// some: the chance that one gets them all is 1 in 256.
func verify(ctx context.Context, t *topic) error {
	c := &check{missing: make(map[uint64]bool), done: make(chan struct{})}
	t.probes.begin(c)
	defer t.probes.end(c)
	var row []*outgoing
	for range checkProbes {
		if o := t.sendProbe(c); o != nil {
			row = append(row, o)
		}
	}
	for _, o := range row {
		select {
		case <-o.done:
			if o.err != nil {
				return o.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.ctx.Done():
			return hub.ErrClosed
		}
	}
	timer := time.NewTimer(checkWait)
	defer timer.Stop()
	for before := 0; ; {
		select {
		case <-c.done:
			return nil
		case <-timer.C:
			answers, passed := t.probes.came(c)
			if answers == before || passed {
				return ErrCompeting
			}
			before = answers // slow, with probes of before in front of the row
			timer.Reset(checkWait)
		case <-ctx.Done():
			if t.probes.some(c) {
				return fmt.Errorf("%w: %w", context.Cause(ctx), ErrCompeting)
			}
			return context.Cause(ctx)
		case <-t.ctx.Done():
			return hub.ErrClosed
		}
	}
}
