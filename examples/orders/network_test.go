package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
)

// network stands between the browser and the application: it can break off all streams, and keep
// new ones waiting as if there were no way.
type network struct {
	mu       sync.Mutex
	whole    context.Context // of the streams that are open
	breakOff context.CancelFunc
	open     chan struct{} // closed while there is a way
	statuses []int         // of the answers to requests for streams
}

func newNetwork() *network {
	n := &network{open: make(chan struct{})}
	n.whole, n.breakOff = context.WithCancel(context.Background())
	close(n.open)
	return n
}

// cut breaks off all streams. There is no way for new ones until restore is called.
func (n *network) cut() (restore func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := make(chan struct{})
	n.open = open
	n.breakOff()
	n.whole, n.breakOff = context.WithCancel(context.Background())
	return sync.OnceFunc(func() { close(open) })
}

// answered returns how many requests for streams were answered with a status.
func (n *network) answered(status int) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.statuses {
		if s == status {
			count++
		}
	}
	return count
}

func (n *network) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			next.ServeHTTP(w, r)
			return
		}
		n.mu.Lock()
		whole, open := n.whole, n.open
		n.mu.Unlock()
		select {
		case <-open:
		case <-r.Context().Done():
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(whole, cancel)()
		next.ServeHTTP(&statusWriter{ResponseWriter: w, note: n.note}, r.WithContext(ctx))
		if whole.Err() != nil {
			panic(http.ErrAbortHandler) // as a cut cable does: without the end of the response
		}
	})
}

func (n *network) note(status int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.statuses = append(n.statuses, status)
}

// statusWriter tells the status of a response.
type statusWriter struct {
	http.ResponseWriter
	note func(int)
}

func (w *statusWriter) WriteHeader(code int) {
	w.note(code)
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
