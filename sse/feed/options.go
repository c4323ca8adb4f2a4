package feed

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// Options are the settings of a stream. The zero value is right for most; durations that are not
// positive count as zero.
type Options struct {
	// Start is where a client starts that states no cursor, or a malformed one. Any position is
	// fine. Default hub.Latest(). Generators, and feeds with a Snapshot, ignore it.
	Start hub.Position
	// Starts is what a request may choose instead of Start, by its query parameter start. Default:
	// nothing, and then the parameter is the application's own. Generators, and feeds with a
	// Snapshot, ignore it.
	Starts Starts
	// ReplayMessages and ReplayBytes bound how much is sent for one connect to a client whose
	// cursor is well formed and unknown: of a topic's former life, of another topic, or so old that
	// its messages are gone. It gets a gap, and then the newest retained messages that are so many,
	// and that have about so many bytes. What the bounds leave out is part of the gap. Topics of
	// one feed that may be unknown share the bounds in equal parts, of at least one message each.
	// Defaults 1,000 and 1 MiB.
	ReplayMessages int
	ReplayBytes    int64
	// Absent is the status that answers a request for topics of which none exists: 204, on which an
	// EventSource stops, or 404. The backend is asked before the stream begins, within
	// ConnectTimeout; a topic of a backend that cannot tell counts as one that exists. Default 0: a
	// stream that waits for the first message. Any other value is ErrOptions.
	Absent int
	// EndDeleted ends the stream, with close behind the gap, when all of its topics are deleted or
	// finished. A client that comes back with the cursor of that close is answered 204, as long as
	// the name is not used again. Default: the gap is said, and the stream waits for what is
	// published under the name next.
	EndDeleted bool
	// History offers messages as JSON documents at the feed's URL, for clients that cannot hold an
	// event stream. Default nil: not offered.
	History *History
	// Heartbeat is the silence after which a comment line is sent. Default 15 s.
	Heartbeat time.Duration
	// VisibleHeartbeats makes heartbeats events of type heartbeat with data {}, which a page can
	// see: one at once, and then one in each Heartbeat, whatever else is sent. A request asks for
	// the same by the query parameter heartbeat, the seconds from 5 to 60. Default: comment lines.
	VisibleHeartbeats bool
	// MessagesOnly leaves out every event that is neither a message nor a Hello or Snapshot, for
	// readers that take each event's data for one of their own payloads. The block of
	// sse.AppendTorn stays: it has no data. The parameter heartbeat then sets the interval alone.
	//
	// It costs: a client that is cut off before its first message starts anew and loses what came
	// meanwhile; lost messages are not said; messages that Filter keeps back are looked through
	// again after each connection that brought none; failures and the end of a feed look like any
	// other end, and who comes back to a finished feed without a cursor at its last message may do
	// so again and again. Default: control events are sent.
	MessagesOnly bool
	// Retry is the least time that clients are asked to wait before they reconnect; each is told
	// a random time up to half as long again. Default 2 s.
	Retry time.Duration
	// WriteTimeout is how long a client may take for 64 KiB, or for the whole of a shorter write,
	// before it counts as gone. Shutdown may have to wait for as long. It replaces
	// http.Server.WriteTimeout for the stream. Default 10 s.
	WriteTimeout time.Duration
	// MaxLifetime is when a connection is ended for the client to come back, give or take 20 % at
	// random, so that load moves to new instances. A deadline of the request's context is such an
	// end, too. Default 1 h.
	MaxLifetime time.Duration
	// NoRotation lets connections live as long as they can; MaxLifetime is ignored.
	NoRotation bool
	// ExpireAt ends the stream at a time, such as that of the token it was opened with, or a
	// little before, at random: at most a second and a twentieth of what is left. The client is
	// back soon after it, to be checked anew. The zero time never comes.
	ExpireAt time.Time
	// Ending is how a stream ends that its client is to come back to. Default CleanEnds.
	Ending Ending
	// ConnectTimeout is how long a client waits for the backend before the stream begins. Default
	// 5 s.
	ConnectTimeout time.Duration
	// SnapshotTimeout is how long a feed's Hello, and each run of its Snapshot, may take before
	// their context ends and the client is told to come back later. A function that does not heed
	// its context is waited for. Default 30 s.
	SnapshotTimeout time.Duration
	// Limits bounds how many streams are open at once. Default nil: as the zero Limits.
	Limits *Limits
	// Drain ends the stream when the server shuts down. Default nil: only the hub's Shutdown, for
	// feeds, and the request's context end it.
	Drain *Drain
	// Post has POST answered as GET is, for clients that send a body with fetch. Before the answer
	// begins, what the handler has not read of the body is read and dropped: at most 64 KiB, else
	// the answer is 413, and for ConnectTimeout, else it is 408. That needs a response writer that
	// has a read deadline.
	//
	// A page of any origin can send a POST, with this one's cookies, and without asking if it is
	// one that a form could send. So what a handler does before Serve must be safe against that.
	// Default false: POST is answered 405.
	Post bool
	// Detach lets Serve return, and middleware unwind, as soon as the stream has begun, wherever
	// the stream is on the engine (see the package comment). The handler's goroutine and what the
	// request holds are given back, and a waiting connection costs a third of the memory.
	//
	// Serve then returns nil, and OnEnd tells how the stream went. Middleware measures the
	// connecting only. The end of the request's context, of the server's BaseContext for example,
	// does not reach the stream; Drain and the hub's Shutdown do. Snapshot, Filter and Map may be
	// called when the handler has returned; see Feed.
	//
	// It changes nothing for streams that are not on the engine, for generators, where the
	// request's context has a deadline, and where a lease was taken under another context than
	// Detachable's (package ginsse takes leases under that one). Default false.
	Detach bool
	// Logger gets the begin and end of streams at level Debug, and what an operator should know
	// at Warn and Error. Default slog.Default().
	Logger *slog.Logger
	// OnEnd is called once at the end of each stream that was opened, for several streams at
	// once. It runs on the handler's goroutine, or on one of the connection's own if the stream
	// is detached. Default: nobody is told.
	OnEnd func(End)
}

// End is how a stream went.
type End struct {
	// Topics are the topics of a feed; a generator has none.
	Topics []string
	// Cause is why it ended, for errors.Is with the causes of this package; never nil.
	Cause error
	// Events counts messages, or events of a generator, that were written; control events do not
	// count.
	Events int
	// Bytes counts what was written, without headers, chunk headers and the block of
	// sse.AppendTorn.
	Bytes int64
	// Direct says that the stream was on the engine: its connection was taken over from the server.
	Direct bool
	// Why says in a few words why it was not, "" if it was: "HTTP/2.0", "TLS", "a generator", or
	// "the response writer is wrapped: " and the type that wraps it, for example. The words are
	// for people and may change.
	Why string
	// Duration is the time since the stream was opened.
	Duration time.Duration
}

const defaultWriteTimeout = 10 * time.Second

// fill puts defaults in the place of what is not set.
func (o *Options) fill() {
	o.Heartbeat = positive(o.Heartbeat, 15*time.Second)
	o.Retry = positive(o.Retry, 2*time.Second)
	o.WriteTimeout = positive(o.WriteTimeout, defaultWriteTimeout)
	o.MaxLifetime = positive(o.MaxLifetime, time.Hour)
	o.ConnectTimeout = positive(o.ConnectTimeout, 5*time.Second)
	o.SnapshotTimeout = positive(o.SnapshotTimeout, 30*time.Second)
	if o.ReplayMessages <= 0 {
		o.ReplayMessages = 1000
	}
	if o.ReplayBytes <= 0 {
		o.ReplayBytes = 1 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// check returns ErrOptions for options that are wrong, and not only out of range.
func (o Options) check() error {
	switch o.Absent {
	case 0, http.StatusNoContent, http.StatusNotFound:
		return nil
	}
	return fmt.Errorf("%w: Absent is %d, and can be 0, 204 or 404", ErrOptions, o.Absent)
}

func positive(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// config returns what a connection's machine is told, with the random parts drawn.
func (o Options) config() session.Config {
	c := session.Config{
		Retry:     o.retry(),
		EndRetry:  time.Second + upTo(time.Second),
		Heartbeat: o.Heartbeat,
		Visible:   o.VisibleHeartbeats && !o.MessagesOnly,
		Quiet:     o.MessagesOnly,
		ExpireAt:  o.ExpireAt,

		BreakRotation: o.Ending != CleanEnds,
		BreakOthers:   o.Ending == BreakEnds,
	}
	if left := time.Until(o.ExpireAt); left > 0 {
		early := upTo(min(left/20, time.Second))
		c.ExpireAt = c.ExpireAt.Add(-early)
		c.EndRetry += early // who comes back too early would be let in for what is left
	}
	c.EndRetry = c.EndRetry.Round(time.Millisecond)
	if o.Drain != nil {
		c.OnClosing = o.Drain.onBegin
		drain, delay := o.Drain, upTo(o.Drain.window())
		// And not o, of which each stream would hold a copy.
		c.DrainAt = func() time.Time { return drain.beginning().Add(delay) }
	}
	c.DrainRetry = (o.retry() + upTo(o.Drain.window())).Round(time.Millisecond)
	if !o.NoRotation {
		fifth := o.MaxLifetime / 5
		c.Lifetime = o.MaxLifetime - fifth + upTo(2*fifth)
	}
	return c
}

// retry draws a reconnection time, in whole milliseconds as the wire has them.
func (o Options) retry() time.Duration {
	return (o.Retry + upTo(o.Retry/2)).Round(time.Millisecond)
}

// upTo draws a duration from 0 to d.
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }
