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
// client gets of them. Hub and Topics are required, the rest is optional.
//
// For one stream the functions are called one at a time. A function that several streams share,
// as with Handler, is called for several of them at once. Hello and the first Snapshot run on the
// goroutine of Serve, a Snapshot after a gap on a goroutine of its own, Filter and Map on
// whichever goroutine writes the stream. None is called after the stream has ended. With
// Options.Detach that may be long after Serve has returned: Snapshot, Filter and Map must then
// not use the ResponseWriter, the request's body, or anything else that the server or a framework
// takes back. Package ginsse gives them a copy of its gin.Context.
//
// A panic of one of them aborts the connection, behind an event of type stream-error. It goes on
// from Serve, where middleware can recover it; in a detached stream it is logged.
type Feed struct {
	// Hub is where the topics are.
	Hub *hub.Hub
	// Topics are the names of the topics; hub.JoinTopic keeps values in them apart. At most
	// MaxTopics are allowed, and a name that is there twice counts once. Each topic has an order
	// of its own. The cursor holds the positions in all of them. A topic that it does not know
	// begins at Options.Start, so the set may change from one connection to the next. A topic
	// that is finished is silent from then on, whatever is published to it; the stream ends when
	// all are finished.
	Topics []string
	// Hello makes an event that every connection begins with, one that resumes too. It is sent
	// without an id: the client's cursor is the feed's business. An error is answered like one of
	// Snapshot. The context ends with the stream, or when the call has taken
	// Options.SnapshotTimeout.
	Hello func(context.Context) (sse.Event, error)
	// Snapshot loads the state that the messages change. It is sent before them, as an event of
	// type snapshot. A string or []byte is sent as it is, anything else as JSON.
	//
	// The position in the topics is fixed before it is called. So if you change the state first
	// and then publish, no change is missing. Some changes may be in the snapshot already and
	// come again as messages; so a message should say what is, or carry a version, rather than
	// what is to be added.
	//
	// It is sent to clients without a cursor, or with one that does not know all topics, and
	// again after each gap (a snapshot reload), so that pages are right again by themselves. Who
	// resumes without a gap gets none. Options.Start does not count in a feed with a Snapshot. A
	// client that asks for application/json gets the snapshot alone, with the cursor in the
	// header Last-Event-ID; a stream goes on from it when the client sends it as query parameter
	// lastEventId.
	//
	// Before the first byte, an error with a status below 500 (see Status) is sent as that
	// status; any other error, or a state that has no JSON, asks the client to come back later.
	// Once the stream has begun, an error aborts it. The context ends with the stream, or when
	// the call has taken Options.SnapshotTimeout; that of a reload ends with the call. A reload
	// begins at a random time within Options.Retry, because a gap is often everybody's, and at
	// most 64 run at once in a process, of all feeds together.
	Snapshot func(context.Context) (any, error)
	// Filter reports whether this client gets a message. It must be quick, and must not modify
	// the message. It is not asked about the end of a topic.
	//
	// On the engine it runs on a goroutine that writes to many connections, as long as all calls
	// for one batch of messages together take less than a millisecond. Where they are slow, or
	// were not quick often enough yet, it runs on a goroutine of the connection's own. A call
	// that does not return holds its own stream up until it returns, and no other: that stream
	// gets no heartbeats and cannot end meanwhile, so Serve and Drain.Wait wait for it. See the
	// package comment.
	Filter func(topic string, m *hub.Message) bool
	// Map makes the events of a message for this client, after Filter; no events is as good as
	// filtering. It must be quick, as Filter, and runs where that runs. It must not modify the
	// message. The last event gets the message's cursor as id, whatever id it has, and the others
	// none. An event that sse.AppendEvent refuses, or of a type that hub.CheckType does, aborts
	// the stream; the type of the message itself is allowed.
	//
	// Filter and Map cost each connection a call for each message, and the events of Map are
	// encoded for each connection. Without Map all connections share the bytes.
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

// HandlerFunc returns a handler that serves the feed that a function makes for each request. The
// function should authorise, too: for an error made by Status the client gets that status, for
// hub.ErrTopic 404, for any other error 500. The text of errors goes to the log only. The
// function is called on the handler's goroutine, for several requests at once.
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
