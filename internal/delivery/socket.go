package delivery

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// pieceBytes is how much has to be taken within one write timeout.
	pieceBytes = 64 << 10
	// mostInput is how much a client may send that nobody reads.
	mostInput = 64 << 10
	// lingerTime is how long a client may take to close its side after the end of a stream. Closing at once could cost it the last bytes.
	lingerTime = 500 * time.Millisecond
)

// NewSocket returns a connection that was taken over from a server as a Socket. in has what was read ahead of it; it must be the server's own, through which it
// notices the end of the connection and ends the request's context. writeTimeout is how long the
// client may take for 64 KiB, and where the operating system can tell for the acknowledgement of what was sent.
func NewSocket(conn net.Conn, in *bufio.Reader, chunked bool, writeTimeout time.Duration) Socket {
	s := &socket{conn: conn, in: in, chunked: chunked, timeout: writeTimeout}
	s.prepare()
	return s
}

type socket struct {
	conn    net.Conn
	in      *bufio.Reader
	chunked bool
	timeout time.Duration
	nonblocking

	mu          sync.Mutex // of the deadlines
	interrupted bool
}

var past = time.Unix(1, 0)

// Write implements Socket.
func (s *socket) Write(p []byte) error {
	for len(p) > 0 {
		piece := p[:min(len(p), pieceBytes)]
		if err := s.arm(time.Now().Add(s.timeout)); err != nil {
			return err
		}
		n, err := s.conn.Write(piece)
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.interrupted {
				err = fmt.Errorf("%w: %w", errInterrupted, err)
			}
			return err
		}
		p = p[n:]
	}
	return s.arm(time.Time{})
}

// arm sets the write deadline, unless Interrupt has set the last one.
func (s *socket) arm(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted {
		return errInterrupted
	}
	return s.conn.SetWriteDeadline(t)
}

// Drop implements Socket.
func (s *socket) Drop() {
	for dropped := 0; dropped <= mostInput; {
		if _, err := s.in.Peek(1); err != nil {
			return
		}
		n, _ := s.in.Discard(s.in.Buffered())
		dropped += n
	}
}

// Release implements Socket.
func (s *socket) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.SetReadDeadline(past) // of a connection that is closed already nobody reads
}

// Interrupt implements Socket.
func (s *socket) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupted = true
	_ = s.conn.SetWriteDeadline(past)
}

// Close implements Socket.
func (s *socket) Close(clean bool) {
	defer s.conn.Close()
	tcp, isTCP := s.conn.(*net.TCPConn)
	if !clean {
		// On HTTP/1.1 the missing last chunk says that the stream was broken off; on HTTP/1.0 only a reset can.
		if isTCP && !s.chunked {
			_ = tcp.SetLinger(0) // a failure leaves an ordinary close
		}
		return
	}
	if s.chunked && s.Write([]byte("0"+crlf+crlf)) != nil {
		return
	}
	if !isTCP || tcp.CloseWrite() != nil {
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(lingerTime))
	s.Drop()
}
