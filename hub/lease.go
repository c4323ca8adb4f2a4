package hub

import (
	"context"
	"fmt"
	"sync"
)

const (
	// revocationsTopic carries the revocations of every process over the same backend.
	revocationsTopic = ReservedPrefix + "revocations"
	// revocationType is the type of its messages. Their data is the key.
	revocationType = "revoke"
	// maxKey is the greatest length of a lease's key in bytes.
	maxKey = 255
)

// Leased reports whether ctx is one that Lease returned, or is derived from one. Then a right
// depends on its end.
func Leased(ctx context.Context) bool {
	leased, _ := ctx.Value(leasedKey{}).(bool)
	return leased
}

type leasedKey struct{}

func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > maxKey:
		return fmt.Errorf("%w: it has %d bytes, %d are allowed", ErrKey, len(key), maxKey)
	case !validText(key, maxKey):
		return fmt.Errorf("%w: it must be UTF-8 without control characters", ErrKey)
	}
	return nil
}

// leases are what a hub keeps for leases.
type leases struct {
	hub *Hub

	mu      sync.Mutex   // outside of the topicSet's
	current *revocations // what new leases join; nil while there are none
}

// revocations is one subscription to revocationsTopic and the leases that it can end. It is let go
// with the last of them, and when it is not whole any more.
type revocations struct {
	ctx    context.Context // of the subscription
	cancel context.CancelFunc
	ready  chan struct{} // closed when the subscription has its position, or failed
	err    error         // why it failed; written before ready is closed

	// Guarded by leases.mu.
	users int // leases, and callers that wait for ready
	over  bool
	byKey map[string]map[*lease]struct{}
}

// lease is one lease that has not ended.
type lease struct {
	keys   []string
	cancel context.CancelCauseFunc
	stop   func() bool // what removes the lease when its context ends
	ended  bool        // guarded by leases.mu
}

// take takes a lease.
//
// Nothing is lost between a check and a revocation, because a lease is entered when the
// subscription has its position, and both is done when Lease returns. Whoever revokes has changed
// the state before. So, of a revocation R, a lease L and the check after it:
//
//   - R is appended before the position: then before L returned, and the check sees the state of
//     after the change.
//   - R is appended behind it and is taken from the log before L is entered: again before L
//     returned; the check sees it.
//   - R is taken from the log after L was entered, at whatever time it was appended: L ends.
//
// That is the same whether L opened the subscription or joined one, and R and L are in one of these
// orders because taking and entering need the same lock. If the log has lost R, the subscription
// ends with a gap, and L with it if it was entered. If not, L waits for another subscription, whose
// position is behind R.
func (l *leases) take(ctx context.Context, keys []string) (context.Context, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrKey)
	}
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, err
		}
	}
	var pause backoff
	for {
		if l.hub.isClosing() {
			return nil, ErrClosed
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r, err := l.join()
		if err != nil {
			return nil, err
		}
		select {
		case <-r.ready:
			err = r.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-l.hub.closing:
			err = ErrClosed
		}
		if err != nil {
			l.leave(r)
			return nil, err
		}
		if leased := l.enter(ctx, r, keys); leased != nil {
			return leased, nil
		}
		// The subscription ended between the two. With a backend that is not well this may go on
		// for a while.
		pause.sleep(ctx, nil, l.hub.closing)
	}
}

// join returns the subscription that new leases join, with one more user, and opens one if there is
// none.
//
// It is opened under a context of its own: of two callers that come at the same time, the first
// one's end must not fail the second.
func (l *leases) join() (*revocations, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.current
	if r == nil {
		r = &revocations{ready: make(chan struct{}), byKey: make(map[string]map[*lease]struct{})}
		r.ctx, r.cancel = context.WithCancel(l.hub.ctx)
		if !l.hub.spawn(func() { l.follow(r) }) {
			r.cancel()
			return nil, ErrClosed
		}
		l.current = r
	}
	r.users++
	return r, nil
}

// follow opens the subscription, ends leases as it says, and all of them when it may have missed
// something.
func (l *leases) follow(r *revocations) {
	defer r.cancel()
	sub, err := l.hub.subscribeAt(r.ctx, revocationsTopic, subscribeOptions{earlyGaps: true})
	if err != nil {
		r.err = err
		l.finish(r)
		close(r.ready)
		return
	}
	close(r.ready)
	for m, ended := range sub.All() {
		switch {
		case ended != nil:
			err = ended
		case m.Type == revocationType && !m.Binary:
			l.revoke(r, string(m.Data))
		}
	}
	if l.hub.isClosing() { // whatever it made the subscription end with
		l.finish(r)
		return
	}
	l.lose(r, sub.f, err)
}

// lose ends all leases of a subscription that is not whole any more. It also lets go of the topic:
// what is opened next knows where it begins, and is not told of this gap again.
func (l *leases) lose(r *revocations, f *followed, err error) {
	h := l.hub
	l.mu.Lock()
	if r.over {
		// The last lease is gone, and somebody else may be using the topic.
		l.mu.Unlock()
		return
	}
	// Before any other subscription can be opened, which would come to the same log.
	h.forget(f)
	l.finishLocked(r)
	var ended []*lease
	for _, holders := range r.byKey {
		for one := range holders {
			if l.remove(r, one) {
				ended = append(ended, one)
			}
		}
	}
	l.mu.Unlock()
	f.release()
	h.opts.Logger.Warn("headrace: revocations may have been missed, all leases end", "backend", h.traits.Name, "leases", len(ended), "err", err)
	end(ended)
}

// finish makes new leases open another subscription.
func (l *leases) finish(r *revocations) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finishLocked(r)
}

func (l *leases) finishLocked(r *revocations) {
	r.over = true
	if l.current == r {
		l.current = nil
	}
	r.cancel()
}

// leave takes a user away that has no lease. The last one lets go of the subscription.
func (l *leases) leave(r *revocations) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaveLocked(r)
}

func (l *leases) leaveLocked(r *revocations) {
	r.users--
	if r.users == 0 {
		l.finishLocked(r)
	}
}

// enter turns a user into a lease and returns its context, or nil when the subscription is over.
func (l *leases) enter(ctx context.Context, r *revocations, keys []string) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.over {
		return nil
	}
	leased, cancel := context.WithCancelCause(context.WithValue(ctx, leasedKey{}, true))
	one := &lease{keys: append([]string(nil), keys...), cancel: cancel}
	for _, key := range one.keys {
		if r.byKey[key] == nil {
			r.byKey[key] = make(map[*lease]struct{})
		}
		r.byKey[key][one] = struct{}{}
	}
	one.stop = context.AfterFunc(leased, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(r, one)
	})
	return leased
}

// remove takes a lease out. It reports false when that was done before. l.mu is held.
func (l *leases) remove(r *revocations, one *lease) bool {
	if one.ended {
		return false
	}
	one.ended = true
	for _, key := range one.keys {
		delete(r.byKey[key], one)
		if len(r.byKey[key]) == 0 {
			delete(r.byKey, key)
		}
	}
	l.leaveLocked(r)
	return true
}

// revoke ends the leases of a key.
func (l *leases) revoke(r *revocations, key string) {
	l.mu.Lock()
	ended := make([]*lease, 0, len(r.byKey[key]))
	for one := range r.byKey[key] {
		ended = append(ended, one)
	}
	for _, one := range ended {
		l.remove(r, one)
	}
	l.mu.Unlock()
	end(ended)
}

// end ends the contexts of leases that were taken out. No lock is held: what hangs on a context may
// come back to the hub.
func end(ended []*lease) {
	for _, one := range ended {
		one.stop()
		one.cancel(ErrRevoked)
	}
}
