package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/headrace/headrace/hub"
)

// Starts is what a request may choose with its query parameter start, beside latest, which it
// always may: earliest, last:20 for the newest 20 messages of each topic, since:10m for those of
// the last ten minutes, or since:2026-01-02T15:04:05Z. What is above a bound is cut to it; anything
// else is answered 400, with a text that names what is allowed. The zero value offers nothing, and
// does not look at the parameter.
//
// A client that states a cursor goes on from there; what it has chosen then counts for topics
// that the cursor does not know, and where the cursor is malformed.
type Starts struct {
	// Earliest allows earliest, all that is retained.
	Earliest bool
	// Last is the greatest number of messages of each topic. Default 0: last is not allowed.
	Last int
	// Since is how far back since may go. Default 0: since is not allowed.
	Since time.Duration
}

// offers reports whether a request may choose anything.
func (s Starts) offers() bool { return s.Earliest || s.Last > 0 || s.Since > 0 }

// position returns what a request has chosen. It reports false for what is not allowed.
func (s Starts) position(text string, now time.Time) (_ hub.Position, ok bool) {
	how, value, valued := strings.Cut(text, ":")
	switch {
	case text == "latest":
		return hub.Latest(), true
	case text == "earliest":
		return hub.Earliest(), s.Earliest
	case how == "last" && valued && s.Last > 0:
		n, ok := count(value, s.Last)
		return hub.Last(n), ok
	case how == "since" && valued && s.Since > 0:
		at, ok := instant(value, now)
		if first := now.Add(-s.Since); at.Before(first) {
			at = first
		}
		return hub.Since(at), ok
	}
	return hub.Position{}, false
}

// words names what is allowed, for a client.
func (s Starts) words() string {
	words := "start can be latest"
	if s.Earliest {
		words += ", earliest"
	}
	if s.Last > 0 {
		words += fmt.Sprintf(", last:1 to last:%d", s.Last)
	}
	if s.Since > 0 {
		words += fmt.Sprintf(", since: and a duration up to %s or a time as in RFC 3339", s.Since)
	}
	return words
}

// count reads a positive number, and cuts what is greater than most.
func count(text string, most int) (n int, ok bool) {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || v == 0 {
		return 0, false
	}
	return int(min(v, uint64(most))), true
}

// instant reads a time, or how long ago it is.
func instant(text string, now time.Time) (at time.Time, ok bool) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), d > 0
	}
	// An offset that was not escaped in the query has a space for its plus.
	at, err := time.Parse(time.RFC3339, strings.ReplaceAll(text, " ", "+"))
	return at, err == nil
}
