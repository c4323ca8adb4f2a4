package feed

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/headrace/headrace/internal/query"
	"github.com/headrace/headrace/sse"
)

// History offers a feed's messages as JSON documents, at the URL of its stream: to read what is
// retained page by page, and for clients behind networks that kill event streams, which poll
// instead. It is for a request that would rather have JSON than a stream (see the package comment),
// with at least one of these query parameters:
//
//   - after is a cursor, the id of an event or the next of a page. Without it the page begins where
//     a stream without a cursor would, and where a Last-Event-ID says that the request has.
//   - limit is the greatest number of messages, up to Limit.
//   - wait is how long to wait for a message when there is none, up to Wait: a Go duration such as
//     20s, or a number of seconds. Without it the page comes at once.
//
// A value above its bound is cut to it, a malformed one is answered 400. Without the parameters
// the document is the feed's Snapshot, as ever.
//
// The page has the same events as the stream would have, after Filter and Map, and without Hello
// and control events:
//
//	{"messages":[{"id":"…","event":"created","data":"…"}],"next":"…"}
//
// event is missing where the message has no type, and id for all events that Map makes of a message
// but the last. next is the cursor for the following request, whatever the page has. "gap":true
// says that messages before these, or among them, are gone: load the state anew. "end":true says
// that the topics are finished or, with Options.EndDeleted, deleted: nothing comes after next. A
// page has about a mebibyte at most, or one message, and it may be empty although there is more,
// because much was filtered out; so ask again, without a pause, whatever comes.
//
// A page counts in Limits, and a Drain waits for it, for as long as it waits. A drain, a shutdown
// of the hub, a revoked lease, Options.ExpireAt and Wait end the waiting: the page is sent as it
// is. A Snapshot is not sent, and does not change where a page begins. A waiting page costs its
// connection and the handler's goroutine.
type History struct {
	// Limit is how many messages a page may have, and has where the request does not say. With Map
	// it may have as many more events as Map makes of one batch. Default 100; at most 1,000.
	Limit int
	// Wait is the longest time that a request may wait. Default 30 s.
	Wait time.Duration
}

const (
	defaultLimit = 100
	mostLimit    = 1000
	defaultWait  = 30 * time.Second
)

// paging is what a request for a page asks for.
type paging struct {
	after  string
	stated bool
	limit  int
	wait   time.Duration
}

// asksForPage reports whether a query has one of the parameters of a page.
func asksForPage(raw string) bool {
	for _, name := range []string{"after", "limit", "wait"} {
		if _, there := query.Value(raw, name); there {
			return true
		}
	}
	return false
}

// paging returns what a request asks for, or in words what it may ask for.
func (h *History) paging(r *http.Request) (p paging, words string) {
	p.limit = min(h.Limit, mostLimit)
	if p.limit <= 0 {
		p.limit = defaultLimit
	}
	longest := positive(h.Wait, defaultWait)
	raw := r.URL.RawQuery
	if p.after, _ = query.Value(raw, "after"); p.after != "" {
		p.stated = true
	} else {
		p.after, p.stated = sse.LastEventID(r)
	}
	var ok bool
	if text, _ := query.Value(raw, "limit"); text != "" {
		most := p.limit
		if p.limit, ok = count(text, most); !ok {
			return p, fmt.Sprintf("limit can be 1 to %d", most)
		}
	}
	if text, _ := query.Value(raw, "wait"); text != "" {
		if p.wait, ok = waiting(text, longest); !ok {
			return p, fmt.Sprintf("wait can be a duration up to %s, or a number of seconds", longest)
		}
	}
	return p, ""
}

// waiting reads a duration, or a number of seconds, and cuts what is longer than longest.
func waiting(text string, longest time.Duration) (_ time.Duration, ok bool) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if !(seconds >= 0) { // not a number, too
			return 0, false
		}
		if seconds >= longest.Seconds() {
			return longest, true
		}
		return time.Duration(seconds * float64(time.Second)), true
	}
	d, err := time.ParseDuration(text)
	return min(d, longest), err == nil && d >= 0
}
