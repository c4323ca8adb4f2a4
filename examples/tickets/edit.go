package main

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"
)

// edit is one change that somebody asks for. What it may do is decided here, and so the same
// whatever store makes it.
type edit struct {
	kind  string
	apply func(t *thread, now time.Time) (*comment, error)
}

// commenting adds a comment to a ticket that is not closed.
func commenting(words string) (edit, error) {
	words, err := required("text", words, maxText, true)
	return edit{kindCommented, func(t *thread, now time.Time) (*comment, error) {
		switch {
		case t.Status == statusClosed:
			return nil, errClosed
		case len(t.Comments) >= maxComments:
			return nil, errFull
		}
		c := comment{ID: len(t.Comments) + 1, Text: words, Created: now}
		t.Comments = append(t.Comments, c)
		t.ticket.Comments = len(t.Comments)
		return &c, nil
	}}, err
}

// assigning gives a ticket that is not closed to somebody, or to nobody for "".
func assigning(assignee string) (edit, error) {
	assignee, err := text("assignee", assignee, maxAssignee, false)
	return edit{kindAssigned, func(t *thread, _ time.Time) (*comment, error) {
		switch {
		case t.Assignee == assignee:
			return nil, errUnchanged
		case t.Status == statusClosed:
			return nil, errClosed
		}
		t.Assignee = assignee
		return nil, nil
	}}, err
}

// moving gives a ticket a status. A closed ticket may be opened again.
func moving(to string) (edit, error) {
	st, err := parseStatus(to)
	return edit{kindMoved, func(t *thread, _ time.Time) (*comment, error) {
		if t.Status == st {
			return nil, errUnchanged
		}
		if t.Status == statusClosed {
			t.Round++
		}
		t.Status = st
		return nil, nil
	}}, err
}

// of makes the change to a copy of a ticket, and returns that with the change to publish. It
// returns errUnchanged when there is nothing to do.
func (e edit) of(t thread) (thread, change, error) {
	t = t.copy()
	now := present()
	c, err := e.apply(&t, now)
	if err != nil {
		return thread{}, change{}, err
	}
	t.Version++
	t.Updated = now
	return t, change{Kind: e.kind, Ticket: t.ticket, Comment: c}, nil
}

// newThread makes a ticket that a store may take.
func newThread(subject string) (thread, error) {
	subject, err := required("subject", subject, maxSubject, false)
	now := present()
	return thread{
		// Random, because the feeds of a durable backend may outlive the tickets: a number would
		// then name another one.
		ticket:   ticket{ID: strings.ToLower(rand.Text()[:10]), Subject: subject, Status: statusOpen, Version: 1, Round: 1, Created: now, Updated: now},
		Comments: []comment{},
	}, err
}

// admit decides whether a store with so many tickets takes one more, and returns the change to
// publish.
func admit(t thread, others int) (change, error) {
	if others >= maxTickets {
		return change{}, errFull
	}
	return change{Kind: kindCreated, Ticket: t.ticket}, nil
}

func present() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func (t thread) copy() thread {
	t.Comments = slices.Clone(t.Comments)
	return t
}
