package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/headrace/headrace/hub"
)

// Causes of an end. Package sse/feed exports them.
var (
	ErrClientGone  = errors.New("feed: the client is gone")
	ErrWriteFailed = errors.New("feed: writing to the client failed")
	ErrExpired     = errors.New("feed: the stream has expired")
	ErrRevoked     = hub.ErrRevoked
	ErrRotated     = errors.New("feed: the connection reached its maximum lifetime")
	ErrShutdown    = errors.New("feed: shut down")
	ErrFinished    = errors.New("feed: finished")
	ErrFailed      = errors.New("feed: the source failed")
	ErrPanicked    = errors.New("feed: code of the user panicked")
)

// Clean reports whether a stream that ended by this cause ended as streams should: whole, and by
// the server's decision.
func Clean(cause error) bool {
	for _, clean := range []error{ErrFinished, ErrRotated, ErrExpired, ErrRevoked, ErrShutdown} {
		if errors.Is(cause, clean) {
			return true
		}
	}
	return false
}

// Gone returns why the context of a request ended, nil if it has not. The server of net/http
// cancels it without a cause when the client leaves; a cause that somebody stated is kept.
func Gone(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		return ErrClientGone
	}
	return cause
}

// Ended is Gone for a context that a stream has. A deadline bounds a request, and says nothing
// against another one: it is a rotation.
func Ended(ctx context.Context) error {
	cause := Gone(ctx)
	deadline := errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(cause, context.DeadlineExceeded)
	if deadline && !decided(cause) {
		return fmt.Errorf("%w: %w", ErrRotated, cause)
	}
	return cause
}

// decided reports whether a cause of a context is a clean end that the client is told of.
func decided(cause error) bool {
	return errors.Is(cause, ErrShutdown) || errors.Is(cause, ErrRevoked) || errors.Is(cause, ErrRotated)
}

// failed returns err as an ErrFailed.
func failed(err error) error {
	if errors.Is(err, ErrFailed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}
