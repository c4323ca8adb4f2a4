package main

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// store holds the tickets, in memory. It puts every change into the outbox under the lock under which it makes it: so changes are published in the order in
// which they were made, and exactly those that were made.
type store struct {
	outbox *outbox

	mu      sync.RWMutex
	threads map[string]*thread
	order   []string // IDs, oldest first
	counts  map[status]int
}

func newStore(o *outbox) *store {
	return &store{outbox: o, threads: make(map[string]*thread), counts: make(map[status]int)}
}

// list returns all tickets, oldest first.
func (s *store) list() []ticket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]ticket, len(s.order))
	for i, id := range s.order {
		all[i] = s.threads[id].ticket
	}
	return all
}

// get returns a ticket with its comments.
func (s *store) get(id string) (thread, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.threads[id]
	if t == nil {
		return thread{}, errNotFound
	}
	return t.copy(), nil
}

// count returns how many tickets have each status.
func (s *store) count() map[status]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	counts := make(map[status]int, len(statuses))
	for _, st := range statuses {
		counts[st] = s.counts[st]
	}
	return counts
}

// create adds a ticket.
func (s *store) create(subject string) (thread, error) {
	subject, err := required("subject", subject, maxSubject, false)
	if err != nil {
		return thread{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) >= maxTickets {
		return thread{}, errFull
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	t := &thread{
		// Random, because the feeds of a durable backend outlive the store: a number would name another ticket after a restart.
		ticket:   ticket{ID: strings.ToLower(rand.Text()[:10]), Subject: subject, Status: statusOpen, Version: 1, Created: now, Updated: now},
		Comments: []comment{},
	}
	if err := s.outbox.put(change{Kind: kindCreated, Ticket: t.ticket}); err != nil {
		return thread{}, err
	}
	s.threads[t.ID] = t
	s.order = append(s.order, t.ID)
	s.counts[t.Status]++
	return t.copy(), nil
}

// comment adds a comment to a ticket that is not closed.
func (s *store) comment(id, words string) (thread, error) {
	words, err := required("text", words, maxText, true)
	if err != nil {
		return thread{}, err
	}
	return s.change(id, kindCommented, func(t *thread, now time.Time) (*comment, error) {
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
	})
}

// assign gives a ticket that is not closed to somebody, or to nobody for "".
func (s *store) assign(id, assignee string) (thread, error) {
	assignee, err := text("assignee", assignee, maxAssignee, false)
	if err != nil {
		return thread{}, err
	}
	return s.change(id, kindAssigned, func(t *thread, _ time.Time) (*comment, error) {
		switch {
		case t.Assignee == assignee:
			return nil, errUnchanged
		case t.Status == statusClosed:
			return nil, errClosed
		}
		t.Assignee = assignee
		return nil, nil
	})
}

// move gives a ticket a status. A closed ticket may be opened again.
func (s *store) move(id, to string) (thread, error) {
	st, err := parseStatus(to)
	if err != nil {
		return thread{}, err
	}
	return s.change(id, kindMoved, func(t *thread, _ time.Time) (*comment, error) {
		if t.Status == st {
			return nil, errUnchanged
		}
		t.Status = st
		return nil, nil
	})
}

// change makes one change to a ticket and puts it into the outbox, or does neither.
func (s *store) change(id, kind string, apply func(*thread, time.Time) (*comment, error)) (thread, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.threads[id]
	if t == nil {
		return thread{}, errNotFound
	}
	// On a copy, which replaces the ticket once the outbox has taken the change.
	next := t.copy()
	now := time.Now().UTC().Truncate(time.Millisecond)
	c, err := apply(&next, now)
	switch {
	case errors.Is(err, errUnchanged):
		return next, nil
	case err != nil:
		return thread{}, err
	}
	next.Version++
	next.Updated = now
	if err := s.outbox.put(change{Kind: kind, Ticket: next.ticket, Comment: c}); err != nil {
		return thread{}, err
	}
	s.counts[t.Status]--
	s.counts[next.Status]++
	*t = next
	return next.copy(), nil
}

func (t *thread) copy() thread {
	c := *t
	c.Comments = slices.Clone(t.Comments)
	return c
}
