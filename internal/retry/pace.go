// Package retry spaces what is tried again.
package retry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Pace spaces the tries of many callers while what they try fails, so that all of them together try
// once in a while and not each of them. Use it with Every set. Its methods may be called by several
// goroutines at once.
type Pace struct {
	// Every is the time from one try to the next.
	Every time.Duration
	// Least is how long each try waits at least. Default: the first one need not wait.
	Least time.Duration

	failing atomic.Bool
	mu      sync.Mutex
	next    time.Time     // no try begins before
	works   chan struct{} // closed when a try works; nil while nobody waits
}

// Failing reports whether the last try failed.
func (p *Pace) Failing() bool { return p.failing.Load() }

// Note says whether a try failed. It returns whether the one before had. When one works, all who
// wait for their turn may try.
func (p *Pace) Note(failed bool) (before bool) {
	before = p.failing.Swap(failed)
	if before && !failed {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.next = (time.Time{}); p.works != nil {
			close(p.works)
			p.works = nil
		}
	}
	return before
}

// Wait waits for a try's turn, or until ctx ends or a try works. It returns at once unless the last
// try failed.
func (p *Pace) Wait(ctx context.Context) {
	if !p.Failing() {
		return
	}
	p.mu.Lock()
	now := time.Now()
	turn := now.Add(p.Least)
	if p.next.After(turn) {
		turn = p.next
	}
	p.next = turn.Add(p.Every)
	if p.works == nil {
		p.works = make(chan struct{})
	}
	works := p.works
	p.mu.Unlock()
	if turn.After(now) {
		t := time.NewTimer(turn.Sub(now))
		defer t.Stop()
		select {
		case <-t.C:
		case <-works:
		case <-ctx.Done():
		}
	}
}

// Sleep waits for d, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
