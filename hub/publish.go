package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// publishAttempts bounds how often a message is sent that cannot be appended twice.
const publishAttempts = 3

// finishKey makes Finish idempotent where keys are honoured, and the backend does not see to it
// (Traits.Ends): an unknown outcome is tried again, and finishing twice ends a topic once. A key
// outlives the end: a topic that has gone on behind it could not be finished again.
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

// all appends messages, and behind them the one that ends the topic if it is to end.
func (p publishing) all(ctx context.Context, topic string, ms []Message, end bool) (ids []ID, err error) {
	start := time.Now()
	batch, err := p.batch(topic, ms, end)
	switch {
	case err != nil:
	case len(batch) == 0:
		return nil, nil
	case len(batch) == 1:
		var id ID
		if id, err = p.send(ctx, topic, batch[0]); err == nil {
			ids = []ID{id}
		}
	default:
		err = p.attempt(ctx, !slices.ContainsFunc(batch, p.once), func() (err error) {
			ids, err = p.hub.backend.PublishAll(ctx, topic, batch)
			return err
		})
	}
	if err != nil {
		p.done(topic, "", start, err)
		return nil, err
	}
	for _, id := range ids {
		p.done(topic, id, start, nil)
	}
	return ids, nil
}

// batch returns the messages of a batch as the backend gets them, or why it cannot.
func (p publishing) batch(topic string, ms []Message, end bool) ([]Message, error) {
	traits := p.hub.traits
	batch := make([]Message, 0, len(ms)+1)
	if end && len(ms) == 0 {
		if err := CheckTopic(topic); err != nil {
			return nil, reject(err)
		}
	}
	for _, m := range ms {
		if err := p.check(topic, &m); err != nil {
			return nil, err
		}
		batch = append(batch, m.published())
	}
	if end {
		m := Message{Type: finalType, Final: true}
		if traits.Keys != KeysNone && !traits.Ends {
			m.Key = finishKey
		}
		batch = append(batch, m)
	}
	if len(batch) > 1 && !traits.Atomic {
		return nil, reject(ErrUnsupported)
	}
	return batch, nil
}

// send appends a message to any topic, one of the hub's own too.
func (p publishing) send(ctx context.Context, topic string, m Message) (id ID, err error) {
	m = m.published()
	err = p.attempt(ctx, !p.once(m), func() (err error) {
		id, err = p.hub.backend.Publish(ctx, topic, m)
		return err
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// once reports whether a message would be appended twice if it were sent again.
func (p publishing) once(m Message) bool {
	traits := p.hub.traits
	return (m.Key == "" || traits.Keys != KeysStored) && (!m.Final || !traits.Ends)
}

// attempt calls the backend. An unknown outcome is tried again where nothing can be appended twice.
func (p publishing) attempt(ctx context.Context, again bool, call func() error) error {
	h := p.hub
	if h.isClosing() {
		return reject(ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return reject(err)
	}
	var wait backoff
	for attempt := 1; ; attempt++ {
		err := call()
		if err == nil {
			return nil
		}
		if attempt > 1 || !errors.Is(err, ErrRejected) {
			// Once an attempt's outcome was unknown, a later rejection proves nothing about the
			// earlier one.
			err = unknown(err)
		}
		if !again || attempt == publishAttempts || !errors.Is(err, ErrUnknown) {
			return err
		}
		if !wait.sleep(ctx, nil, h.closing) {
			return err
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
