// Package ginsse makes Server-Sent Events routes for Gin.
//
// A route is written like an HTTP route: a path with typed parameters, middleware, guards, and
// then either a topic that the client follows, or a handler that is a generator.
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
// A route with a Topic is a feed. Its clients get the topic's messages in order, resume where
// they were when they come back with Last-Event-ID, on any instance, and are told by a gap event
// when messages between are gone. Package sse/feed has what is on the wire; it serves the same
// feeds without Gin.
//
// # Snapshots
//
// With a Snapshot a client gets the state first, and then its changes, with nothing lost in
// between. After a gap it gets the state again, so that pages are right again by themselves. The
// same URL, asked for application/json, answers with the state alone and, in the header
// Last-Event-ID, the cursor that a stream goes on from.
//
//	ginsse.SSE[TicketParams]("/tickets/:ticket/events").
//		Models(ginsse.ModelOf(t.store.ByID)).
//		Guard(t.mayRead).
//		Snapshot(t.state). // func(c *ginsse.Context[TicketParams]) (any, error)
//		Topic(t.hub, "tickets/{ticket}")
//
// Change the state first, then publish. A Snapshot may be called again long after the stream has
// begun; its references load anew, also what a guard has loaded. If it fails before the first
// byte, the error is answered, ErrNotFound with 404. If it fails when it is loaded again after a
// gap, the stream is aborted; check in a guard for things that may have been deleted.
//
// # Several topics
//
// Topics has templates for more than one topic, TopicsFunc a function that names them. They share
// one stream and one cursor; each has its own order. The set may be another one when the client
// comes back. It may not be empty: refuse a client that has nothing to follow with ErrNotFound.
//
// # Filter and Map
//
// Filter says which messages a client gets, Map makes the events of each; both know the
// parameters and the topic. They are not asked about the end of a topic, which always comes.
// Hello makes an event that every connection begins with. A nil Hello, Snapshot, Filter or Map is
// none.
//
// Filter and Map must be quick: they run on goroutines that write to many connections, for as
// long as they are. A call that is slow, or never returns, holds up its own stream only. A panic
// aborts the stream.
//
// # Generators
//
// A route with a Handle sends what its generator yields. A generator is the body of a range loop
// turned inside out: yield reports false when the stream is over, and deferred functions have run
// before the Gin handler returns.
//
//	func (t *Tickets) dashboard(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
//		return func(yield func(sse.Event, error) bool) {
//			sub, err := t.hub.Subscribe(c.Context(), "tickets", hub.Latest())
//			if err != nil {
//				yield(sse.Event{}, err)
//				return
//			}
//			defer sub.Close()
//			for _, err := range sub.All() { // yield knows what to do with hub.ErrClosed
//				if !yield(sse.Event{Type: "changed", Data: t.counts()}, err) {
//					return
//				}
//			}
//		}
//	}
//
// # References and keys
//
// A parameter of type Ref stands for a model: it is the key, and loads the model when it is asked
// for, once per request. What middleware finds out, such as who the user is, travels in a slot of
// its own type, a Key. Guards, load functions and handlers get it from the request's context.
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
// # Leases and expiry
//
// A right is checked when the stream begins, and may end before the stream does. In a guard, take
// a lease and check then. When hub.Hub.Revoke is called for one of its keys, in any process, the
// stream ends, the client comes back by itself and the guards decide anew. ExpireAt does the same
// at a time, such as that of a token.
//
//	func (t *Tickets) mayRead(c *ginsse.Context[TicketParams]) error {
//		u, _ := user.Get(c.Context())
//		if err := c.Lease(t.hub, "user/"+u.ID); err != nil {
//			return err // come back later
//		}
//		c.ExpireAt(u.TokenExpires)
//		…
//	}
//
// # Limits
//
// Options.Limits bounds how many streams are open, in all and for each key. The key may be what
// middleware and guards have found out:
//
//	limits := &feed.Limits{Max: 10_000, PerKey: 20, Key: func(r *http.Request) string {
//		u, _ := user.Get(r.Context())
//		return u.ID
//	}}
//
// Share one value between routes. Documents do not count.
//
// # Shutdown
//
// http.Server.Shutdown waits for some streams only. Give all routes one feed.Drain in their
// Options, give the server its Begin, by RegisterOnShutdown, and call its Wait behind the
// server's Shutdown. The streams then end one by one, and the clients come back elsewhere.
// Without it hub.Hub.Shutdown ends all feeds at once.
//
// # Very many connections
//
// A few goroutines write all feeds, wherever that can be: over HTTP/1.x and plain TCP, if no
// middleware has wrapped the response writer. Package sse/feed has the details, and Options.OnEnd
// tells for each stream. With Options.Detach the Gin handler returns as soon as such a stream has
// begun, and the connection keeps neither its goroutine nor the Gin context. Middleware then sees
// the connecting only; what guards have said about the end, leases and ExpireAt, holds on.
// Snapshot, Filter and Map then get a copy of the Gin context, because Gin uses its own again.
//
// # CORS
//
// CORS lets pages of other origins follow a route, and read why they were refused. It answers
// preflights too, by a route for OPTIONS beside the route. Middleware of a group runs before it.
// A CORS middleware of the application does as well; one of the two is enough.
//
// # What a client sees
//
// A stream is status 200 and text/event-stream. A request that is refused before gets a status
// with a JSON body, {"error":"forbidden"}: 400 for a parameter, 401, 403 and 404 from guards,
// references and snapshots, 406 for an Accept header that takes no stream. What may pass, 429 and
// 503, has Retry-After; an EventSource, which never comes back from any status but 200, instead
// gets a stream that ends at once and states a time to come back. A failure once the stream has
// begun, a panic too, aborts the connection, so that nobody takes it for an end. HEAD passes
// middleware and guards as GET does, and has the status and the header of GET; no stream begins.
// Package sse/feed has the events, and how Accept decides between the stream and the state as JSON.
//
// A guard that returns [feed.Unauthorized] names the scheme of a 401 in WWW-Authenticate;
// ErrUnauthorized names none. A client that sends POST is served by a route of the application's
// own, with [feed.Serve] and Options.Post.
//
// # Order of things
//
// A request passes the group's middleware, the route's CORS and its middleware (Use). Then the
// parameters are bound, the guards run, what is left of the models is loaded if the route says
// Preload, and the topics are named. Then the stream is counted by the Limits, the topics are
// followed, and Snapshot and Hello are called; or the generator is started. The order in which a
// route's methods are called counts among uses and among guards, not between them: what must come
// before a middleware is a middleware itself. All of that happens before the first byte of the
// stream, so each may still answer with a status of its own.
package ginsse
