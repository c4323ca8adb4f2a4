package ginsse

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// Options are the settings of a route's streams; see feed.Options for each field and its default.
type Options = feed.Options

// CORS lets pages of other origins follow a route; see feed.CORS for each field and its default.
type CORS = feed.CORS

// Route is a Server-Sent Events route with parameters P, a struct, or struct{} for none. Each
// field of P is one parameter:
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
// A parameter may be a Ref, a string, a number, a bool, a time.Duration, or anything that
// implements encoding.TextUnmarshaler; a query parameter or header may be a slice of these, or a
// pointer. One that is absent keeps its zero value, unless it is required; path parameters always
// are.
//
// A Route is built before the server starts, by one goroutine, and not changed after it is
// mounted. Mistakes show at Mount.
type Route[P any] struct {
	path      string
	use       []gin.HandlerFunc
	guards    []func(*Context[P]) error
	models    []Model
	preload   bool
	events    []string
	options   Options
	kinds     int // how often topics or a handler were given: exactly once is right
	hub       *hub.Hub
	templates []string
	topics    func(*Context[P]) ([]string, error)
	hello     func(*Context[P]) (sse.Event, error)
	snapshot  func(*Context[P]) (any, error)
	filter    func(*Context[P], string, *hub.Message) bool
	mapping   func(*Context[P], string, *hub.Message) []sse.Event
	handle    func(*Context[P]) iter.Seq2[sse.Event, error]
	cors      *CORS
}

// SSE begins a route for GET, and HEAD, requests to a path, in Gin's notation.
func SSE[P any](path string) *Route[P] { return &Route[P]{path: path} }

// Use adds Gin middleware to the route. It runs after the group's, in the order given, before
// parameters are bound, also when a guard was added first.
func (r *Route[P]) Use(middleware ...gin.HandlerFunc) *Route[P] {
	r.use = append(r.use, middleware...)
	return r
}

// Guard adds guards. They run in the order given, once the parameters are bound and before the
// first byte; the first error is answered and ends the request. Return ErrUnauthorized,
// ErrForbidden, ErrNotFound or a Status; any other error is answered 500 without its text.
func (r *Route[P]) Guard(guards ...func(*Context[P]) error) *Route[P] {
	r.guards = append(r.guards, guards...)
	return r
}

// Models adds the models that the route's references load: one for each type of reference. Models
// that no parameter refers to are fine, so that routes can share a list.
func (r *Route[P]) Models(models ...Model) *Route[P] {
	r.models = append(r.models, models...)
	return r
}

// Preload makes the route load each of its references, in the order of the fields, once the
// guards have passed and before the stream begins, unless a guard has loaded it already. An error
// is answered like a guard's: 404 for ErrNotFound. Without Preload a reference that nobody gets
// is not loaded, and one that a generator gets comes too late for a status.
func (r *Route[P]) Preload() *Route[P] {
	r.preload = true
	return r
}

// Events declares the types of the route's events, for Describe. What is sent is not held against
// them.
func (r *Route[P]) Events(types ...string) *Route[P] {
	r.events = append(r.events, types...)
	return r
}

// Options sets the options of the route's streams.
func (r *Route[P]) Options(o Options) *Route[P] {
	r.options = o
	return r
}

// CORS lets pages of other origins follow the route. It also mounts a route for OPTIONS beside
// it, which fetch with a cursor needs. It runs before what Use adds, so that pages can read
// refusals too. Middleware of a group runs before it: middleware that refuses requests without
// credentials must let OPTIONS pass.
func (r *Route[P]) CORS(c CORS) *Route[P] {
	c.Origins, c.Headers = slices.Clone(c.Origins), slices.Clone(c.Headers)
	r.cors = &c
	return r
}

// Topic makes the route a feed of the topic that a template names: "tickets/{ticket}". A name in
// braces is a parameter of the route, by its name in the path, the query or the header. It stands
// for the parameter's value, escaped as hub.JoinTopic does: no value can name another topic.
func (r *Route[P]) Topic(h *hub.Hub, template string) *Route[P] { return r.Topics(h, template) }

// Topics makes the route a feed of several topics on one stream, each named by a template as for
// Topic. Each has its own order; see feed.Feed.
func (r *Route[P]) Topics(h *hub.Hub, templates ...string) *Route[P] {
	r.kinds++
	r.hub, r.templates = h, append([]string{}, templates...)
	return r
}

// TopicFunc makes the route a feed of the topic that name returns. name runs after the guards,
// and its error is answered like a guard's. Put values of a request into a name with
// hub.JoinTopic only.
func (r *Route[P]) TopicFunc(h *hub.Hub, name func(*Context[P]) (string, error)) *Route[P] {
	if name == nil {
		return r.TopicsFunc(h, nil)
	}
	return r.TopicsFunc(h, func(c *Context[P]) ([]string, error) {
		topic, err := name(c)
		return []string{topic}, err
	})
}

// TopicsFunc makes the route a feed of the topics that names returns, as TopicFunc does for one.
// It may return others at the client's next connection. At most feed.MaxTopics are served.
func (r *Route[P]) TopicsFunc(h *hub.Hub, names func(*Context[P]) ([]string, error)) *Route[P] {
	r.kinds++
	r.hub, r.topics = h, names
	return r
}

// Hello makes an event that each connection of a feed begins with; see feed.Feed. It runs after
// the guards. An error with a status below 500 is answered with it; any other asks the client to
// come back later.
func (r *Route[P]) Hello(hello func(*Context[P]) (sse.Event, error)) *Route[P] {
	r.hello = hello
	return r
}

// Snapshot gives a feed the state that its messages change. The client gets the state first, with
// the cursor that it belongs to, and then the changes, with nothing lost in between. After a gap
// it gets the state again (a snapshot reload). The same URL answers a client that asks for
// application/json with the state and, in the header Last-Event-ID, the cursor that a stream goes
// on from. See feed.Feed.
//
// It runs after the guards. Before the first byte, ErrNotFound, and any error with a status below
// 500, is answered with its status and that one's standard text, and any other error asks the
// client to come back later. After a gap in a stream that has begun, it runs on a goroutine of
// its own, and any error aborts the stream. It has a Context of its own, whose references load
// anew: what a guard has loaded may lack a change that is not among the messages either.
func (r *Route[P]) Snapshot(load func(*Context[P]) (any, error)) *Route[P] {
	r.snapshot = load
	return r
}

// Filter reports, for each message of a feed, whether this client gets it. It must be quick, and
// must not modify the message. It runs on a goroutine that may write to other connections too; a
// slow call holds up its own stream only. It may take what it needs from Params; with
// Options.Detach its Context holds a copy of the gin.Context, because it may run when the handler
// has returned. A panic aborts the stream. See feed.Feed.
func (r *Route[P]) Filter(keep func(c *Context[P], topic string, m *hub.Message) bool) *Route[P] {
	r.filter = keep
	return r
}

// Map makes the events of each message of a feed for this client, after Filter. It must be quick,
// and must not modify the message; it runs where Filter does. See feed.Feed.
func (r *Route[P]) Map(events func(c *Context[P], topic string, m *hub.Message) []sse.Event) *Route[P] {
	r.mapping = events
	return r
}

// Handle makes the route a generator: the client is sent what the returned sequence yields, each
// event at once. yield reports false when the stream is over, and context.Cause of the Context's
// context says why. The sequence must return then; its deferred functions have run before the Gin
// handler returns. When the sequence ends, the stream ends, and an EventSource comes back after
// the retry time.
//
// hub.ErrClosed, yielded as an error, ends the stream as a shutdown does: cleanly, with a time to
// come back. Any other error is logged, the client gets a stream-error event without the error's
// text, and the connection is aborted. A panic does the same, and goes on up the stack.
func (r *Route[P]) Handle(generator func(*Context[P]) iter.Seq2[sse.Event, error]) *Route[P] {
	r.kinds++
	r.handle = generator
	return r
}

// endpoint is a route that was checked, ready to serve.
type endpoint[P any] struct {
	Route[P]
	binder *binder
	names  func(c *Context[P]) ([]string, error)
}

// serve is the Gin handler of a route.
func (e *endpoint[P]) serve(g *gin.Context) {
	if g.Writer.Written() {
		// By middleware that forgot to abort: a stream behind its answer would give away what it
		// refused.
		return
	}
	defer silence(g)
	if e.options.Detach && e.handle == nil {
		defer detachable(g)()
	}
	c := &Context[P]{gin: g, timeout: e.options.ConnectTimeout}
	if c.timeout <= 0 {
		c.timeout = 5 * time.Second // the default of feed.Options
	}
	topics, ok := e.admit(c)
	switch {
	case !ok:
	case e.handle != nil:
		e.generate(c)
	default:
		e.follow(c, topics)
	}
}

// detachable gives the request a context that may outlive the handler, for guards to take leases
// under.
func detachable(g *gin.Context) (release func()) {
	outer := g.Request
	inner, end := feed.Detachable(outer)
	g.Request = inner
	return func() {
		g.Request = outer // the context of the other one ends now, and middleware still wants one
		end()
	}
}

// admit binds the parameters, asks the guards and names the topics. It reports false when the
// request has its answer.
func (e *endpoint[P]) admit(c *Context[P]) (topics []string, ok bool) {
	g := c.gin
	if err := e.binder.bind(g, reflect.ValueOf(&c.Params).Elem()); err != nil {
		refuse(g, err, e.options)
		return nil, false
	}
	for _, guard := range e.guards {
		if err := guard(c); err != nil {
			refuse(g, err, e.options)
			return nil, false
		}
		if answered(g) {
			return nil, false
		}
	}
	if e.preload {
		if err := e.load(c); err != nil {
			refuse(g, err, e.options)
			return nil, false
		}
	}
	if e.handle != nil {
		return nil, true
	}
	topics, err := e.names(c)
	if err == nil && answered(g) {
		return nil, false
	}
	if err != nil {
		refuse(g, err, e.options)
		return nil, false
	}
	return topics, true
}

// follow serves a route of topics.
func (e *endpoint[P]) follow(c *Context[P], topics []string) {
	o := c.settle(e.options) // first: what Snapshot, Filter and Map get knows that the stream has begun
	note(c.gin, feed.Serve(c.gin.Writer, c.gin.Request, e.feed(c, topics), o))
}

// feed returns what a client is served.
func (e *endpoint[P]) feed(c *Context[P], topics []string) feed.Feed {
	f := feed.Of(e.hub, topics...)
	// Snapshot may run beside the rest, and each has a context of its own.
	if e.hello != nil {
		f.Hello = func(ctx context.Context) (sse.Event, error) { return e.hello(c.with(ctx)) }
	}
	if e.options.Detach && (e.snapshot != nil || e.filter != nil || e.mapping != nil) {
		// They may run when the handler has returned, and Gin has given its context to another
		// request.
		c = c.with(c.Context())
		c.gin = c.gin.Copy()
	}
	if e.snapshot != nil {
		f.Snapshot = func(ctx context.Context) (any, error) {
			own := c.with(ctx)
			e.renew(own)
			return e.snapshot(own)
		}
	}
	if e.filter != nil {
		f.Filter = func(topic string, m *hub.Message) bool { return e.filter(c, topic, m) }
	}
	if e.mapping != nil {
		f.Map = func(topic string, m *hub.Message) []sse.Event { return e.mapping(c, topic, m) }
	}
	return f
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

// renew makes a Snapshot load its references itself: what guards have loaded is from before the
// position in the topics was fixed, and after a gap from long before. A change in between would be
// neither in the state nor among the messages.
func (e *endpoint[P]) renew(c *Context[P]) {
	v := reflect.ValueOf(&c.Params).Elem()
	for _, f := range e.binder.fields {
		if f.model != nil {
			f.model.renew(v.FieldByIndex(f.index))
		}
	}
}

// answered reports whether a guard, or the function that names a topic, has answered by itself.
func answered(g *gin.Context) bool { return g.IsAborted() || g.Writer.Written() }

// generate serves a route with a Handle.
func (e *endpoint[P]) generate(c *Context[P]) {
	note(c.gin, feed.Generate(c.gin.Writer, c.gin.Request, func(ctx context.Context) iter.Seq2[sse.Event, error] {
		c.ctx = ctx
		return e.handle(c)
	}, c.settle(e.options)))
}

// note leaves the end of a stream that was not a clean one where middleware looks for errors.
func note(g *gin.Context, err error) {
	if err != nil && !errors.Is(err, feed.ErrClientGone) {
		_ = g.Error(err)
	}
}
