package main

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

// gateway has the routes: one to publish, one to follow.
type gateway struct {
	hub     *hub.Hub
	options ginsse.Options // of the streams
}

// topicParams are the parameters of a feed.
type topicParams struct {
	Topic string // *topic
}

// Routes implements ginsse.Controller.
func (g *gateway) Routes(r gin.IRouter) error {
	r.POST("/topics/*topic", g.publish)
	return ginsse.Mount(r,
		ginsse.SSE[topicParams]("/topics/*topic").
			Options(g.options).
			Guard(validTopic).
			TopicFunc(g.hub, func(c *ginsse.Context[topicParams]) (string, error) { return topicOf(c.Params.Topic), nil }),
	)
}

// topicOf makes a topic's name of the rest of a path, which begins with a slash. The name may have
// slashes of its own, written as such or as %2F.
func topicOf(rest string) string { return strings.TrimPrefix(rest, "/") }

// validTopic is a guard that says what is wrong with a name, instead of the plain 404 that a feed
// would answer.
func validTopic(c *ginsse.Context[topicParams]) error {
	if err := hub.CheckTopic(topicOf(c.Params.Topic)); err != nil {
		return ginsse.Status(http.StatusBadRequest, reason(err))
	}
	return nil
}

// maxData is the largest message: what the hub takes by default.
const maxData = 1 << 20

// publish appends the body of the request to the topic.
func (g *gateway) publish(c *gin.Context) {
	data, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxData))
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			fail(c, http.StatusRequestEntityTooLarge, fmt.Sprintf("a message may have %d bytes", tooLarge.Limit))
		} else {
			fail(c, http.StatusBadRequest, "the body could not be read")
		}
		return
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		fail(c, http.StatusBadRequest, "the query is malformed") // a type that was meant would be left out
		return
	}
	media, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type"))
	id, err := g.hub.Publish(c.Request.Context(), topicOf(c.Param("topic")), hub.Message{
		Type: query.Get("type"),
		Data: data,
		// Whoever sends bytes says so; everything else has to be text.
		Binary: media == "application/octet-stream",
		Key:    c.GetHeader("Idempotency-Key"),
	})
	if err != nil {
		_ = c.Error(err)
		refuse(c, err)
		return
	}
	c.JSON(http.StatusCreated, gin.H{"id": id})
}

// rules are the errors of messages that are against the rules: the publisher's to put right.
var rules = []error{hub.ErrTopic, hub.ErrType, hub.ErrData, hub.ErrKey, hub.ErrNoKeys}

// refuse answers a message that was not appended for certain. Texts of a backend's errors stay
// inside: they may name hosts.
func refuse(c *gin.Context, err error) {
	for _, rule := range rules {
		if errors.Is(err, rule) {
			fail(c, http.StatusBadRequest, reason(err).Error())
			return
		}
	}
	if errors.Is(err, hub.ErrTooLarge) {
		fail(c, http.StatusRequestEntityTooLarge, fmt.Sprintf("a message may have %d bytes, its type included", maxData))
		return
	}
	c.Header("Retry-After", "1")
	if errors.Is(err, hub.ErrUnknown) {
		fail(c, http.StatusServiceUnavailable, "outcome unknown: the message may have been appended, or not. "+
			"Send it again with the same Idempotency-Key, and it is appended once; without a key it may be there twice.")
		return
	}
	fail(c, http.StatusServiceUnavailable, "the message was not appended: try again")
}

// reason returns the rule that a message or a name breaks, without the operation and the topic that
// the hub's error adds.
func reason(err error) error {
	if operation, ok := errors.AsType[*hub.Error](err); ok {
		err = operation.Err
	}
	return errors.New(strings.TrimPrefix(err.Error(), hub.ErrRejected.Error()+": "))
}

func fail(c *gin.Context, code int, text string) {
	c.AbortWithStatusJSON(code, gin.H{"error": text})
}
