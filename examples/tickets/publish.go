package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headrace/headrace/hub"
)

const publishTimeout = 5 * time.Second

// errUnpublishable is that a change cannot be published, however often it is tried.
var errUnpublishable = errors.New("tickets: the change cannot be published")

// rules are what a message can break before any backend is asked.
var rules = []error{hub.ErrTopic, hub.ErrType, hub.ErrData, hub.ErrHeader, hub.ErrKey, hub.ErrNoKeys, hub.ErrTooLarge}

// publish publishes a change to one topic, and ends the topic if the change is its last. After an
// error other than errUnpublishable it may be called again, and has to be if the feeds are to be
// whole.
func publish(ctx context.Context, h *hub.Hub, topic string, c change) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnpublishable, err)
	}
	m := hub.Message{Type: c.Kind, Data: data}
	if h.Traits().Keys != hub.KeysNone {
		// Of all attempts, whoever makes them, at most one appends. Where the backend has no keys
		// the message may come twice, and the version tells.
		m.Key = fmt.Sprintf("%s.%d", c.Ticket.ID, c.Ticket.Version)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err = h.Publish(ctx, topic, m)
	if err == nil && c.finishes(topic) {
		_, err = h.Finish(ctx, topic)
	}
	if slices.ContainsFunc(rules, func(rule error) bool { return errors.Is(err, rule) }) {
		return fmt.Errorf("%w: %w", errUnpublishable, err)
	}
	return err
}
