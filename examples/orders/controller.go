package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/jsonbody"
	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

// controller has the routes: an order is changed by POST, and its state and its changes are one
// feed.
type controller struct {
	hub       *hub.Hub
	store     *store
	publisher *publisher
	options   ginsse.Options
	streams   pages.Connections
}

// Routes implements ginsse.Controller.
func (s *controller) Routes(r gin.IRouter) error {
	r.GET("/products", func(c *gin.Context) { c.JSON(http.StatusOK, catalogue) })
	r.POST("/orders", s.place)
	r.POST("/debug/drop", s.streams.Drop)
	for _, a := range actions {
		r.POST("/orders/:order/"+a.name, func(c *gin.Context) { s.change(c, a) })
	}
	// The state is at the URL of its stream, by the Accept header. So the plain URLs are enough;
	// with /events they are what a client expects that knows streams only.
	return ginsse.Mount(r,
		s.feedOfOrder("/orders/:order"),
		s.feedOfOrder("/orders/:order/events"),
		s.feedOfAll("/orders"),
		s.feedOfAll("/orders/events"),
	)
}

// orderParams are the parameters of an order's feed.
type orderParams struct {
	Order ginsse.Ref[*Order] // :order
}

// feedOfOrder is the order as it is, and then each of its versions, until nothing can follow.
func (s *controller) feedOfOrder(path string) *ginsse.Route[orderParams] {
	load := func(_ context.Context, id string) (*Order, error) {
		o, err := s.store.get(id)
		if err != nil {
			return nil, ginsse.ErrNotFound
		}
		return &o, nil
	}
	return ginsse.SSE[orderParams](path).
		Use(s.streams.Track).
		Models(ginsse.ModelOf(load)).
		Preload(). // so that there is a 404 for an order that does not exist
		Topic(s.hub, "orders/{order}").
		Snapshot(func(c *ginsse.Context[orderParams]) (any, error) {
			// Loaded anew, though Preload has it: what changed since would be neither in that order
			// nor among the messages. A Snapshot has references of its own for this.
			return c.Params.Order.Get(c.Context())
		}).
		Events(stateNames...).
		Options(s.options)
}

// feedOfAll is all orders and the till, and then the new version of any order that changes.
func (s *controller) feedOfAll(path string) *ginsse.Route[struct{}] {
	return ginsse.SSE[struct{}](path).
		Use(s.streams.Track).
		TopicFunc(s.hub, func(*ginsse.Context[struct{}]) (string, error) { return s.publisher.all, nil }).
		Snapshot(func(*ginsse.Context[struct{}]) (any, error) { return s.store.view(), nil }).
		Events(stateNames...).
		Options(s.options)
}

const maxBody = 4 << 10

func (s *controller) place(c *gin.Context) {
	key, ok := idempotencyKey(c)
	if !ok {
		return
	}
	var b basket
	d := json.NewDecoder(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		fail(c, http.StatusBadRequest, "the body is not the JSON of an order: "+jsonbody.Problem(err))
		return
	}
	items, err := b.check()
	var o Order
	if err == nil {
		o, err = s.store.place(b.Customer, items, key)
	}
	if err == nil {
		c.Header("Location", "/orders/"+o.ID)
	}
	s.answer(c, http.StatusCreated, o, err)
}

func (s *controller) change(c *gin.Context, a action) {
	key, ok := idempotencyKey(c)
	if !ok {
		return
	}
	o, err := s.store.change(c.Param("order"), a, key)
	s.answer(c, http.StatusOK, o, err)
}

// answer publishes what was changed, and answers with it or with what went wrong.
func (s *controller) answer(c *gin.Context, code int, o Order, err error) {
	if err == nil {
		// A request that repeats one whose answer was lost comes here too, and publishes what the
		// first did not.
		err = s.publisher.tell(c.Request.Context(), o.ID)
	}
	if err == nil {
		c.JSON(code, o)
		return
	}
	_ = c.Error(err)
	switch {
	case errors.As(err, new(invalid)):
		fail(c, http.StatusBadRequest, err.Error())
	case errors.Is(err, errNotFound):
		fail(c, http.StatusNotFound, err.Error())
	case errors.As(err, new(conflict)):
		fail(c, http.StatusConflict, err.Error())
	case errors.As(err, new(reused)):
		fail(c, http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, errFull):
		fail(c, http.StatusInsufficientStorage, err.Error())
	case errors.Is(err, errUntold):
		c.Header("Retry-After", "1")
		fail(c, http.StatusServiceUnavailable, errUntold.Error())
	default:
		fail(c, http.StatusInternalServerError, "internal server error")
	}
}

// keyLetters are what an idempotency key may be made of.
const keyLetters = "-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// idempotencyKey returns the key of a request, a new one when it states none. It reports false when
// it has answered.
func idempotencyKey(c *gin.Context) (key string, ok bool) {
	key = c.GetHeader("Idempotency-Key")
	strange := func(r rune) bool { return !strings.ContainsRune(keyLetters, r) }
	switch {
	case key == "":
		return rand.Text(), true
	case len(key) > 64 || strings.ContainsFunc(key, strange):
		fail(c, http.StatusBadRequest, "the Idempotency-Key may have up to 64 letters, digits, dashes and underscores")
		return "", false
	}
	return key, true
}

func fail(c *gin.Context, code int, text string) {
	c.AbortWithStatusJSON(code, gin.H{"error": text})
}
