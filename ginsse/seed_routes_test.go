package ginsse_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// seedApp is what the routes are made with, and what a test sees of them.
type seedApp struct {
	hub        *hub.Hub
	subscribed chan struct{} // a generator has its subscription
	aborted    chan error    // the context of a generator has ended, with this cause
	returned   chan handlerEnd
	cleanups   int // of the handler's goroutine
}

// handlerEnd is what middleware finds when the Gin handler has returned.
type handlerEnd struct {
	cleanups int
	errors   []*gin.Error
}

// finally is what the routes defer.
func (a *seedApp) finally() { a.cleanups++ }

// observe is the outermost middleware.
func (a *seedApp) observe(c *gin.Context) {
	c.Next()
	a.returned <- handlerEnd{a.cleanups, c.Errors}
}

// subscribe is what stands behind notifications.subscribe(), ticket.events and
// eventBus.subscribe(): a typed topic, followed from now on.
func subscribe[T any](ctx context.Context, a *seedApp, topic string) (*hub.TopicSubscription[T], error) {
	sub, err := hub.NewTopic[T](a.hub, topic).Subscribe(ctx, hub.Latest())
	a.subscribed <- struct{}{}
	return sub, err
}

// notificationController is "Basic SSE Route": createController('/notifications', {inject,
// routes}) is a struct with its services and a method Routes.
type notificationController struct{ app *seedApp }

type notification struct {
	Text string `json:"text"`
}

func (n *notificationController) Routes(r gin.IRouter) error {
	return ginsse.Mount(r.Group("/notifications"),
		ginsse.SSE[struct{}]("/stream").Handle(n.stream),
		ginsse.SSE[struct{}]("/feed").Topic(n.app.hub, "notifications"))
}

// stream subscribes before it says "connected": what is published once a client has read that
// cannot be missed. The loop over a subscription may hand every error to yield, the end of the
// hub among them; e.Err is of a message whose data is no notification.
func (n *notificationController) stream(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		defer n.app.finally()
		sub, err := subscribe[notification](c.Context(), n.app, "notifications")
		if err != nil {
			yield(sse.Event{}, err)
			return
		}
		defer sub.Close()
		if !yield(sse.Event{Type: "connected", Data: gin.H{"status": "ok"}}, nil) {
			return
		}
		for e, err := range sub.All() {
			if !yield(sse.Event{Type: "notification", Data: e.Value}, cmp.Or(err, e.Err)) {
				return
			}
		}
	}
}

// eventFormat is "SSE Event Format".
func eventFormat(a *seedApp) ginsse.Controller {
	return yields(a,
		sse.Event{Type: "update", ID: "42", Data: gin.H{"count": 1}, Retry: 5 * time.Second},
		sse.Event{Data: "hello"})
}

// eventData has each kind of data that the sentence about strings and JSON may mean.
func eventData(a *seedApp) ginsse.Controller {
	return yields(a,
		sse.Event{Data: "two\nlines"},
		sse.Event{Data: `{"a":"string"}`},
		sse.Event{Data: ""},
		sse.Event{Data: []byte("bytes")},
		sse.Event{Data: 7},
		sse.Event{Data: true},
		sse.Event{Data: []string{"a", "b"}},
		sse.Event{Data: notification{"<b>"}},
		sse.Event{Data: json.RawMessage("null")},
		sse.Event{ID: "43"})
}

func yields(a *seedApp, list ...sse.Event) ginsse.Controller {
	return ginsse.SSE[struct{}]("/events").Handle(func(*ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			defer a.finally()
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
		}
	})
}

// roomEvents is "Path Parameters": the struct says what the path's parameters are, and Mount
// holds one against the other.
func roomEvents(a *seedApp) ginsse.Controller {
	type roomParams struct {
		RoomID string // :roomId
	}
	return ginsse.SSE[roomParams]("/:roomId/events").Handle(func(c *ginsse.Context[roomParams]) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			defer a.finally()
			sub, err := subscribe[string](c.Context(), a, hub.JoinTopic("rooms", c.Params.RoomID))
			if err != nil {
				yield(sse.Event{}, err)
				return
			}
			defer sub.Close()
			if !yield(sse.Event{Data: gin.H{"room": c.Params.RoomID}}, nil) {
				return
			}
			for m, err := range sub.All() {
				if !yield(sse.Event{Data: m.Value}, cmp.Or(err, m.Err)) {
					return
				}
			}
		}
	})
}

// ticketController is "Typed Parameters with .types()": .types({Ticket}) is a field of type Ref
// and Models, await params.ticket is its Get.
type ticketController struct{ app *seedApp }

type seedTicket struct{ Subject string }

// change is the data of a ticket's or an order's event, whatever its type.
type change struct {
	Status string `json:"status"`
}

type seedTicketParams struct {
	Ticket ginsse.Ref[*seedTicket] // :ticket, :Ticket or :ticketRef
}

func ticketByID(_ context.Context, id int64) (*seedTicket, error) {
	if id != 7 {
		return nil, ginsse.ErrNotFound
	}
	return &seedTicket{Subject: "Printer on fire"}, nil
}

func (t *ticketController) Routes(r gin.IRouter) error {
	route := func(path string) *ginsse.Route[seedTicketParams] {
		return ginsse.SSE[seedTicketParams](path).Models(ginsse.ModelOf(ticketByID))
	}
	return ginsse.Mount(r.Group("/tickets"),
		// Preload: not found is answered before the stream begins.
		route("/:ticket/events").Preload().Handle(t.events),
		// As in the seed: not found is an event.
		route("/:ticket/verbatim").Handle(t.events),
		route("/:ticket/feed").Preload().Topic(t.app.hub, "tickets/{ticket}"))
}

func (t *ticketController) events(c *ginsse.Context[seedTicketParams]) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		defer t.app.finally()
		ticket, err := c.Params.Ticket.Get(c.Context())
		if errors.Is(err, ginsse.ErrNotFound) {
			yield(sse.Event{Type: "error", Data: gin.H{"message": "Not found"}}, nil)
			return
		}
		if err != nil {
			yield(sse.Event{}, err)
			return
		}
		sub, err := subscribe[change](c.Context(), t.app, hub.JoinTopic("tickets", c.Params.Ticket.Key()))
		if err != nil {
			yield(sse.Event{}, err)
			return
		}
		defer sub.Close()
		if !yield(sse.Event{Type: "connected", Data: gin.H{"subject": ticket.Subject}}, nil) {
			return
		}
		for e, err := range sub.All() {
			if !yield(sse.Event{Type: e.Type, Data: e.Value}, cmp.Or(err, e.Err)) {
				return
			}
		}
	}
}

// matching is the seed's note on .types(): the same field for each spelling of the parameter.
func matching(path string) func(*seedApp) ginsse.Controller {
	return func(a *seedApp) ginsse.Controller {
		return ginsse.SSE[seedTicketParams](path).Models(ginsse.ModelOf(ticketByID)).Preload().
			Handle(func(c *ginsse.Context[seedTicketParams]) iter.Seq2[sse.Event, error] {
				return func(yield func(sse.Event, error) bool) {
					defer a.finally()
					ticket, err := c.Params.Ticket.Get(c.Context()) // is there: Preload
					yield(sse.Event{Data: gin.H{"key": c.Params.Ticket.Key(), "ticket": ticket}}, err)
				}
			})
	}
}

// A user and a team are what middleware finds out; the seed's { user } is a Key that guards and
// handlers get.
type seedUser struct{ Name, Role string }

var (
	seedUserKey = ginsse.NewKey[*seedUser]("user")
	seedTeamKey = ginsse.NewKey[string]("team")
)

func seedAuth(c *gin.Context) {
	users := map[string]*seedUser{"Bearer ann": {"Ann", "admin"}, "Bearer bob": {"Bob", "agent"}}
	u, ok := users[c.GetHeader("Authorization")]
	if !ok {
		c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "unauthorized"})
		return
	}
	seedUserKey.Set(c, u)
}

func seedTeam(c *gin.Context) {
	if u, ok := seedUserKey.Get(c.Request.Context()); ok {
		seedTeamKey.Set(c, "team of "+u.Name)
	}
}

func adminsOnly(c *ginsse.Context[struct{}]) error {
	if u, ok := seedUserKey.Get(c.Context()); !ok || u.Role != "admin" {
		return ginsse.ErrForbidden
	}
	return nil
}

// dashboard is "Middleware and Guards", with whatever middleware.
func dashboard(welcome func(context.Context) any, use ...gin.HandlerFunc) func(*seedApp) ginsse.Controller {
	return func(a *seedApp) ginsse.Controller {
		return ginsse.SSE[struct{}]("/dashboard/events").Use(use...).Guard(adminsOnly).
			Handle(func(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
				return func(yield func(sse.Event, error) bool) {
					defer a.finally()
					sub, err := subscribe[change](c.Context(), a, "dashboard")
					if err != nil {
						yield(sse.Event{}, err)
						return
					}
					defer sub.Close()
					if !yield(sse.Event{Type: "welcome", Data: welcome(c.Context())}, nil) {
						return
					}
					for e, err := range sub.All() {
						if !yield(sse.Event{Type: e.Type, Data: e.Value}, cmp.Or(err, e.Err)) {
							return
						}
					}
				}
			})
	}
}

func welcomeUser(ctx context.Context) any {
	u, _ := seedUserKey.Get(ctx)
	return gin.H{"name": u.Name}
}

func welcomeTeam(ctx context.Context) any {
	u, _ := seedUserKey.Get(ctx)
	team, _ := seedTeamKey.Get(ctx)
	return gin.H{"name": u.Name, "team": team}
}

// disconnect is "Client Disconnect": try and finally are defer.
func disconnect(a *seedApp) ginsse.Controller {
	return ginsse.SSE[struct{}]("/events").Handle(func(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			sub, err := subscribe[change](c.Context(), a, "bus")
			if err != nil {
				yield(sse.Event{}, err)
				return
			}
			defer func() {
				sub.Close()
				a.finally()
			}()
			for e, err := range sub.All() {
				if !yield(sse.Event{Type: e.Type, Data: e.Value}, cmp.Or(err, e.Err)) {
					return
				}
			}
		}
	})
}

// aborted is the aborted promise: the context. It ends with every stream, however it ends, and
// its cause says how; a wait for Done outlives the handler, so it has the context of c and not c.
func aborted(a *seedApp) ginsse.Controller {
	return ginsse.SSE[struct{}]("/events").Handle(func(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			defer a.finally()
			ctx := c.Context()
			context.AfterFunc(ctx, func() { a.aborted <- context.Cause(ctx) })
			sub, err := subscribe[change](ctx, a, "bus")
			if err != nil {
				yield(sse.Event{}, err)
				return
			}
			for e, err := range sub.All() { // leaving the loop closes the subscription
				if !yield(sse.Event{Type: e.Type, Data: e.Value}, cmp.Or(err, e.Err)) {
					return
				}
			}
		}
	})
}

// orderController is "Combining with HTTP Routes".
type orderController struct{ app *seedApp }

type order struct {
	ID    int64 `json:"id"`
	Total int   `json:"total"`
}

var seedOrders = []*order{{ID: 1, Total: 20}, {ID: 2, Total: 35}}

func orderByID(_ context.Context, id int64) (*order, error) {
	for _, o := range seedOrders {
		if o.ID == id {
			return o, nil
		}
	}
	return nil, nil // means ErrNotFound too
}

type orderParams struct {
	Order ginsse.Ref[*order]
}

func (o *orderController) Routes(r gin.IRouter) error {
	g := r.Group("/orders")
	g.GET("", func(c *gin.Context) { c.JSON(http.StatusOK, seedOrders) })
	return ginsse.Mount(g,
		ginsse.SSE[orderParams]("/:order/events").Models(ginsse.ModelOf(orderByID)).Preload().Handle(o.events),
		ginsse.SSE[orderParams]("/:order/feed").Models(ginsse.ModelOf(orderByID)).Preload().Topic(o.app.hub, "orders/{order}"))
}

func (o *orderController) events(c *ginsse.Context[orderParams]) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		defer o.app.finally()
		sub, err := subscribe[change](c.Context(), o.app, hub.JoinTopic("orders", c.Params.Order.Key()))
		if err != nil {
			yield(sse.Event{}, err)
			return
		}
		defer sub.Close()
		for e, err := range sub.All() {
			if !yield(sse.Event{Type: e.Type, Data: e.Value}, cmp.Or(err, e.Err)) {
				return
			}
		}
	}
}
