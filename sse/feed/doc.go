// Package feed serves topics, and generators, as event streams over plain net/http.
//
//	mux.Handle("GET /tickets/events", feed.Handler(feed.Of(h, "tickets"), feed.Options{}))
//
// # What a client sees
//
// A stream begins with a comment and the reconnection time. A client that states no cursor starts at Options.Start and first gets an event
// of type checkpoint, with empty data and the place it starts after as id, so that a connection that drops before the first message loses nothing (the place before the
// oldest message has no lasting name: a stream from hub.Earliest has no checkpoint where there are messages, and begins there again). A client that states one
// ([sse.LastEventID]) gets what came after it; whatever the cursor holds, the answer is a stream.
//
// Each message is an event with the message's id, type and data. Where messages are gone, an event of type gap, with data {}, comes first: the page
// should load its state anew. A binary message has its data in base64 and ";base64" after its type, "message;base64" when it has none. The end of a finished topic is
// an event of type close with empty data; a client that comes back with its id is answered 204, on which an EventSource stops. An event of type stream-error,
// with data {}, comes before a connection that is aborted because of a failure.
//
// Silence is broken by comment lines. Streams end cleanly, for the client to come back with its cursor, at Options.MaxLifetime, at
// Options.ExpireAt, and when the hub or the server shuts down; then another reconnection time comes last, spread over clients.
//
// # Statuses
//
// What cannot be a stream is answered before the first byte of one: 404 for a name that can be no topic, 405 for methods other than GET and HEAD, 406 for a
// client that accepts only something else, 500 where the response cannot be flushed ([http.TimeoutHandler] and other middleware that buffers). While
// the backend cannot be reached, a client that asks for text/event-stream gets a stream that ends at once, with a reconnection time, because an
// EventSource never comes back from any other status; others get 503 and Retry-After.
//
// # Shutdown
//
// [hub.Hub.Shutdown] ends the feeds of a hub. Independently, a request's context that ends with [ErrShutdown] as its cause ends its stream like a
// shutdown; http.Server.BaseContext and RegisterOnShutdown can bring that about for all of a server's streams:
//
//	ctx, cancel := context.WithCancelCause(context.Background())
//	server.BaseContext = func(net.Listener) context.Context { return ctx }
//	server.RegisterOnShutdown(func() { cancel(feed.ErrShutdown) })
package feed
