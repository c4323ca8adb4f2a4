package feed

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/headrace/headrace/sse/feed/internal/session"
)

// Causes of a stream's end: in End.Cause, as context.Cause of a generator's context and, those
// that are no clean ends, from Serve and Generate. A request's context that ended with a cause of
// its own, and not by a deadline, has that cause instead.
var (
	// ErrClientGone: the client closed the connection.
	ErrClientGone = session.ErrClientGone
	// ErrWriteFailed: a write failed or took longer than Options.WriteTimeout. It wraps the
	// connection's error.
	ErrWriteFailed = session.ErrWriteFailed
	// ErrServerTimeout: http.Server's WriteTimeout is over, and middleware whose response writer
	// hides SetWriteDeadline kept Serve from putting it off, so the server has cut the stream off.
	// It is an ErrWriteFailed. That the client has left at that time cannot be told from it.
	ErrServerTimeout = fmt.Errorf("%w: the server's WriteTimeout is over, and a middleware's response writer hides SetWriteDeadline", ErrWriteFailed)
	// ErrFailed: the generator yielded an error, or an event that has no wire form; or the
	// subscription, a Snapshot after a gap, or an event of Map failed. It wraps that error. The
	// connection was aborted.
	ErrFailed = session.ErrFailed
	// ErrPanicked: the generator, or a function of the Feed, panicked. The client was told, by
	// stream-error, and the connection was aborted.
	ErrPanicked = session.ErrPanicked

	// ErrFinished: the topic, or the generator, has come to its end. A clean end.
	ErrFinished = session.ErrFinished
	// ErrRotated: Options.MaxLifetime is over, or the request's context had a deadline; then the
	// cause of that is wrapped too. A clean end, unless Options.Ending says otherwise.
	ErrRotated = session.ErrRotated
	// ErrExpired: Options.ExpireAt has come. A clean end.
	ErrExpired = session.ErrExpired
	// ErrRevoked: a lease was revoked; see hub.Hub.Lease. It is hub.ErrRevoked. A clean end.
	ErrRevoked = session.ErrRevoked
	// ErrShutdown: the hub or the server shuts down. A clean end.
	ErrShutdown = session.ErrShutdown
)

// Errors of Serve and Generate about requests that were answered without a stream.
var (
	// ErrUnavailable means that the backend did not answer in time, or that Snapshot or Hello
	// failed; it wraps what is known. The client was told to come back.
	ErrUnavailable = errors.New("feed: the backend is unavailable")
	// ErrMethod means that the request's method is neither GET nor HEAD, nor POST where
	// Options.Post allows it.
	ErrMethod = errors.New("feed: method not allowed")
	// ErrAccept means that the client accepts no event stream.
	ErrAccept = errors.New("feed: the client accepts no event stream")
	// ErrParameter means that a query parameter of the feed's own, such as start, is malformed or
	// asks for what is not offered. The client was answered 400.
	ErrParameter = errors.New("feed: a query parameter is malformed or asks for too much")
	// ErrAbsent means that none of the topics exists, and that Options.Absent is 404.
	ErrAbsent = errors.New("feed: none of the topics exists")
	// ErrOptions means that the Options are wrong. The client was answered 500.
	ErrOptions = errors.New("feed: wrong options")
)

// Status returns an error that carries an HTTP status, for the function given to HandlerFunc and
// for Snapshot and Hello. The client is answered with the status and its standard text, never
// with err's. A code that is no 4xx or 5xx counts as 500. err may be nil.
func Status(code int, err error) error {
	if code < 400 || code > 599 {
		code = http.StatusInternalServerError
	}
	return &statusError{code: code, err: err}
}

// Unauthorized returns an error that is answered 401 and names, in the header WWW-Authenticate, how
// the client can say who it is: "Bearer", for example, or `Basic realm="tickets"`, for which
// browsers ask their user. It is for where Status is, and for guards of package ginsse. The header
// is what HTTP wants of a 401; set it yourself, or return this, where there is a scheme. err is for
// the log and may be nil.
func Unauthorized(challenge string, err error) error {
	challenge = strings.NewReplacer("\r", " ", "\n", " ").Replace(challenge) // HTTP/2 would leave it out
	return &unauthorizedError{statusError{code: http.StatusUnauthorized, err: err}, challenge}
}

type unauthorizedError struct {
	statusError
	challenge string
}

// Challenge is how errors of other packages, such as ginsse, carry a challenge too.
func (e *unauthorizedError) Challenge() string { return e.challenge }

type statusError struct {
	code int
	err  error
}

func (e *statusError) Error() string {
	text := "feed: " + http.StatusText(e.code)
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}

func (e *statusError) Unwrap() error { return e.err }

// StatusCode is how errors of other packages, such as ginsse, carry a status too.
func (e *statusError) StatusCode() int { return e.code }
