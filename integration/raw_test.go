package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// raw is a client on a connection of its own, which it reads as it likes.
type raw struct {
	*net.TCPConn
	bite int // how many bytes it reads at most; 0 means as many as come
	in   *bufio.Reader
	body io.Reader
}

// dialRaw connects a client whose side of the connection holds about buffer bytes, if that is
// positive.
func dialRaw(address string, buffer, bite int) (*raw, error) {
	dialer := net.Dialer{Timeout: deadline}
	if buffer > 0 {
		dialer.Control = shrink(buffer)
	}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(deadline))
	return &raw{TCPConn: conn.(*net.TCPConn), bite: bite}, nil
}

// openRaw connects a client and opens a feed.
func openRaw(address, path string, buffer, bite int) (*raw, error) {
	c, err := dialRaw(address, buffer, bite)
	if err != nil {
		return nil, err
	}
	if err := c.request(path); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// request opens a feed.
func (c *raw) request(path string) error {
	if _, err := io.WriteString(c.TCPConn, requestFor(path)); err != nil {
		return err
	}
	buffer := 4 << 10
	if c.bite > 0 {
		buffer = 16 // the smallest, so that no more is taken from the socket than is read
	}
	c.in = bufio.NewReaderSize(biter{c}, buffer)
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || len(resp.TransferEncoding) != 1 || resp.TransferEncoding[0] != "chunked" {
		return fmt.Errorf("%s: status %s, transfer encoding %q", path, resp.Status, resp.TransferEncoding)
	}
	c.body = resp.Body
	return nil
}

func requestFor(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"
}

// biter reads from a client's connection in bites.
type biter struct{ *raw }

func (b biter) Read(p []byte) (int, error) {
	if b.bite > 0 {
		p = p[:min(len(p), b.bite)]
	}
	_ = b.SetDeadline(time.Now().Add(deadline)) // for each read: how long a test takes is its own affair
	return b.TCPConn.Read(p)
}

// reset closes the connection without an end, as a client does whose process or network broke down.
func (c *raw) reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}
