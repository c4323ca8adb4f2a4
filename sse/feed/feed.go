package feed

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// Feed is what a stream consists of: the messages of one topic, or of several, and what this
// client gets of them. Hub and Topics are required, the rest is optional. The functions are
// called on the goroutine of Serve or, Snapshot, on one of its own, one at a time and never after
// Serve has returned.
type Feed struct {
	// Hub is where the topics are.
	Hub *hub.Hub
	// Topics are the names of the topics; hub.JoinTopic keeps values in them apart. A name that
	// is there twice counts once. Of several topics each has its own order; the cursor holds the
	// places in all of them, at most MaxTopics, and a topic that it does not know begins at
	// Options.Start, so that the set may change from one connection to the next. A topic that is
	// finished is silent from then on, whatever is published to it; the stream ends when all are.
	Topics []string
	// Hello makes an event that every connection begins with, one that resumes too. It is sent
	// without an id: the client's cursor is the feed's business. An error is answered like one of
	// Snapshot. The context ends with the stream, or when the call has taken
	// Options.SnapshotTimeout.
	Hello func(context.Context) (sse.Event, error)
	// Snapshot loads the state that the messages change, to be sent before them, as an event of
	// type snapshot. A string or []byte is sent as it is, anything else as JSON.
	//
	// The place in the topics is fixed before it is called. So whoever changes the state first
	// and then publishes can rely on it that no change is missing; some may be in the snapshot
	// already and come again as messages, so these should say what is, or carry a version, rather
	// than what is to be added.
	//
	// It is sent to clients without a cursor, or with one that does not know all topics, and
	// again after each gap, so that pages heal by themselves. Who resumes without a gap gets
	// none. Options.Start does not count in a feed with a Snapshot. A client that asks for
	// application/json gets the snapshot alone, with the cursor in the header Last-Event-ID; sent
	// back as query parameter lastEventId it is where the stream goes on.
	//
	// An error that carries a status below 500 (Status), when nothing was sent yet, is answered
	// with it. Any other error there, or a state that has no JSON, tells the client to come back
	// later, and one in the stream breaks it off. The context ends with the stream, or when the
	// call has taken Options.SnapshotTimeout; after a gap with the call. After a gap in
	// mid-stream it is called within Options.Retry, at random, because a gap is often
	// everybody's. After gaps at most 64 run at once in a process, of all feeds together.
	Snapshot func(context.Context) (any, error)
	// Filter reports whether this client gets a message. It must not modify the message.
	Filter func(topic string, m *hub.Message) bool
	// Map makes the events of a message for this client, after Filter; no events is as good as
	// filtering. It must not modify the message. The last event gets the message's place as id,
	// whatever id it has, and the others none. An event that sse.AppendEvent refuses, or of a
	// type that hub.CheckType does, breaks the stream off.
	//
	// Filter and Map cost each connection its own work; without them all share the bytes.
	Map func(topic string, m *hub.Message) []sse.Event
}

// Of returns the feed of topics as they are.
func Of(h *hub.Hub, topics ...string) Feed { return Feed{Hub: h, Topics: topics} }

// Errors of Serve about feeds that cannot be served. The client is answered 500.
var (
	// ErrFeed means that a Feed has no Hub or no Topics.
	ErrFeed = errors.New("feed: a feed needs a hub and a topic")
	// ErrTooManyTopics means that there are more than MaxTopics: the cursor over all of them
	// would be longer than clients and proxies can be expected to send back.
	ErrTooManyTopics = errors.New("feed: too many topics for one stream")
)

// MaxTopics is how many topics a stream may have. The cursor then takes up to 1.2 KiB with Redis,
// and 2 KiB with UUIDs.
const MaxTopics = 64

// prepared returns the feed with each topic once, or why it cannot be served.
func (f Feed) prepared() (Feed, error) {
	if f.Hub == nil || len(f.Topics) == 0 {
		return f, ErrFeed
	}
	var distinct []string
	for _, topic := range f.Topics {
		if slices.Contains(distinct, topic) {
			continue
		}
		if len(distinct) == MaxTopics {
			return f, ErrTooManyTopics
		}
		if err := hub.CheckTopic(topic); err != nil {
			return f, err
		}
		distinct = append(distinct, topic)
	}
	f.Topics = distinct
	return f, nil
}

// Handler returns a handler that serves one feed to everybody. See the package comment for what
// clients see.
func Handler(f Feed, o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = Serve(w, r, f, o) // logged there
	})
}

// HandlerFunc returns a handler that serves the feed that a function makes for each request. It
// is the place to authorise, too: for an error made by Status the client gets that status, for
// hub.ErrTopic 404, for any other error 500. The text of errors goes to the log only.
func HandlerFunc(of func(*http.Request) (Feed, error), o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := of(r)
		if err != nil {
			_ = newRequest(w, r, f.Topics, o).refuseFor(err) // answered and logged there
			return
		}
		_ = Serve(w, r, f, o) // logged there
	})
}
