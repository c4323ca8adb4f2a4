package direct

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/headrace/headrace/internal/writers"
	"github.com/headrace/headrace/sse"
)

// TakeOver takes a connection over from its server where an engine can carry it: a plain TCP
// connection of HTTP/1.x, whose response nobody but the server, or Gin, stands before. It is done
// before any header is written, which leaves the server with less to keep. detached is as for
// newSocket.
//
// Else the socket is nil, nothing was done, and why says in a few words what is in the way.
func TakeOver(w http.ResponseWriter, r *http.Request, writeTimeout time.Duration, detached bool) (s Socket, why string) {
	if why := obstacle(w, r); why != "" {
		return nil, why
	}
	server := http.NewResponseController(w)
	if server.SetReadDeadline(time.Time{}) != nil {
		return nil, "no read deadline" // Hijack would wait for the client to send something
	}
	conn, in, err := server.Hijack()
	if err != nil {
		return nil, "the server keeps the connection"
	}
	return newSocket(conn, in, chunked(r), writeTimeout, detached), ""
}

// obstacle returns what keeps a connection from being taken over, "" if nothing does.
func obstacle(w http.ResponseWriter, r *http.Request) string {
	switch {
	case r.ProtoMajor != 1:
		return r.Proto
	case r.TLS != nil:
		return "TLS"
	case r.ContentLength != 0:
		return "the request has a body"
	}
	if foreign := wrapper(w); foreign != nil {
		return "the response writer is wrapped: " + foreign.String()
	}
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); !ok || addr.Network() != "tcp" {
		return "no TCP connection"
	}
	if h := w.Header(); h["Transfer-Encoding"] != nil || h["Trailer"] != nil {
		return "Transfer-Encoding or Trailer is set" // the server knows what to make of them
	}
	return ""
}

// wrapper returns the type of the outermost response writer that is neither the server's own nor
// Gin's over it, nil if there is none. Any other may do something to what is written: that it has
// an Unwrap or a Hijack does not say that it only counts, since writers that compress have both.
func wrapper(w http.ResponseWriter) reflect.Type {
	t := reflect.TypeOf(w)
	if writers.IsGin(w) {
		below, _ := writers.Below(w)
		t = reflect.TypeOf(below)
	}
	if writers.Is(t, "net/http", "response") {
		return nil
	}
	return t
}

// TakenOver reports whether the connection below a response writer was taken over from its
// server. The server panics when middleware flushes such a writer.
func TakenOver(w http.ResponseWriter) bool {
	if wrapper(w) != nil {
		return false // behind any other no connection is taken over
	}
	_, err := w.Write(nil)
	return errors.Is(err, http.ErrHijacked)
}

// ResponseTo returns the response of a stream to an HTTP/1 request: what middleware has set in h,
// which is not changed, what the server would have added, and what sse.Respond would send with it.
func ResponseTo(r *http.Request, h http.Header) Response {
	chunked := chunked(r)
	var b bytes.Buffer
	b.Grow(headBytes)
	b.WriteString("HTTP/1." + strconv.Itoa(min(r.ProtoMinor, 1)) + " 200 OK\r\n")
	_ = h.WriteSubset(&b, ours) // to memory
	b.Write(ourHeader)
	if _, set := h["Date"]; !set {
		b.WriteString("Date: ")
		b.Write(time.Now().UTC().AppendFormat(b.AvailableBuffer(), http.TimeFormat))
		b.WriteString(crlf)
	}
	if chunked {
		b.WriteString("Transfer-Encoding: chunked" + crlf)
	}
	b.WriteString(crlf)
	if torn := sse.AppendTorn(nil, r); len(torn) > 0 {
		writeFramed(&b, torn, chunked)
	}
	return Response{Head: b.Bytes(), Chunked: chunked}
}

// writeFramed writes the first bytes of a body.
func writeFramed(b *bytes.Buffer, p []byte, chunked bool) {
	if !chunked {
		b.Write(p)
		return
	}
	b.Write(appendChunkHead(b.AvailableBuffer(), len(p)))
	b.Write(p)
	b.WriteString(crlf)
}

// headBytes is room for a usual head.
const headBytes = 512

// ours are the headers of h that a stream does not have, or has a value of its own for. ourHeader
// is those that it has, the same for every stream, as they go out.
var ours, ourHeader = func() (map[string]bool, []byte) {
	h := http.Header{}
	sse.SetHeaders(h, 1)
	h.Set("Connection", "close")
	exclude := map[string]bool{"Content-Length": true, "Transfer-Encoding": true}
	for name := range h {
		exclude[name] = true
	}
	var b bytes.Buffer
	_ = h.Write(&b) // to memory
	return exclude, b.Bytes()
}()

// chunked reports whether the response is in chunks, which HTTP/1.0 does not know.
func chunked(r *http.Request) bool { return r.ProtoMinor > 0 }
