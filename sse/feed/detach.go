package feed

import (
	"context"
	"net/http"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/direct"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// Detachable returns a copy of r whose context follows r's until Serve detaches the stream, and
// then lasts until the stream ends. It has the values of r's. Take leases under it; otherwise you
// do not need it. Call release before the handler returns, after Serve.
//
// A stream does not outlive a right that depends on its request's context by a deadline, or by a
// lease that was taken before. Then r is returned as it is, and Serve does not detach the stream.
// A context that middleware ends by itself, with a session for example, cannot be told from the
// server's, and its end is lost to a detached stream. Derive such a context from Detachable's, or
// do not detach.
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
	l.unbind = context.AfterFunc(request, func() { end(context.Cause(request)) })
	l.ctx = context.WithValue(ctx, lifeKey{}, l)
	return r.WithContext(l.ctx), l.release
}

// life is a context that may outlive its request. Its methods are called by the handler's
// goroutine.
type life struct {
	ctx     context.Context
	request context.Context // nil when it is kept
	end     context.CancelCauseFunc
	// Keeps the end of the request from being the end of ctx; nil when it is kept.
	unbind func() bool
}

type lifeKey struct{}

// keep makes it last until end is called.
func (l *life) keep() {
	l.unbind()
	l.request, l.unbind = nil, nil
}

// release is called when the handler is done.
func (l *life) release() {
	if l.unbind != nil {
		l.unbind()
		l.end(nil)
	}
}

// detachable makes the connection's stream one that may outlive its request, if it may.
func (s *stream) detachable() {
	if _, ends := s.r.Context().Deadline(); ends {
		return // below Detachable
	}
	if s.life, _ = s.r.Context().Value(lifeKey{}).(*life); s.life == nil {
		s.r, s.release = Detachable(s.r)
		s.life, _ = s.r.Context().Value(lifeKey{}).(*life)
	}
}

// detach has the stream go on without the handler.
func (s *stream) detach(socket direct.Socket, config session.Config) error {
	s.begin()
	s.log("headrace: stream opened")
	l, ctx := s.life, s.r.Context()
	src, free, left, p := s.source, s.free, s.left, s.report // and not s, which holds the request
	src.feed.Hello = nil                                     // it may hold the request too
	end := func(error) {}
	switch {
	case ctx != l.ctx: // a lease, perhaps
		l.keep()
		end = l.end
	case src.feed.Snapshot != nil, src.Custom(): // they may use the context
		l.keep()
		end = l.end
		ctx = context.WithoutCancel(ctx) // nobody else ends it
	default:
		// Nobody needs it any more, and all that it is derived from would be held.
		ctx, src.ctx = context.Background(), context.Background()
	}
	s.detached = true
	engine.Go(ctx, config, src, socket, direct.ResponseTo(s.r, s.w.Header()), func(r session.Result) {
		defer func() {
			if v := recover(); v != nil { // of OnEnd: nobody else could
				p.logger.Error("headrace: OnEnd panicked", "topics", p.topics, "panic", session.Recovered(v))
			}
			src.close()
			free()
			left()
			end(r.Cause)
		}()
		if r.Panicked != nil {
			p.logger.Error("headrace: a function of a detached feed panicked", "topics", p.topics, "panic", r.Panicked)
		}
		p.ended(r)
	})
	return nil
}
