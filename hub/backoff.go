package hub

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is an exponential delay with jitter for one caller that retries. Its zero value is ready.
type backoff struct{ next time.Duration }

const (
	backoffMin = 50 * time.Millisecond
	// backoffMax is how late a caller may be when the backend is well again. What all of them
	// together ask of a backend that is not, other bounds see to; see retry.Pace.
	backoffMax = time.Second
)

// sleep waits for the next delay. It reports false when ctx ended, or one of the channels was
// closed, before.
func (b *backoff) sleep(ctx context.Context, stop, closing <-chan struct{}) bool {
	b.next = min(max(2*b.next, backoffMin), backoffMax)
	t := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	case <-closing:
		return false
	}
}
