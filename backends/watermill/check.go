package watermill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/headrace/headrace/hub"
)

const (
	checkProbes = 8
	checkWait   = 5 * time.Second
)

// see notes a probe that came back. The topic's mu is held.
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

// verify sends a row of probes and waits for all of them. Of subscriptions that compete, each gets some: the chance that one gets them all is 1 in 256.
func (t *topic) verify(ctx context.Context) error {
	c := &check{missing: make(map[uint64]bool), done: make(chan struct{})}
	t.mu.Lock()
	t.checks = append(t.checks, c)
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.checks = slices.DeleteFunc(t.checks, func(other *check) bool { return other == c })
	}()
	var row []*outgoing
	for range checkProbes {
		if o, _ := t.sendProbe(c); o != nil {
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
			t.mu.Lock()
			answers, passed := t.answers, t.highest > c.last
			t.mu.Unlock()
			if answers == before || passed {
				return ErrCompeting
			}
			before = answers // slow, with probes of before in front of the row
			timer.Reset(checkWait)
		case <-ctx.Done():
			if t.came(c) > 0 {
				return fmt.Errorf("%w: %w", context.Cause(ctx), ErrCompeting)
			}
			return context.Cause(ctx)
		case <-t.ctx.Done():
			return hub.ErrClosed
		}
	}
}

func (t *topic) came(c *check) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return c.came
}
