package ginsse

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// Context is what a route's guards and functions get: one request with its bound parameters.
// Guards, generators, Hello, and the functions that name topics get it on the goroutine of the
// request. Filter, Map and a Snapshot after a gap get it on other goroutines, as package sse/feed
// says, one call at a time for a stream. It is valid until the Gin handler returns; with
// Options.Detach that of Snapshot, Filter and Map is valid until the stream ends. Hand on Params
// and Context(), not the Context itself.
type Context[P any] struct {
	// Params are the bound parameters.
	Params P

	gin     *gin.Context
	ctx     context.Context // of the stream, for a generator, Hello and Snapshot; nil elsewhere
	expire  time.Time
	timeout time.Duration // for a lease
	begun   bool          // the stream has: what it ends by is settled
}

var errLeaseTimeout = errors.New("ginsse: the hub did not follow revocations in time")

// errLate is returned where a lease would end nothing.
var errLate = errors.New("ginsse: Lease is for guards, and for functions that name topics: the stream has begun without it")

// Context returns the context of the stream. That of a generator ends when the client leaves, the
// stream expires or is rotated, or the server shuts down; context.Cause says which, with the
// causes of package sse/feed. Those of Snapshot and Hello also end when the call takes too long
// (see Options.SnapshotTimeout), and that of a Snapshot after a gap ends with the call. Elsewhere
// it is the request's context, which ends when the client leaves or a lease is revoked.
func (c *Context[P]) Context() context.Context {
	if c.ctx == nil {
		return c.gin.Request.Context()
	}
	return c.ctx
}

// Request returns the HTTP request.
func (c *Context[P]) Request() *http.Request { return c.gin.Request }

// Gin returns the Gin context, for what middleware has set there. Gin uses it again for other
// requests once the handler has returned. So with Options.Detach Snapshot, Filter and Map, which
// may run later, get a copy, made when the stream begins, whose Writer cannot be used. The
// response must not be written to once the stream has begun, nor by Hello or Snapshot, which
// return an error to refuse.
func (c *Context[P]) Gin() *gin.Context { return c.gin }

// LastEventID returns the cursor that the client came with. It reports false when the client
// stated none. A generator decides itself what to do with it. It can be of any length and hold
// any bytes.
func (c *Context[P]) LastEventID() (cursor string, ok bool) { return sse.LastEventID(c.gin.Request) }

// Lease makes the stream end when one of keys is revoked, by hub.Hub.Revoke, in any process over
// the same backend. The client then comes back by itself, and the guards decide anew. It is for
// guards. Take the lease first, then check the right that it is for: a right that is taken away
// in between then ends the stream too.
//
// It blocks until the hub follows revocations, which the first lease of a process waits for, at
// most for Options.ConnectTimeout. Return its error from the guard: it tells the client to come
// back later. One that is hub.ErrKey is answered 500.
func (c *Context[P]) Lease(h *hub.Hub, keys ...string) error {
	if c.begun {
		return errLate
	}
	ctx, err := c.lease(h, keys)
	if errors.Is(err, hub.ErrKey) {
		return err
	}
	if err != nil {
		// What the backend said is for the log.
		return &statusError{code: http.StatusServiceUnavailable, err: err, text: "service unavailable"}
	}
	c.gin.Request = c.gin.Request.WithContext(ctx)
	return nil
}

// ExpireAt ends the stream at a time, when the client's right to it ends. The client comes back
// by itself, and the guards decide anew. It is for guards, before the stream begins; of several
// times the earliest counts.
func (c *Context[P]) ExpireAt(t time.Time) {
	if c.expire.IsZero() || t.Before(c.expire) {
		c.expire = t
	}
}

// lease takes a lease within the time that connecting may take. What it returns lives as long as
// the request.
func (c *Context[P]) lease(h *hub.Hub, keys []string) (context.Context, error) {
	life, end := context.WithCancelCause(c.gin.Request.Context())
	timeout := time.AfterFunc(c.timeout, func() { end(errLeaseTimeout) })
	ctx, err := h.Lease(life, keys...)
	if !timeout.Stop() && err == nil {
		err = errLeaseTimeout
	}
	if err != nil {
		end(err)
		return nil, err
	}
	return ctx, nil
}

// with returns a copy with a context of its own.
func (c *Context[P]) with(ctx context.Context) *Context[P] {
	own := *c
	own.ctx = ctx
	return &own
}

// settle returns a route's options with what guards have said, which is all that counts from now on.
func (c *Context[P]) settle(o Options) Options {
	c.begun = true
	if !c.expire.IsZero() && (o.ExpireAt.IsZero() || c.expire.Before(o.ExpireAt)) {
		o.ExpireAt = c.expire
	}
	return o
}
