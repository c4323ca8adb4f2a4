package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// settings are what the flags say.
type settings struct {
	session time.Duration              // how long a sign-in holds
	limits  *feed.Limits               // of streams. Their Key is set by newTicketController
	origins []string                   // of other sites whose pages may follow /tickets/events
	client  func(*http.Request) string // by which visitors are told apart, as by a feed.Limits.Key
}

// ticketController has all routes about tickets: those that answer once, and those that stream.
type ticketController struct {
	tickets     store
	sessions    sessions
	sessionTime time.Duration
	hub         *hub.Hub
	all         hub.Topic[change] // the typed view of the topic "tickets"
	streams     *pages.Connections
	options     ginsse.Options
	origins     []string
}

// newTicketController returns a controller whose streams end when drain begins.
func newTicketController(h *hub.Hub, tickets store, agents sessions, drain *feed.Drain, o settings) *ticketController {
	o.limits.Key = perAgent(o.client)
	return &ticketController{
		tickets: tickets, sessions: agents, sessionTime: o.session, hub: h, all: hub.NewTopic[change](h, everything), streams: new(pages.Connections),
		options: ginsse.Options{Limits: o.limits, Drain: drain, OnEnd: logEnd}, origins: o.origins,
	}
}

// Routes implements ginsse.Controller.
func (t *ticketController) Routes(r gin.IRouter) error {
	r.GET("/tickets", t.list)
	r.POST("/tickets", t.create)
	r.GET("/tickets/:ticket", t.show)
	r.PATCH("/tickets/:ticket", t.update)
	r.POST("/tickets/:ticket/comments", t.comment)
	r.POST("/sign-in", t.signIn)
	r.POST("/sign-out-everywhere", t.signOutEverywhere)
	r.POST("/debug/drop", t.streams.Drop)

	// The changes alone, in order, from where the client left off: for programs, and for pages of
	// other sites if there are to be any.
	changes := ginsse.SSE[struct{}]("/tickets/events").
		Use(t.streams.Track).
		Options(t.options).
		Events(kinds...).
		Topic(t.hub, everything)
	if len(t.origins) > 0 {
		changes.CORS(ginsse.CORS{Origins: t.origins})
	}
	return ginsse.Mount(r,
		changes,
		// The same behind the state that they change: what the page follows.
		ginsse.SSE[struct{}]("/desk/events").
			Use(t.streams.Track).
			Guard(identify[struct{}](t)).
			Options(t.options).
			Events(kinds...).
			Hello(greet).
			Snapshot(t.desk).
			Topic(t.hub, everything),
		ginsse.SSE[ticketParams]("/tickets/:ticket/events").
			Use(t.streams.Track).
			Guard(identify[ticketParams](t)).
			Models(ginsse.ModelOf(t.load)).
			Options(t.options).
			Events(kinds...).
			Snapshot(t.thread).
			TopicFunc(t.hub, topicOf),

		// A generator: whatever the code yields.
		ginsse.SSE[struct{}]("/dashboard/events").
			Use(t.streams.Track).
			Guard(identify[struct{}](t), adminsOnly).
			Options(t.options).
			Events("welcome", "counts").
			Handle(t.dashboard),
	)
}

func (t *ticketController) list(c *gin.Context) {
	all, err := t.tickets.list(c.Request.Context())
	answer(c, http.StatusOK, all, err)
}

func (t *ticketController) show(c *gin.Context) {
	found, err := t.tickets.get(c.Request.Context(), c.Param("ticket"))
	answer(c, http.StatusOK, found, err)
}

func (t *ticketController) create(c *gin.Context) {
	var body struct {
		Subject string `json:"subject"`
	}
	if !read(c, &body) {
		return
	}
	made, err := newThread(body.Subject)
	if err == nil {
		err = t.tickets.create(c.Request.Context(), made)
	}
	if err == nil {
		c.Header("Location", "/tickets/"+made.ID)
	}
	answer(c, http.StatusCreated, made, err)
}

func (t *ticketController) comment(c *gin.Context) {
	var body struct {
		Text string `json:"text"`
	}
	if !read(c, &body) {
		return
	}
	e, err := commenting(body.Text)
	t.change(c, http.StatusCreated, e, err)
}

// update changes one thing at a time, so that each change is one message.
func (t *ticketController) update(c *gin.Context) {
	var body struct {
		Status   *string `json:"status"`
		Assignee *string `json:"assignee"`
	}
	if !read(c, &body) {
		return
	}
	var e edit
	var err error
	switch {
	case body.Status != nil && body.Assignee == nil:
		e, err = moving(*body.Status)
	case body.Assignee != nil && body.Status == nil:
		e, err = assigning(*body.Assignee)
	default:
		err = fmt.Errorf("%w change: give either a status or an assignee", errInvalid)
	}
	t.change(c, http.StatusOK, e, err)
}

// change makes an edit, if it is one, and answers with the ticket as it is since.
func (t *ticketController) change(c *gin.Context, code int, e edit, err error) {
	var changed thread
	if err == nil {
		changed, err = t.tickets.change(c.Request.Context(), c.Param("ticket"), e)
	}
	answer(c, code, changed, err)
}

// maxBody is more than the longest comment needs in JSON.
const maxBody = 64 << 10

// read decodes the body of a request, and answers it when that fails.
func read(c *gin.Context, body any) bool {
	d := json.NewDecoder(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(body)
	if err == nil {
		// Whatever comes after the value is no part of it.
		if _, err = d.Token(); err == io.EOF {
			return true
		}
		if err == nil {
			err = errors.New("there is more than one value")
		}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		fail(c, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have %d bytes", tooLarge.Limit))
	} else if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		// The error's own text has Go's types in it.
		fail(c, http.StatusBadRequest, fmt.Sprintf("the body is not the JSON expected here: %s cannot be a %s", cmp.Or(wrong.Field, "it"), wrong.Value))
	} else {
		fail(c, http.StatusBadRequest, "the body is not the JSON expected here: "+err.Error())
	}
	return false
}

// answer sends what was found, or what went wrong.
func answer(c *gin.Context, code int, found any, err error) {
	switch {
	case err == nil:
		c.JSON(code, found)
	case errors.Is(err, errInvalid):
		fail(c, http.StatusBadRequest, err.Error())
	case errors.Is(err, errNotFound):
		fail(c, http.StatusNotFound, err.Error())
	case errors.Is(err, errClosed):
		fail(c, http.StatusConflict, err.Error())
	case errors.Is(err, errFull):
		fail(c, http.StatusInsufficientStorage, err.Error())
	case errors.Is(err, errBusy):
		c.Header("Retry-After", "1")
		fail(c, http.StatusServiceUnavailable, err.Error())
	case errors.Is(err, errAway):
		_ = c.Error(err)
		c.Header("Retry-After", "1")
		fail(c, http.StatusServiceUnavailable, errAway.Error())
	default:
		_ = c.Error(err)
		fail(c, http.StatusInternalServerError, "internal server error")
	}
}

func fail(c *gin.Context, code int, text string) {
	c.AbortWithStatusJSON(code, gin.H{"error": text})
}
