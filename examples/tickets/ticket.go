package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/headrace/headrace/hub"
)

// status is where a ticket stands.
type status string

const (
	statusOpen    status = "open"
	statusPending status = "pending"
	statusClosed  status = "closed"
)

// statuses are all there are, in the order in which people read them.
var statuses = []status{statusOpen, statusPending, statusClosed}

// ticket is what lists and feeds show of a ticket.
type ticket struct {
	ID       string    `json:"id"`
	Subject  string    `json:"subject"`
	Status   status    `json:"status"`
	Assignee string    `json:"assignee"` // "" for nobody
	Comments int       `json:"comment_count"`
	Version  int       `json:"version"` // 1 when created, one more with each change
	Round    int       `json:"round"`   // 1 when created, one more each time it is opened again
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// count returns how many tickets have each status. Counters kept beside the tickets could come to
// disagree with them.
func count(all []ticket) map[status]int {
	counts := make(map[status]int, len(statuses))
	for _, st := range statuses {
		counts[st] = 0
	}
	for _, t := range all {
		counts[t.Status]++
	}
	return counts
}

// comment is one remark on a ticket. ID counts the ticket's comments from 1.
type comment struct {
	ID      int       `json:"id"`
	Text    string    `json:"text"`
	Created time.Time `json:"created"`
}

// thread is a ticket with its comments.
type thread struct {
	ticket
	Comments []comment `json:"comments"`
}

// change is the message that a feed carries: what happened, and the ticket as it is since. A page
// that has the ticket in a later version drops it, so it does no harm to get one twice, or to have
// seen its outcome before.
type change struct {
	Kind    string   `json:"-"`
	Ticket  ticket   `json:"ticket"`
	Comment *comment `json:"comment,omitempty"` // of a commented ticket: the new one
}

// Kinds of change. They are the messages' types, and so the names of the events in a browser.
const (
	kindCreated   = "created"
	kindCommented = "commented"
	kindAssigned  = "assigned"
	kindMoved     = "moved" // to another status
)

var kinds = []string{kindCreated, kindCommented, kindAssigned, kindMoved}

// everything is the topic of the changes of all tickets.
const everything = "tickets"

// topic is the topic of a ticket's own feed. The feed is finished when the ticket is closed, and
// what is finished stays so: a ticket that is opened again has another one.
func (t ticket) topic() string { return topicOfRound(t.ID, t.Round) }

func topicOfRound(id string, round int) string {
	return hub.JoinTopic("tickets", id, strconv.Itoa(round))
}

// topics are where a change is published: the ticket's own topic, and the one of all tickets.
func (c change) topics() []string { return []string{c.Ticket.topic(), everything} }

// finishes reports whether a topic ends with a change.
func (c change) finishes(topic string) bool {
	return c.Kind == kindMoved && c.Ticket.Status == statusClosed && topic == c.Ticket.topic()
}

// refusal is what can be wrong with a request. Its text is for the client.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	errNotFound = refusal("there is no such ticket")
	errClosed   = refusal("the ticket is closed: open it again first")
	errFull     = refusal("there is no room for more: this is an example, with narrow limits")
	errBusy     = refusal("changes are not taken right now: try again")
	errInvalid  = refusal("invalid")
)

// errAway is that the tickets are out of reach. The error has the cause, which is not for the
// client. A change that met it may have been made nevertheless.
var errAway = errors.New("the tickets are out of reach right now: look at them again before you repeat a change")

// errUnchanged is for the stores alone: the ticket already is as it should become.
const errUnchanged = refusal("unchanged")

// Limits keep the example small, wherever its tickets are. Lengths are in characters.
const (
	maxTickets  = 1000
	maxComments = 200
	maxSubject  = 200
	maxText     = 2000
	maxAssignee = 60 // and an agent's name
	maxSessions = 1000
)

// text checks and trims what a user wrote in a field. Comments may have several lines.
func text(field, s string, most int, lines bool) (string, error) {
	s = strings.TrimSpace(s)
	control := func(r rune) bool { return unicode.IsControl(r) && (!lines || r != '\n' && r != '\r' && r != '\t') }
	switch {
	case utf8.RuneCountInString(s) > most:
		return "", fmt.Errorf("%w %s: at most %d characters", errInvalid, field, most)
	case strings.ContainsFunc(s, control):
		return "", fmt.Errorf("%w %s: no control characters", errInvalid, field)
	}
	return s, nil
}

// required is text that may not be empty.
func required(field, s string, most int, lines bool) (string, error) {
	s, err := text(field, s, most, lines)
	if err == nil && s == "" {
		err = fmt.Errorf("%w %s: it must not be empty", errInvalid, field)
	}
	return s, err
}

func parseStatus(s string) (status, error) {
	for _, known := range statuses {
		if s == string(known) {
			return known, nil
		}
	}
	return "", fmt.Errorf("%w status: it must be one of %v", errInvalid, statuses)
}
