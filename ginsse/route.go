package ginsse

import (
	"context"
	"errors"
	"iter"
	"reflect"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// Options are the settings of a route's streams; see feed.Options for each field and its default.
type Options = feed.Options

// Route is a Server-Sent Events route with parameters P, a struct, or struct{} for none. Each field of P is one parameter:
//
//	type Params struct {
//		Ticket int64         // :ticket, by name; letter case, "_" and "-" do not count
//		Team   string        `path:"team_name"`
//		Since  time.Duration `query:"since"`
//		Limit  *int          `query:"limit"`          // nil when absent
//		Labels []string      `query:"label"`          // each value
//		Tenant string        `header:"X-Tenant,required"`
//	}
//
// A parameter may be a Ref, a string, a number, a bool, a time.Duration, or anything that implements encoding.TextUnmarshaler; a query parameter or header may be a slice of
// these, or a pointer. One that is absent keeps its zero value, unless it is required; path parameters always are.
//
// A Route is built before the server starts, by one goroutine, and not changed after it is mounted. Mistakes show at Mount.
type Route[P any] struct {
	path      string
	use       []gin.HandlerFunc
	guards    []func(*Context[P]) error
	models    []Model
	preload   bool
	events    []string
	options   Options
	kinds     int // how often a topic or handler was given: exactly once is right
	hub       *hub.Hub
	template  *string
	topicFunc func(*Context[P]) (string, error)
	handle    func(*Context[P]) iter.Seq2[sse.Event, error]
}

// SSE begins a route for GET requests to a path, in Gin's notation.
func SSE[P any](path string) *Route[P] { return &Route[P]{path: path} }

// Use adds Gin middleware to the route. It runs after the group's, in the order given, before parameters are bound, also when
// a guard was added first.
func (r *Route[P]) Use(middleware ...gin.HandlerFunc) *Route[P] {
	r.use = append(r.use, middleware...)
	return r
}

// Guard adds guards. They run in the order given, once the parameters are bound and before the first byte; the first error is answered and ends the request.
// Return ErrUnauthorized, ErrForbidden, ErrNotFound or a Status; any other error is answered 500 without its text.
func (r *Route[P]) Guard(guards ...func(*Context[P]) error) *Route[P] {
	r.guards = append(r.guards, guards...)
	return r
}

// Models adds the models that the route's references load: one for each type of reference. Models that no parameter refers to are fine, so that
// routes can share a list.
func (r *Route[P]) Models(models ...Model) *Route[P] {
	r.models = append(r.models, models...)
	return r
}

// Preload makes the route load each of its references, in the order of the fields, once the guards have passed and before the stream begins, unless a guard has loaded it
// already. An error is answered like a guard's: 404 for ErrNotFound. Without Preload a reference that nobody gets is not loaded, and one that a generator gets comes too
// late for a status.
func (r *Route[P]) Preload() *Route[P] {
	r.preload = true
	return r
}

// Events declares the types of the route's events, for Describe. What is sent is not held against them.
func (r *Route[P]) Events(types ...string) *Route[P] {
	r.events = append(r.events, types...)
	return r
}

// Options sets the options of the route's streams.
func (r *Route[P]) Options(o Options) *Route[P] {
	r.options = o
	return r
}

// Topic makes the route a feed of the topic that a template names: "tickets/{ticket}". A name in braces is a parameter of the route, by its name in the path,
// the query or the header, and stands for its value, escaped as hub.JoinTopic does: no value can name another topic.
func (r *Route[P]) Topic(h *hub.Hub, template string) *Route[P] {
	r.kinds++
	r.hub, r.template = h, &template
	return r
}

// TopicFunc makes the route a feed of the topic that name returns. It runs after the guards, and its error is answered like a guard's.
// Values of a request belong into a name by hub.JoinTopic only.
func (r *Route[P]) TopicFunc(h *hub.Hub, name func(*Context[P]) (string, error)) *Route[P] {
	r.kinds++
	r.hub, r.topicFunc = h, name
	return r
}

// Handle makes the route a generator: the client is sent what the returned sequence yields, each event at once. yield reports false when
// the stream is over (context.Cause of the Context's context says why) and the sequence must return then; its deferred functions have run before the Gin
// handler returns. When the sequence ends the stream ends, and an EventSource comes back after the retry time.
//
// hub.ErrClosed, yielded as an error, ends the stream as a shutdown does: cleanly, with a time to come back. Any other error is logged, the client gets a
// stream-error event without the error's text, and the connection is broken off.
// A panic breaks the connection off too and goes on up the stack.
func (r *Route[P]) Handle(generator func(*Context[P]) iter.Seq2[sse.Event, error]) *Route[P] {
	r.kinds++
	r.handle = generator
	return r
}

// endpoint is a route that was checked, ready to serve.
type endpoint[P any] struct {
	Route[P]
	binder *binder
	name   func(c *Context[P]) (string, error)
}

// serve is the Gin handler of a route.
func (e *endpoint[P]) serve(g *gin.Context) {
	if g.Writer.Written() {
		return // by middleware that forgot to abort: a stream behind its answer would give away what it refused
	}
	c := &Context[P]{gin: g}
	if err := e.binder.bind(g, reflect.ValueOf(&c.Params).Elem()); err != nil {
		refuse(g, err)
		return
	}
	for _, guard := range e.guards {
		if err := guard(c); err != nil {
			refuse(g, err)
			return
		}
		if answered(g) {
			return
		}
	}
	if e.preload {
		if err := e.load(c); err != nil {
			refuse(g, err)
			return
		}
	}
	options := e.options
	if !c.expire.IsZero() && (options.ExpireAt.IsZero() || c.expire.Before(options.ExpireAt)) {
		options.ExpireAt = c.expire
	}
	if e.handle != nil {
		e.generate(c, options)
		return
	}
	topic, err := e.name(c)
	if err == nil && answered(g) {
		return
	}
	if err == nil {
		err = hub.CheckTopic(topic)
	}
	if err != nil {
		refuse(g, err)
		return
	}
	note(g, feed.Serve(g.Writer, g.Request, e.hub, topic, options))
}

// load loads the references that no guard has loaded.
func (e *endpoint[P]) load(c *Context[P]) error {
	v := reflect.ValueOf(&c.Params).Elem()
	for _, f := range e.binder.fields {
		if f.model == nil {
			continue
		}
		if err := f.model.get(c.Context(), v.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	return nil
}

// answered reports whether a guard, or the function that names a topic, has answered by itself.
func answered(g *gin.Context) bool { return g.IsAborted() || g.Writer.Written() }

// generate serves a route with a Handle.
func (e *endpoint[P]) generate(c *Context[P], options Options) {
	note(c.gin, feed.Generate(c.gin.Writer, c.gin.Request, func(ctx context.Context) iter.Seq2[sse.Event, error] {
		c.ctx = ctx
		return e.handle(c)
	}, options))
}

// note leaves the end of a stream that was not a clean one where middleware looks for errors.
func note(g *gin.Context, err error) {
	if err != nil && !errors.Is(err, feed.ErrClientGone) {
		_ = g.Error(err)
	}
}
