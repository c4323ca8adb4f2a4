package main

import (
	"context"
	"sync"
)

// turns let those who want the same key have it one after the other. The zero value is ready, and
// its method may be called concurrently.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the turn is over
}

// take waits for the key, at most until ctx ends, and returns what ends the turn. It reports false
// when it has not got the key.
func (t *turns) take(ctx context.Context, key string) (end func(), ok bool) {
	for {
		t.mu.Lock()
		over := t.taken[key]
		if over == nil {
			over = make(chan struct{})
			if t.taken == nil {
				t.taken = make(map[string]chan struct{})
			}
			t.taken[key] = over
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.taken, key)
				t.mu.Unlock()
				close(over)
			}, true
		}
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, false
		}
	}
}
