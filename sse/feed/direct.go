package feed

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"time"

	"github.com/headrace/headrace/internal/delivery"
	"github.com/headrace/headrace/sse"
)

// engine serves the connections that can be taken over. It has goroutines only while it has connections, so that it may be everybody's: connections of different
// hubs share nothing but these.
var engine delivery.Engine

// takeOver takes the connection over from the server where the engine can serve it: a plain TCP connection of HTTP/1.x, whose response nobody but the server, or Gin, stands before, and a feed whose bytes
// all clients share. It is done before any header is written, which leaves the server with less to keep. Nil means that the handler's own goroutine is to serve it.
func (c *connection) takeOver() delivery.Socket {
	r, f := c.r, &c.feed
	if len(f.Topics) > 1 || f.Filter != nil || f.Map != nil || r.ProtoMajor != 1 || r.TLS != nil || r.ContentLength != 0 || !bare(c.w) {
		return nil
	}
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); !ok || addr.Network() != "tcp" {
		return nil
	}
	if h := c.w.Header(); h["Transfer-Encoding"] != nil || h["Trailer"] != nil {
		return nil // the server knows what to make of them
	}
	server := http.NewResponseController(c.w)
	if server.SetReadDeadline(time.Time{}) != nil {
		return nil // Hijack would wait for the client to send something
	}
	conn, in, err := server.Hijack()
	if err != nil {
		return nil
	}
	c.taken = true
	return delivery.NewSocket(conn, in, c.chunked(), c.o.WriteTimeout, c.life != nil)
}

// chunked reports whether the response is in chunks, which HTTP/1.0 does not know.
func (c *connection) chunked() bool { return c.r.ProtoMinor > 0 }

// bare reports whether w is the server's own writer, or Gin's over it. Any other may do something to what is written.
func bare(w http.ResponseWriter) bool {
	t := reflect.TypeOf(w)
	if t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "github.com/gin-gonic/gin" && t.Elem().Name() == "responseWriter" {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		t = reflect.TypeOf(u.Unwrap())
	}
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "net/http" && t.Elem().Name() == "response"
}

// direct serves the stream on a connection that was taken over.
func (c *connection) direct(socket delivery.Socket, m *delivery.Machine) error {
	if err := c.begin(socket); err != nil {
		return err
	}
	engine.Run(c.r.Context(), m, c.source, socket, c.chunked(), c.ended)
	return c.outcome()
}

// begin sends the head of the response.
func (c *connection) begin(socket delivery.Socket) error {
	c.opened = time.Now()
	begun := false
	defer func() {
		if !begun {
			socket.Close(false)
		}
	}()
	if err := socket.Write(c.head1()); err != nil {
		c.ended(delivery.Result{Cause: fmt.Errorf("%w: %w", ErrWriteFailed, err)})
		return c.cause
	}
	c.log("headrace: stream opened")
	begun = true
	return nil
}

// head1 returns the head of an HTTP/1 response: what middleware has set, and what the server would have added.
func (c *connection) head1() []byte {
	h := c.w.Header().Clone() // the server's own map is there for as long as the handler is
	if h == nil {
		h = make(http.Header)
	}
	sse.SetHeaders(h, c.r.ProtoMajor)
	h.Set("Connection", "close")
	if _, set := h["Date"]; !set {
		h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	if c.chunked() {
		h.Set("Transfer-Encoding", "chunked")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.%d 200 OK\r\n", min(c.r.ProtoMinor, 1))
	_ = h.Write(&b) // to memory
	b.WriteString("\r\n")
	return b.Bytes()
}
