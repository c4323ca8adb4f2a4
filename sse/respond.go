package sse

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/headrace/headrace/internal/query"
	"github.com/headrace/headrace/internal/writers"
)

// ErrNotFlushable means that a response cannot be a stream, because what is
// written to it leaves only when the handler returns. [http.TimeoutHandler] and
// other middleware that buffers is the usual cause.
var ErrNotFlushable = errors.New("sse: the response writer cannot flush")

// Respond makes w a stream and returns the [Writer] that sends on it. It sets
// the headers of [SetHeaders], sends status 200 and the block of [AppendTorn], if
// the client gets one, and flushes, so that the client learns at once that the
// stream is open. The server's WriteTimeout no longer applies to this response.
//
// It returns an error that matches [ErrNotFlushable] before it touches w when w,
// or the writer below those of middleware, cannot flush: the caller
// can still answer with a status. It returns one too when middleware holds back
// what is written and flushed; then it has answered with 500 below that, or has
// broken the connection off, and what the caller writes is lost. Any other error is
// that of the connection.
//
// Behind middleware the stream may begin with a comment. Middleware that waits
// for more before it decides whether to compress gets the header
// Content-Encoding: identity, so that it does not.
//
// A body that was not read to its end is not read any more, and the connection
// is not used for another request then; that the client leaves is noticed by
// writing. With one in chunks, whose client stalls, this takes up to a second.
//
// The Writer must not be used after the handler has returned.
func Respond(w http.ResponseWriter, r *http.Request) (*Writer, error) {
	middleware := w
	w, inner := reach(w)
	if flushed, _ := writers.Flushed(middleware); flushed == nil || !flushable(inner) {
		return nil, ErrNotFlushable
	}
	writer := newWriter(w, r)
	SetHeaders(w.Header(), r.ProtoMajor)
	if r.ProtoMajor == 1 && r.ContentLength != 0 && !writer.consumed(r) {
		// The server reads what is left of a body, before the status to keep the
		// connection for another request, and after the handler in any case, and
		// waits for a client that does not send it.
		w.Header().Set("Connection", "close")
		// A writer without deadlines has no such body either.
		_ = writer.rc.SetReadDeadline(time.Unix(1, 0))
	}
	w.WriteHeader(http.StatusOK)
	if err := open(writer, middleware, inner, AppendTorn(nil, r)); err != nil {
		return nil, err
	}
	return writer, nil
}

// consumed reports whether a request's body was read to its end. Then the server waits for the
// client to leave, and would take a deadline that is over for that.
func (w *Writer) consumed(r *http.Request) bool {
	if r.Body == nil {
		return true
	}
	// Reading nothing waits only for the head of a chunk.
	err := w.rc.SetReadDeadline(time.Now().Add(time.Second))
	if err != nil && r.ContentLength < 0 {
		return false
	}
	if _, err = r.Body.Read(nil); !errors.Is(err, io.EOF) {
		return false
	}
	_ = w.rc.SetReadDeadline(time.Time{}) // one that could be set can be taken back
	return true
}

// SetHeaders sets the response headers of a stream on h: Content-Type, with the
// charset for clients that take text without one for Latin-1, Cache-Control
// without caching and transforming, and X-Accel-Buffering, which stops nginx
// from holding events back. It deletes Content-Length. Connection becomes
// keep-alive on HTTP/1 when it is not set, and is deleted on later versions,
// which forbid it.
func SetHeaders(h http.Header, protoMajor int) {
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Del("Content-Length")
	switch {
	case protoMajor != 1:
		h.Del("Connection")
	case h.Get("Connection") == "": // a server that drains may have said close
		h.Set("Connection", "keep-alive")
	}
}

// LastEventID returns the last event ID that a request states, and whether it
// states one: the header Last-Event-ID, else a query parameter of that name.
// Clients spell it lastEventId, lastEventID, last-event-id, last_event_id or
// evs_last_event_id: letter case, "-" and "_" do not count. Of several parameters
// the last one counts, because clients append theirs to the URL they were given.
// The header comes first because a reconnecting client updates it, while the query
// stays what it was. An empty value states nothing.
//
// The id is what the client sent: it can be of any length and hold any bytes.
func LastEventID(r *http.Request) (id string, ok bool) {
	for _, id := range r.Header.Values("Last-Event-ID") {
		if id != "" {
			return id, true
		}
	}
	if r.URL == nil {
		return "", false
	}
	id = query.Last(r.URL.RawQuery, namesCursor)
	return id, id != ""
}

var separators = strings.NewReplacer("-", "", "_", "")

// namesCursor reports whether a query parameter is the last event ID, in any spelling of it.
func namesCursor(name string) bool {
	const longest = len("evs_last_event_id")
	if len(name) > longest {
		return false
	}
	name = strings.ToLower(separators.Replace(name))
	return name == "lasteventid" || name == "evslasteventid"
}

// flushable looks at the innermost writer: wrappers often have a Flush that does
// nothing when the writer below has none.
func flushable(inner http.ResponseWriter) bool {
	switch inner.(type) {
	case http.Flusher, interface{ FlushError() error }:
		return true
	}
	return false
}
