package main

import (
	"errors"
	"iter"
	"net/http"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// ticketParams are the parameters of a ticket's feed.
type ticketParams struct {
	Ticket string // :ticket
}

// exists is a guard: it runs before the first byte, so a client that asks for a ticket that is not there gets a plain 404.
func (t *ticketController) exists(c *ginsse.Context[ticketParams]) error {
	_, err := t.tickets.get(c.Context(), c.Params.Ticket)
	switch {
	case errors.Is(err, errNotFound):
		return ginsse.ErrNotFound
	case err != nil:
		_ = c.Gin().Error(err)
		return ginsse.Status(http.StatusServiceUnavailable, errAway)
	}
	return nil
}

// dashboardParams are the parameters of the dashboard.
//
// A role that the client itself states proves nothing: it stands here for the session that an application looks up. An EventSource cannot set headers,
// but it sends cookies, so a session cookie is the way to go.
type dashboardParams struct {
	Role string `query:"role"`
}

// adminsOnly is a guard with two answers: 401 for who says nothing, 403 for who says the wrong thing.
func adminsOnly(c *ginsse.Context[dashboardParams]) error {
	switch c.Params.Role {
	case "admin":
		return nil
	case "":
		return ginsse.ErrUnauthorized
	}
	return ginsse.ErrForbidden
}

// dashboard greets, and then sends how many tickets have each status, now and whenever something has changed.
func (t *ticketController) dashboard(c *ginsse.Context[dashboardParams]) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		// What changed while nobody looked does not matter, only that something did: a gap is no reason to stop.
		changes, err := t.all.Subscribe(c.Context(), hub.Latest(), hub.MarkGaps())
		if err != nil {
			yield(sse.Event{}, err)
			return
		}
		// Runs when the client leaves, when the server stops, and when the code below returns or panics.
		defer changes.Close()

		if !yield(sse.Event{Type: "welcome", Data: map[string]string{"role": c.Params.Role}}, nil) {
			return
		}
		// After Subscribe, so that no change falls between the first count and the first message. Each message comes after its change, so the last count is right.
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
