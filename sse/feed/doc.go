// Package feed serves topics, and generators, as event streams over plain net/http.
//
//	mux.Handle("GET /tickets/events", feed.Handler(feed.Of(h, "tickets"), feed.Options{}))
//
// A [Feed] is the messages of one topic or of several, and optionally a Snapshot of the state
// that they change, a Filter and a Map for each client, and a Hello. [Options] are about
// connections: heartbeats, lifetimes, [Limits], a [Drain]. [CORS] wraps a handler.
//
// # What a client sees
//
// A stream begins with a comment and the reconnection time. A client that states no cursor starts
// at Options.Start and first gets an event of type checkpoint, with empty data and the place it
// starts after as id, so that a connection that drops before the first message loses nothing (the
// place before the oldest message has no lasting name: a stream from hub.Earliest has no
// checkpoint where there are messages, and begins there again). A client that states one
// ([sse.LastEventID]) gets what came after it; whatever the cursor holds, the answer is a stream.
//
// Each message is an event with the message's id, type and data. Where messages are gone, an
// event of type gap, with data {}, comes first: the page should load its state anew. A binary
// message has its data in base64 and ";base64" after its type, "message;base64" when it has none.
// The end of a finished topic is an event of type close with empty data; a client that comes back
// with its id is answered 204, on which an EventSource stops. An event of type stream-error, with
// data {}, comes before a connection that is aborted because of a failure.
//
// With a Snapshot, a client without a cursor gets an event of type snapshot instead of the
// checkpoint: the state, with the place it belongs to as id. After a gap another one follows by
// itself; only then the client's cursor moves on. A client that asks for application/json gets
// the state as a document and the cursor in the header Last-Event-ID, to go on from with
// ?lastEventId=. A Hello comes before all of these, on every connection, and a Map's events in
// place of a message, the last one with its id. A client whose messages are filtered out for long
// gets a checkpoint as a heartbeat.
//
// Of several topics each has its own order, and close comes when all are finished. The cursor is
// then longer, and holds a place in each topic. It is taken by a feed of other topics too: those
// that it does not know begin at Options.Start, or with a snapshot.
//
// Silence is broken by comment lines. Streams end cleanly, for the client to come back with its
// cursor, at Options.MaxLifetime, at Options.ExpireAt, when a lease of the request's context is
// revoked ([hub.Hub.Lease]), and when the hub or the server shuts down. But for the first,
// another reconnection time comes last: soon after an expiry or a revocation, spread over clients
// at a shutdown.
//
// # Statuses
//
// What cannot be a stream is answered before the first byte of one, with a JSON body that has the
// status' text, {"error":"not found"}: 404 for a name that can be no topic, 405 for methods other
// than GET and HEAD, 406 for a client that accepts only something else, 500 where the response
// cannot be flushed ([http.TimeoutHandler] and other middleware that buffers), and whatever an
// error made by [Status] says. A client that has read all topics to their end is answered 204.
//
// Other refusals may pass: the backend cannot be reached, a Snapshot or Hello failed, there are
// too many streams, the server shuts down. A client that asks for text/event-stream gets a stream
// that ends at once, with a reconnection time, because an EventSource never comes back from any
// other status; others get 503, or 429 where Limits.PerKey is reached, and Retry-After.
//
// # Who writes
//
// A stream of one topic, without Filter and Map, on a plain HTTP/1.x connection over TCP whose
// response writer is net/http's or Gin's own, is taken over from the server: a few goroutines
// write to all such connections, without blocking and in batches, while the handler's goroutine
// waits for the client to leave. Everything else (HTTP/2, TLS, middleware that wraps the writer,
// several topics, generators) is written by the handler's goroutine. [End].Direct says which it
// was, and [hub.Stats].Watched how many there are. The stream is the same for the client, but for
// a header that says that the connection closes behind it. The server and middleware see of a
// stream that was taken over what they see of any such connection:
//
//   - The headers of the stream are not in the response's Header, and the writer has counted no
//     bytes; the status is 200, or what middleware has set before. Nothing can be written behind
//     the stream: Write is an error, and Flush panics in net/http; in Gin only that of a writer
//     that middleware has kept from before the handler.
//   - http.Server's Shutdown and Close know nothing of it, and its ConnState hook hears
//     StateHijacked last. End streams by a [Drain], or by [hub.Hub.Shutdown].
//   - A connection that a listener of the application has wrapped is written by a goroutine for
//     each write, because only package net's own can be written to without blocking. It is
//     counted as Direct. Give it a method NetConn that returns the inner one, as those of
//     crypto/tls have, for dead clients to be found.
//
// With [Options].Detach the handler of such a stream returns as soon as it has begun, and a
// waiting connection takes a third of the memory. [Listener] has the system find dead clients,
// for the connections that are not taken over.
//
// # Shutdown
//
// http.Server.Shutdown waits for the streams that handlers write, and knows nothing of those that
// were taken over. A [Drain] in the Options ends all of them, feeds and generators, each at a
// moment of its own, so that not all clients come to the other instances at once, and its Wait
// waits for them:
//
//	drain := &feed.Drain{} // in the Options of all handlers
//	server.RegisterOnShutdown(drain.Begin)
//	…
//	err := errors.Join(server.Shutdown(ctx), drain.Wait(ctx), h.Shutdown(ctx))
//
// [hub.Hub.Shutdown] ends the feeds of a hub at once. A request's context that ends with
// [ErrShutdown] as its cause, by http.Server.BaseContext for example, ends its stream like a
// shutdown too. A Snapshot that a request still waits for holds a shutdown up until it returns.
package feed
