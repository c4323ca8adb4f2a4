package sse

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// AppendTorn appends the block that a stream begins with for clients that may still hold a torn
// frame, and returns the extended slice. A torn frame is one whose connection broke before its
// blank line. WebKit's EventSource, and npm eventsource 1 and 2, keep what they have of it and
// append the next stream's first bytes to it: a message comes out that nobody sent, or the cursor
// passes one that was lost.
//
// The block makes of such a frame an event of type torn, to which nobody listens, and leaves the
// client's cursor what r states, or empty where r states none. To every other client it is a block
// without data, which is no event, and a cursor that it has already. An ID that is stated and that
// has control characters, bytes that are not UTF-8, or more than 4 KiB, is not repeated.
//
// Some clients do make an event of a block without data. So nothing is appended for those that do
// not state Cache-Control: no-cache, as an EventSource does, for the fetch of Chromium and Firefox,
// whose developer tools state it for every request, and for clients on Go's net/http, of which
// launchdarkly/eventsource, donovanhide/eventsource and r3labs/sse state it and hand over such a
// block.
//
// [Respond] and package feed send the block by themselves. Whoever writes a stream by other means
// sends it before anything else.
func AppendTorn(dst []byte, r *http.Request) []byte {
	if !mayHoldTorn(r.Header) {
		return dst
	}
	id, stated := LastEventID(r)
	dst = slices.Grow(dst, len("!\nevent: torn\nid: \n\n")+min(len(id), maxRepeated))
	// No field has this name: the half of a line that it ends says nothing any more.
	dst = append(dst, "!\nevent: torn\n"...)
	// A frame that was torn behind its ID has the client's next cursor in it already.
	switch {
	case !stated:
		dst = appendField(dst, "id: ", "")
	case repeatable(id):
		dst = appendField(dst, "id: ", id)
	}
	return append(dst, '\n')
}

// mayHoldTorn reports whether a client may hold a torn frame, and takes a block without data for
// nothing. The engines of Chromium and Firefox hold none, whatever in them asks, and no client in
// Go is known to.
func mayHoldTorn(h http.Header) bool {
	for _, agent := range h["User-Agent"] {
		if strings.Contains(agent, "Chrome/") || strings.Contains(agent, "Firefox/") || strings.HasPrefix(agent, "Go-http-client/") {
			return false
		}
	}
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-cache") {
				return true
			}
		}
	}
	return false
}

// maxRepeated bounds what a client can have sent back to it.
const maxRepeated = 4 << 10

// repeatable reports whether an ID that a client has stated is one that it can have got from a
// stream, and that cannot end the line it is written to.
func repeatable(id string) bool {
	if len(id) > maxRepeated || !utf8.ValidString(id) {
		return false
	}
	for _, r := range id {
		if r < 0x20 || 0x7f <= r && r <= 0x9f {
			return false
		}
	}
	return true
}
