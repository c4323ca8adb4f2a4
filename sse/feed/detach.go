package feed

import (
	"context"
	"net/http"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
)

// Detachable returns r with a context that ends as r's does, or, when Serve detaches the stream of this request, at the end of the stream instead. Whoever wants something to last as long as the
// stream, as a lease, derives it from that context and gives the request to Serve; others need it not. The handler calls release before it returns, after Serve. The context has the values of r's.
//
// A stream does not outlive a right that depends on the context of its request: when that has a deadline, or a lease was taken under it before, r is returned as it is, and Serve does not detach it.
//
//	r, release := feed.Detachable(r)
//	defer release()
//	ctx, err := h.Lease(r.Context(), "user/42")
//	…
//	err = feed.Serve(w, r.WithContext(ctx), f, feed.Options{Detach: true})
func Detachable(r *http.Request) (_ *http.Request, release func()) {
	request := r.Context()
	if _, ends := request.Deadline(); ends || hub.Leased(request) {
		return r, func() {}
	}
	ctx, end := context.WithCancelCause(context.WithoutCancel(request))
	l := &life{request: request, end: end}
	l.stop = context.AfterFunc(request, func() { end(context.Cause(request)) })
	l.ctx = context.WithValue(ctx, lifeKey{}, l)
	return r.WithContext(l.ctx), l.release
}

// life is what a stream's context ends by. Its methods are called by the handler's goroutine until detach was, and by the stream's last one then.
type life struct {
	ctx      context.Context
	request  context.Context // nil when detached
	end      context.CancelCauseFunc
	stop     func() bool // keeps the end of the request from being the end of the context
	detached bool
}

type lifeKey struct{}

// detachable makes the connection's stream one that may outlive its request, if it may.
func (c *connection) detachable() (release func()) {
	release = func() {}
	if c.life, _ = c.r.Context().Value(lifeKey{}).(*life); c.life == nil {
		c.r, release = Detachable(c.r)
		c.life, _ = c.r.Context().Value(lifeKey{}).(*life)
	}
	return release
}

// detach has the stream go on without the handler. At its end leave is called.
func (c *connection) detach(socket delivery.Socket, m *delivery.Machine, s *source, leave func()) error {
	if err := c.begin(socket); err != nil {
		return err
	}
	l, ctx, chunked := c.life, c.r.Context(), c.chunked()
	if ctx == l.ctx {
		ctx = context.WithoutCancel(ctx) // nobody can end it but the stream's own end, and a context that can be ended takes memory
	}
	l.stop()
	l.request, l.stop, l.detached = nil, nil, true
	c.w, c.r = nil, nil // the server uses the one again, and the other is large
	engine.Go(ctx, m, s, socket, chunked, func(r delivery.Result) {
		defer func() {
			if p := recover(); p != nil { // of OnEnd: nobody else could
				c.o.Logger.Error("headrace: OnEnd panicked", "topics", c.topics, "panic", delivery.Recovered(p))
			}
			s.close()
			leave()
			l.end(r.Cause)
		}()
		if r.Panicked != nil {
			c.o.Logger.Error("headrace: a function of a detached feed panicked", "topics", c.topics, "panic", r.Panicked)
		}
		c.ended(r)
	})
	return nil
}

// detached reports whether the stream goes on without the handler.
func (c *connection) detached() bool { return c.life != nil && c.life.detached }

// release is called when the handler is done.
func (l *life) release() {
	if !l.detached {
		l.stop()
		l.end(nil)
	}
}
