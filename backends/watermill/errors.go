package watermill

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrCompeting means that a subscription does not get every message: instances share a
	// consumer group or a queue, which gives each message to one of them.
	ErrCompeting = errors.New("the subscription does not get every message: do instances share a consumer group or a queue?")
	// ErrSilent means that no probe came back: the subscription does not deliver.
	ErrSilent = errors.New("no probe came back: the subscription does not deliver, or another instance gets what is meant for it")
	// ErrEnded means that the subscriber closed the subscription.
	ErrEnded = errors.New("the subscriber closed the subscription")
	// ErrBroker means that the Publisher or the Subscriber failed. What it said is found with
	// errors.As and errors.Is, and is not part of the text: it may name addresses and users.
	ErrBroker = errors.New("the broker failed")
	// ErrNoReplay means that Read was called: a Watermill Pub/Sub has no positions to read from.
	ErrNoReplay = errors.New("there is no replay")
)

// brokerError is what a Publisher or a Subscriber returned.
type brokerError struct{ err error }

// broker wraps an error of a Publisher or a Subscriber.
func broker(err error) error {
	if err == nil {
		return nil
	}
	return &brokerError{err}
}

func (e *brokerError) Error() string {
	if errors.Is(e.err, context.DeadlineExceeded) {
		return ErrBroker.Error() + " (timeout)"
	}
	return ErrBroker.Error()
}

func (e *brokerError) Unwrap() []error { return []error{ErrBroker, e.err} }

// opError says what was done, to which topic, and why it failed.
func opError(op, topic string, err error) error {
	return fmt.Errorf("watermill: %s %q: %w", op, topic, err)
}
