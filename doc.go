// Package headrace holds no code: it is the root of a library for live feeds, in which a program
// publishes messages to topics, and browsers and other programs follow them over Server-Sent
// Events, in order, from any instance, resuming where they stopped.
//
// Start with the package that fits the program:
//
//   - [github.com/headrace/headrace/ginsse] writes feeds and streams as Gin routes.
//   - [github.com/headrace/headrace/sse/feed] serves topics from plain net/http.
//   - [github.com/headrace/headrace/hub] publishes to topics and follows them in Go; it defines
//     what a backend must do.
//   - [github.com/headrace/headrace/backends] opens a backend by its URL, and backends/memory is
//     the one that needs no server.
//   - [github.com/headrace/headrace/backends/backendtest] tests a backend of your own against the
//     rules.
//   - [github.com/headrace/headrace/sse] is the wire format alone: encoder, decoder, response
//     writer.
package headrace
