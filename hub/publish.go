package hub

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// publishAttempts bounds how often a message with a stored idempotency key is sent.
const publishAttempts = 3

// finishKey makes Finish idempotent where keys are honoured: an unknown outcome is tried again, and
// finishing twice ends a topic once.
const finishKey = ReservedPrefix + "finish"

// publishing appends messages at the backend.
type publishing struct{ hub *Hub }

// check applies the rules of Publish.
func (p publishing) check(topic string, m *Message) error {
	if err := CheckTopic(topic); err != nil {
		return reject(err)
	}
	if m.Final {
		return reject(fmt.Errorf("%w: a topic is ended by Finish", ErrType))
	}
	if err := checkMessage(m, p.hub.opts.MaxMessage); err != nil {
		return reject(err)
	}
	if m.Key != "" && p.hub.traits.Keys == KeysNone {
		return reject(ErrNoKeys)
	}
	return nil
}

// send appends a message to any topic, one of the hub's own too. An unknown outcome is tried again
// where that is safe.
func (p publishing) send(ctx context.Context, topic string, m Message) (ID, error) {
	h := p.hub
	m.ID, m.Prev, m.Time, m.Gap = "", "", time.Time{}, false
	if h.isClosing() {
		return "", reject(ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return "", reject(err)
	}
	var wait backoff
	for attempt := 1; ; attempt++ {
		id, err := h.backend.Publish(ctx, topic, m)
		if err == nil {
			return id, nil
		}
		if attempt > 1 || !errors.Is(err, ErrRejected) {
			// Once an attempt's outcome was unknown, a later rejection proves nothing about the
			// earlier one.
			err = unknown(err)
		}
		if m.Key == "" || h.traits.Keys != KeysStored || attempt == publishAttempts || !errors.Is(err, ErrUnknown) {
			return "", err
		}
		if !wait.sleep(ctx, nil, h.closing) {
			return "", err
		}
	}
}

// done counts and reports the outcome of Publish, Finish or Revoke.
func (p publishing) done(topic string, id ID, start time.Time, err error) {
	p.hub.counters.published(err)
	if p.hub.opts.Observer.Published != nil {
		p.hub.opts.Observer.Published(topic, id, time.Since(start), err)
	}
}

func reject(err error) error { return fmt.Errorf("%w: %w", ErrRejected, err) }

func unknown(err error) error {
	if errors.Is(err, ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, hide(err))
}

// hide keeps an error's text and identity, but not that it is ErrRejected.
func hide(err error) error {
	if errors.Is(err, ErrRejected) {
		return errors.New(err.Error())
	}
	return err
}
