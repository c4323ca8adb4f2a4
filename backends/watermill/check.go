package watermill

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	checkProbes = 8
	checkWait   = 5 * time.Second
)

// see notes a probe that came back. The topic's mu is held.
func (c *check) see(number uint64) {
	if number < c.from || number > c.to || c.seen[number] {
		return
	}
	c.seen[number] = true
	if uint64(len(c.seen)) == c.to-c.from+1 {
		close(c.done)
	}
}

// verify sends a row of probes and waits for all of them. Of subscriptions that compete, each gets some: the chance that one gets them all is 1 in 256.
func (t *topic) verify(ctx context.Context) error {
	t.mu.Lock()
	c := &check{from: t.sent + 1, to: t.sent + checkProbes, seen: make(map[uint64]bool), done: make(chan struct{})}
	t.checks = append(t.checks, c)
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.checks = slices.DeleteFunc(t.checks, func(other *check) bool { return other == c })
	}()
	var row []*outgoing
	for range checkProbes {
		if o, _ := t.sendProbe(); o != nil {
			row = append(row, o)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, o := range row {
		select {
		case <-o.done:
			if o.err != nil {
				return o.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	timer := time.NewTimer(checkWait)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return ErrCompeting
	case <-ctx.Done():
		t.mu.Lock()
		came := len(c.seen)
		t.mu.Unlock()
		if came > 0 {
			return fmt.Errorf("%w: %w", context.Cause(ctx), ErrCompeting)
		}
		return context.Cause(ctx)
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}
