// Package feed serves topics, and generators, as event streams over plain net/http.
//
//	mux.Handle("GET /tickets/events", feed.Handler(feed.Of(h, "tickets"), feed.Options{}))
//
// A [Feed] is the messages of one topic or of several. It may have a Snapshot of the state that
// they change, a Filter and a Map for each client, and a Hello. [Options] are about connections:
// heartbeats, lifetimes, [Limits], a [Drain]. [CORS] wraps a handler.
//
// # What a client sees
//
// A stream begins with a comment and the reconnection time. Before them, a client that may hold
// half an event of a connection that broke gets an event of type torn without data, which
// browsers do not report (see [sse.AppendTorn]). A client that states no cursor starts at
// Options.Start, or where it has chosen within Options.Starts. It first gets an event of type
// checkpoint, with empty data and the ID that it starts after, so that a connection that drops
// before the first message loses nothing. A stream from the oldest retained message of one topic
// has no checkpoint: the position before that message has no lasting ID. It begins there again.
//
// A client that states a cursor, in the header or in the query (see [sse.LastEventID]), gets what
// came after it. Whatever the cursor holds, the answer is a stream:
//
//   - Of a cursor that is known nothing is lost, and there is no gap.
//   - A cursor that is well formed and unknown (so old that messages are gone, of a deleted topic
//     or of its former life, of another store or of other topics) gets a gap, and then the newest
//     retained messages, at most Options.ReplayMessages and Options.ReplayBytes.
//   - A cursor that is malformed gets a gap, and then what a client without a cursor gets. So does
//     a plain ID at a feed of several topics.
//
// A gap that no message follows at once has an id, from which the stream goes on without a gap.
//
// Each message is an event with the message's id, type and data. Where messages are gone, an
// event of type gap, with data {}, comes first: the page should load its state anew. A binary
// message has its data in base64 and ";base64" after its type, "message;base64" when it has
// none. A finished topic ends with an event of type close with empty data, which states a
// reconnection time of a minute or more, because many clients come back even from 204. A client
// that comes back with its id is answered 204, on which an EventSource stops. A topic that is
// deleted is a gap, and with Options.EndDeleted an end like this one. An event of type
// stream-error, with data {}, comes before a connection that is aborted because of a failure.
//
// With a Snapshot, a client without a cursor gets an event of type snapshot instead of the
// checkpoint: the state, with the cursor that it belongs to as id. After a gap another one
// follows by itself, and only then the client's cursor moves on. A client that asks for
// application/json gets the state as a document, and in the header Last-Event-ID the cursor from
// which a stream goes on with ?lastEventId=.
//
// With a [History], a client that asks for application/json and states where gets the messages as
// pages, and can wait for the next one: for networks that kill event streams.
//
// A Hello comes before all of these events, on every connection, right behind the comment and the
// reconnection time. A Map's events stand for the message,
// and the last one has its id. A client whose messages are filtered out for long gets a
// checkpoint as a heartbeat.
//
// Several topics each have an order of their own, and close comes when all are finished. The
// cursor is then longer, and holds a position in each topic. A feed of some of them, and of more,
// takes it too: topics that it does not know begin at Options.Start, or with a snapshot.
//
// Comment lines break the silence. The response's header Heartbeat-Interval states after how many
// seconds of it one is sent; who hears nothing for several of these may come back. A page hears no
// comments: with the query parameter heartbeat=SECONDS (from 5 to 60), or
// Options.VisibleHeartbeats, an event of type heartbeat with data {} and no id comes at once, and
// then as often as that.
//
// Options.MessagesOnly leaves checkpoint, gap, close, stream-error and heartbeat out, for readers
// that take each event's data for a payload of their own, and says what that costs.
//
// Streams end cleanly, for the client to come back with its cursor, at Options.MaxLifetime or a
// deadline of the request's context, at Options.ExpireAt, when a lease of the request's context is
// revoked ([hub.Hub.Lease]), and when the hub or the server shuts down. Except for a rotation, such
// an end states another reconnection time: a short one after an expiry or a revocation, and one
// that differs between clients at a shutdown. For clients that take a clean end for the end of
// everything, [Options].Ending breaks the connection off instead.
//
// # Middleware
//
// Where middleware wraps the response writer, the stream goes through its writer. Compression is
// fine: what decides at its first bytes compresses, and what waits for more before it decides gets
// Content-Encoding: identity and lets the stream through. A writer that holds back what is flushed
// is answered past, with 500, and the log says so at Error. A writer that hides SetWriteDeadline,
// because it has no method Unwrap and embeds no ResponseWriter, lets http.Server.WriteTimeout cut
// the stream off: the log says so at Warn, once for each type, and the cause is [ErrServerTimeout].
//
// Middleware must not write behind a stream. In routes of ginsse what it writes to the context's
// Writer is dropped. With net/http it becomes part of a stream that the handler has written, and is
// an error, and a line in the server's log, where the connection was taken over.
//
// # Stream or JSON
//
// The header Accept decides, as RFC 9110 has it. Of the media ranges that match a form of the
// answer the most precise one counts, wherever it stands: text/event-stream, text/*, */*. A
// parameter charset=utf-8 makes a range more precise. One with other parameters counts where no
// other range names the form, and excludes nothing. A weight of 0 excludes. What is malformed is
// left out, and who states nothing takes anything.
//
// JSON is sent where the feed offers it, by a Snapshot or to a request for a page of a History, and
// where the client gives it the greater weight. At the same weight it is sent if the client names
// it more precisely than a stream: "application/json, */*" asks for JSON, and "*/*" and
// "application/json, text/event-stream" for a stream. Who takes none of what there is gets 406.
//
// # Methods
//
// HEAD has the status and the header of GET, as far as they are known before a stream begins:
// nothing is opened, counted or loaded. So it does not know that a client has read all topics to
// their end, that there are too many streams, or that the backend is away.
//
// POST is for clients that send a body with fetch, and is answered where Options.Post says so. The
// handler reads the body, or leaves it, and then calls Serve or Generate.
//
// # Statuses
//
// What cannot be a stream is answered before its first byte, with a JSON body that has the status'
// text, {"error":"not found"}. It is 404 for a name that can be no topic, 405 for methods that are
// not allowed, 413, 408 or 400 for a body that is too large, too slow or broken, 406 for a client
// that accepts only something else, 500 where the response cannot be flushed ([http.TimeoutHandler]
// and other middleware that buffers), and whatever an error made by [Status] or [Unauthorized]
// says. A client that has read all topics to their end is answered 204.
//
// Other refusals may pass: the backend cannot be reached, a Snapshot or Hello failed, there are too
// many streams, the server shuts down. A client that asks for text/event-stream by name, and would
// not rather have JSON, then gets a stream that ends at once and states a reconnection time,
// because an EventSource never comes back from any other status. Others get 503, or 429 where
// Limits.PerKey is reached, and Retry-After. [Refuse] answers a request of your own in the same
// way.
//
// There are too many streams where Limits says so, and without any Limits where the streams of the
// process would leave it too few file descriptors to accept requests (Limits.Process). The latter
// is logged at Warn.
//
// # What runs on the engine
//
// Most feeds are written by the engine: a few goroutines, one for each CPU, that write to all
// connections, without blocking and in batches. A stream is on the engine when
//
//   - it is a feed, with any number of topics, with or without Filter, Map, Hello and Snapshot,
//   - the request came over HTTP/1.x and plain TCP, without a body (that of a POST was read
//     then), and
//   - the response writer is net/http's own, or Gin's own.
//
// Then Serve takes the connection over from the server, and the handler's goroutine only waits
// for the client to leave. In all other cases (HTTP/2, TLS, middleware that wraps the writer,
// generators) the handler's goroutine writes. [End].Direct says which it was, and [End].Why says
// what kept the stream off the engine. The client sees the same stream, except for a header that
// says that the connection closes behind it.
//
// A wrapped writer is not looked through, even if it has a method Unwrap or Hijack: writers that
// compress have both, and a stream that went past them would reach the client as something else.
// To put a stream on the engine, take the middleware off its route.
//
// The server and middleware see of such a stream what they see of any connection that was taken
// over:
//
//   - The headers of the stream are not in the response's Header, and the writer has counted no
//     bytes. The status is 200, or what middleware has set before.
//   - Nothing can be written behind the stream. Write is an error. Flush panics in net/http; in
//     Gin it does so only for a writer that middleware has kept from before the handler.
//     [TakenOver] tells.
//   - http.Server's Shutdown and Close know nothing of it, and its ConnState hook hears
//     StateHijacked last. End streams by a [Drain], or by [hub.Hub.Shutdown].
//   - A connection that a listener of the application has wrapped is written by a goroutine for
//     each write, because only package net's own can be written to without blocking. It counts as
//     Direct. Put [Listener] around that listener, and give the connection a method NetConn that
//     returns the inner one, as those of crypto/tls have: then the system finds dead clients.
//
// With [Options].Detach the handler of such a stream returns as soon as it has begun, and a
// waiting connection takes a third of the memory. [Listener] has the system find dead clients
// among the connections that are not taken over.
//
// # Filter and Map
//
// Filter and Map are your code, and each client costs a call for each message. They must be
// quick: compute, do not wait. On the engine they run on one of its goroutines, as long as all
// calls for a batch of messages together take less than 0.25 ms. A connection whose calls
// were slow, or that is new, gets a goroutine of its own each time it has something to write,
// until its calls were quick for long enough. A call that takes long, or that never returns,
// holds up its own stream only: that one gets no messages and no heartbeats, and cannot end, until
// the call returns. Others lose a few milliseconds at most when calls turn out to be slow. Where
// the handler writes, Filter and Map run on its goroutine.
//
// # Shutdown
//
// http.Server.Shutdown waits for the streams that handlers write, and knows nothing of those that
// were taken over. A [Drain] in the Options ends all of them, feeds and generators, each at a
// moment of its own, so that the clients do not all come to the other instances at once. Its Wait
// waits for them:
//
//	drain := &feed.Drain{} // in the Options of all handlers
//	server.RegisterOnShutdown(drain.Begin)
//	…
//	err := errors.Join(server.Shutdown(ctx), drain.Wait(ctx), h.Shutdown(ctx))
//
// [hub.Hub.Shutdown] ends the feeds of a hub at once. A request's context that ends with
// [ErrShutdown] as its cause, by http.Server.BaseContext for example, ends its stream like a
// shutdown too. A Snapshot, Filter or Map that is running holds a shutdown up until it returns.
package feed
