package main

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// ticketParams are the parameters of a ticket's feed.
type ticketParams struct {
	Ticket ginsse.Ref[*thread] // :ticket
	Round  int                 `query:"round"` // whose feed it is; 0 is the one that the ticket is in
}

// load is how references to tickets are loaded: a client that asks for a ticket that is not there
// gets a plain 404, before the first byte of a stream.
func (t *ticketController) load(ctx context.Context, id string) (*thread, error) {
	found, err := t.tickets.get(ctx, id)
	switch {
	case errors.Is(err, errNotFound):
		return nil, ginsse.ErrNotFound
	case err != nil:
		return nil, feed.Status(http.StatusServiceUnavailable, err)
	}
	return &found, nil
}

// topicOf names the topic of a ticket's feed. A template such as "tickets/{ticket}" would do if
// each ticket had only one; which rounds there are the ticket itself says.
//
// Who follows a round to its end states it. A cursor is a place in one topic, and the same URL may
// lead to another one when the client is back.
func topicOf(c *ginsse.Context[ticketParams]) (string, error) {
	found, err := c.Params.Ticket.Get(c.Context())
	if err != nil {
		return "", err
	}
	round := cmp.Or(c.Params.Round, found.Round)
	if round < 0 || round > found.Round {
		return "", ginsse.ErrNotFound
	}
	return topicOfRound(found.ID, round), nil
}

// thread is what a ticket's feed begins with. It is loaded anew: what the reference holds was
// loaded before the place in the topic was fixed, and a change in between would be neither in it
// nor behind it.
func (t *ticketController) thread(c *ginsse.Context[ticketParams]) (any, error) {
	return t.load(c.Context(), c.Params.Ticket.Key())
}

// desk is what the feed of the page begins with: all tickets, without their comments.
func (t *ticketController) desk(c *ginsse.Context[struct{}]) (any, error) {
	all, err := t.tickets.list(c.Context())
	if err != nil {
		return nil, feed.Status(http.StatusServiceUnavailable, err)
	}
	return all, nil
}

// greet tells the page as whom it is connected. Each connection begins with it, so a page learns of
// a sign-out, wherever it was made, when it is back.
func greet(c *ginsse.Context[struct{}]) (sse.Event, error) {
	who, _ := agent.Get(c.Context())
	return sse.Event{Type: "hello", Data: who}, nil
}

// dashboard greets, and then sends how many tickets have each status, now and whenever something
// has changed.
func (t *ticketController) dashboard(c *ginsse.Context[struct{}]) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		// What changed while nobody looked does not matter, only that something did: a gap is no
		// reason to stop.
		changes, err := t.all.Subscribe(c.Context(), hub.Latest(), hub.MarkGaps())
		if err != nil {
			yield(sse.Event{}, err)
			return
		}
		// Runs when the client leaves, when the server stops, and when the code below returns or
		// panics.
		defer changes.Close()

		who, _ := agent.Get(c.Context())
		if !yield(sse.Event{Type: "welcome", Data: who}, nil) {
			return
		}
		// After Subscribe, so that no change falls between the first count and the first message.
		// Each message comes after its change, so the last count is right.
		counts := func() (sse.Event, error) {
			all, err := t.tickets.list(c.Context())
			return sse.Event{Type: "counts", Data: count(all)}, err
		}
		if !yield(counts()) {
			return
		}
		for _, err := range changes.All() {
			if err != nil {
				yield(sse.Event{}, err)
				return
			}
			if !yield(counts()) {
				return
			}
		}
	}
}

// logEnd says how a stream went, and why it ended: the client left, the session expired or was
// revoked, the server stops.
func logEnd(e feed.End) {
	slog.Info("tickets: a stream ended", "topics", e.Topics, "cause", e.Cause, "events", e.Events, "duration", e.Duration)
}
