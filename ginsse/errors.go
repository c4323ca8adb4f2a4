package ginsse

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// What a guard, or the function that names a topic, returns to answer with a status. Other errors
// are answered 500, without their text.
var (
	// ErrUnauthorized is answered 401: the client has to say who it is. feed.Unauthorized says how,
	// too.
	ErrUnauthorized = Status(http.StatusUnauthorized, errors.New("unauthorized"))
	// ErrForbidden is answered 403: the client may not follow this.
	ErrForbidden = Status(http.StatusForbidden, errors.New("forbidden"))
	// ErrNotFound is answered 404: there is nothing to follow.
	ErrNotFound = Status(http.StatusNotFound, errors.New("not found"))
)

// Status returns an error that is answered with an HTTP status from 400 to 599 and the text of
// err, which the client sees. Other codes are answered 500. A nil err stands for the status' own
// text. 429 and 503 are temporary: an EventSource, which never comes back from either, gets a
// stream that ends at once and a time to come back, and others Retry-After.
func Status(code int, err error) error {
	if err == nil {
		err = errors.New(http.StatusText(code))
	}
	return &statusError{code: code, err: err}
}

type statusError struct {
	code int
	err  error
	text string // what the client is told, if it is not the text of err
}

func (e *statusError) Error() string { return fmt.Sprintf("ginsse: status %d: %v", e.code, e.err) }
func (e *statusError) Unwrap() error { return e.err }

// StatusCode is how package sse/feed finds the status.
func (e *statusError) StatusCode() int { return e.code }

// ParameterError says which parameter of a request is missing or malformed. It is answered 400.
// The text of the error never has the parameter's value in it, nor what a type's own
// UnmarshalText said, which is in the chain for errors.As.
type ParameterError struct {
	In   string // "path", "query" or "header"
	Name string
	Err  error
}

// Error implements error.
func (e *ParameterError) Error() string { return "ginsse: " + e.text() }

// text is what the client is told.
func (e *ParameterError) text() string {
	return fmt.Sprintf("%s parameter %q: %v", e.In, e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *ParameterError) Unwrap() error { return e.Err }

// refuse answers a request before its stream began.
func refuse(c *gin.Context, err error, o Options) {
	// For middleware that logs or counts errors.
	_ = c.Error(err)
	c.Abort()
	if c.Writer.Written() {
		return
	}
	code, text := http.StatusInternalServerError, "internal server error"
	var status *statusError
	var other interface{ StatusCode() int } // of package sse/feed, which shows no texts
	var parameter *ParameterError
	switch {
	case errors.As(err, &parameter):
		code, text = http.StatusBadRequest, parameter.text()
	case errors.Is(err, hub.ErrTopic):
		// The name is made of the request's values: there is no such thing to follow.
		code, text = http.StatusNotFound, "not found"
	case errors.As(err, &status) && isRefusal(status.code):
		code, text = status.code, cmp.Or(status.text, status.err.Error())
	case errors.As(err, &other) && isRefusal(other.StatusCode()):
		code, text = other.StatusCode(), strings.ToLower(http.StatusText(other.StatusCode()))
	case c.Request.Context().Err() != nil:
		// A lease was revoked, or the server shuts down, and the error is what a query made of
		// that: an EventSource must come back.
		code, text = http.StatusServiceUnavailable, "service unavailable"
	}
	var challenging interface{ Challenge() string } // made by feed.Unauthorized
	if code == http.StatusUnauthorized && errors.As(err, &challenging) {
		c.Writer.Header().Add("WWW-Authenticate", challenging.Challenge())
	}
	feed.Refuse(c.Writer, c.Request, code, text, o)
}

func isRefusal(code int) bool { return 400 <= code && code <= 599 }
