// Package sse is the wire format of Server-Sent Events and its two ends.
//
// The server end: [Respond] turns a response of net/http into a stream and
// returns the [Writer] that sends on it. [AppendEvent] and [AppendFrame] build
// frames without a connection, [Encoder] writes them to any [io.Writer].
//
// The client end: [Decoder] and [Read] parse a stream exactly as the WHATWG
// text asks of browsers, [Client] reconnects with the last event ID, which a
// [CursorStore] keeps over restarts of the process. [Follow] gives the messages
// of a feed, its snapshots, gaps and end as Go values.
//
// # Wire form
//
// Every line ends with LF. A field is its name, a colon, exactly one space and
// its value, because a reader removes one space and would otherwise eat one of
// the value. An event is written in the order retry, event, data, id, blank
// line: the id comes last so that a reader which takes over ids line by line
// holds the id of an event that it has not received in full only when the blank
// line is missing.
//
// A client may hold the half of a frame whose connection broke. [AppendTorn] has
// what a stream begins with for those that do.
//
// Data is split on LF, CRLF and CR into one data line each, and a reader joins
// data lines with LF: CR and CRLF in data arrive as LF. A stream is UTF-8:
// bytes that are not arrive as U+FFFD.
//
// The package depends on the standard library only.
package sse
