// Package ginsse makes Server-Sent Events routes for Gin.
//
// A route is written like an HTTP route: a path with typed parameters, middleware, guards, and then either a topic that the client follows, or a
// handler that is a generator.
//
//	type TicketParams struct {
//		Ticket ginsse.Ref[*Ticket] // :ticket, :Ticket or :ticketRef
//	}
//
//	func (t *Tickets) Routes(r gin.IRouter) error {
//		r.GET("/tickets", t.list)
//		return ginsse.Mount(r,
//			ginsse.SSE[TicketParams]("/tickets/:ticket/events").
//				Use(t.auth).
//				Guard(t.mayRead).
//				Models(ginsse.ModelOf(t.store.ByID)).
//				Topic(t.hub, "tickets/{ticket}"),
//			ginsse.SSE[struct{}]("/dashboard/events").
//				Handle(t.dashboard),
//		)
//	}
//
// # Feeds
//
// A route with a Topic is a feed: its clients get the topic's messages in order, resume where they were when they come back with Last-Event-ID, on
// any instance, and are told by a gap event when messages between are gone. Package sse/feed has what is on the wire; it serves the same feeds without Gin.
//
// # Generators
//
// A route with a Handle sends what its generator yields. A generator is the body of a range loop turned inside out: yield reports false when the stream is
// over, and deferred functions have run before the Gin handler returns.
//
//	func (t *Tickets) dashboard(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
//		return func(yield func(sse.Event, error) bool) {
//			sub, err := t.hub.Subscribe(c.Context(), "tickets", hub.Latest())
//			if err != nil {
//				yield(sse.Event{}, err)
//				return
//			}
//			defer sub.Close()
//			for _, err := range sub.All() { // ends with hub.ErrClosed at a shutdown, which yield knows what to do with
//				if !yield(sse.Event{Type: "changed", Data: t.counts()}, err) {
//					return
//				}
//			}
//		}
//	}
//
// # References and keys
//
// A parameter of type Ref stands for a model: it is the key, and loads the model when it is asked for, once per request. What middleware finds out, who the user is for
// example, travels in a slot of its own type, a Key; guards, load functions and handlers get it from the request's context.
//
//	var user = ginsse.NewKey[*User]("user") // t.auth does user.Set(c, u)
//
//	func (t *Tickets) mayRead(c *ginsse.Context[TicketParams]) error {
//		ticket, err := c.Params.Ticket.Get(c.Context())
//		if err != nil {
//			return err // 404 when it is ErrNotFound
//		}
//		if u, ok := user.Get(c.Context()); !ok || !u.MayRead(ticket) {
//			return ginsse.ErrForbidden
//		}
//		return nil
//	}
//
// # Order of things
//
// A request passes the group's and the route's middleware (Use), then its parameters are bound, then the guards run, then what is left of the models is loaded if
// the route says Preload, then the topic is named and followed, or the generator started. The order in which a route's methods are called counts among uses and among guards, not
// between them: what must come before a middleware is a middleware itself.
// All of that happens before the first byte of the stream, so each may still answer with a status of its own: 400 for a parameter, 401, 403 or 404 from a guard, 404
// for a model.
package ginsse
