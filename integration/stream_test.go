package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// stream is one connection to a feed without net/http's client, which has two goroutines for each:
// of thousands of connections the race detector cannot count so many. Unlike those of connection,
// its functions return errors, because they are called on goroutines of the test's own.
type stream struct {
	*sse.Decoder
	conn net.Conn
	tail []byte // the last bytes that were read
}

// tailReader keeps the last bytes of what a stream reads.
type tailReader struct {
	io.Reader
	stream *stream
}

const tailBytes = 64

func (r *tailReader) Read(p []byte) (int, error) {
	_ = r.stream.conn.SetDeadline(time.Now().Add(deadline)) // for each read: how long a test takes is its own affair
	n, err := r.Reader.Read(p)
	tail := append(r.stream.tail, p[max(0, n-tailBytes):n]...)
	r.stream.tail = append(r.stream.tail[:0], tail[max(0, len(tail)-tailBytes):]...)
	return n, err
}

// open opens a feed, with a cursor unless it is "". buffer, if positive, is about how many bytes
// the client's side of the connection holds.
func open(server *httptest.Server, path, cursor string, buffer int) (*stream, error) {
	conn, err := net.DialTimeout("tcp", server.Listener.Addr().String(), deadline)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if buffer > 0 {
		_ = conn.(*net.TCPConn).SetReadBuffer(buffer)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n"
	if cursor != "" {
		request += "Last-Event-ID: " + cursor + "\r\n"
	}
	if _, err := conn.Write([]byte(request + "\r\n")); err != nil {
		_ = conn.Close()
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %s", path, resp.Status)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s := &stream{conn: conn}
	s.Decoder = sse.NewDecoder(&tailReader{resp.Body, s})
	return s, nil
}

// drop breaks the connection off.
func (s *stream) drop() { _ = s.conn.Close() }

// percentile returns the p-th percentile of what is sorted.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// spread sorts times and returns how far apart their 5th and 95th percentiles are.
func spread(times []time.Duration) time.Duration {
	slices.Sort(times)
	return percentile(times, 95) - percentile(times, 5)
}

// numbered returns the number of a message whose data is "name number".
func numbered(e sse.Event) (name string, n int, err error) {
	name, number, _ := strings.Cut(e.Text(), " ")
	if _, err = fmt.Sscan(number, &n); err != nil {
		err = fmt.Errorf("data %q: %w", e.Text(), err)
	}
	return name, n, err
}

// send publishes a message whose data is "name number".
func send(t testing.TB, h *hub.Hub, topic, name string, n int) {
	t.Helper()
	if _, err := h.Publish(t.Context(), topic, hub.Message{Data: fmt.Appendf(nil, "%s %d", name, n)}); err != nil {
		t.Errorf("Publish: %v", err)
	}
}
