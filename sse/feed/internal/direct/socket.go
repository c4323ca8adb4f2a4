package direct

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/headrace/headrace/internal/netconn"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

const (
	// PieceBytes is how much has to be taken within one write timeout.
	PieceBytes = 64 << 10
	// mostInput is how much a client may send that nobody reads.
	mostInput = 64 << 10
	// lingerTime is how long a client may take to close its side after the end of a stream.
	// Closing at once could cost it the last bytes.
	lingerTime = 500 * time.Millisecond
)

// newSocket returns a connection that was taken over from a server as a Socket. server is what
// the server gave for reading and writing it, and must not be used any more. chunked says how a
// stream ends. writeTimeout is how long the client may take for 64 KiB and, where the operating
// system can tell, to acknowledge what was sent. With detached the server has nothing to do with
// the connection any more. Otherwise Drop lets the server notice when the client leaves, so that
// it ends the request's context.
func newSocket(conn net.Conn, server *bufio.ReadWriter, chunked bool, writeTimeout time.Duration, detached bool) Socket {
	s := &socket{conn: conn, chunked: chunked, timeout: writeTimeout}
	// The server holds on to both of its buffers for as long as the handler runs, 4 KiB each: see
	// also ReadFrom.
	*server.Writer = bufio.Writer{}
	if detached {
		s.dropped = server.Reader.Buffered()
	} else {
		s.server = server.Reader
	}
	s.prepare()
	return s
}

type socket struct {
	conn net.Conn
	// Through which the server is told of the end of the input; nil when it was, or is not to be.
	server  *bufio.Reader
	piece   [16]byte // of what the client sends
	dropped int
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
		piece := p[:min(len(p), PieceBytes)]
		if err := s.arm(time.Now().Add(s.timeout)); err != nil {
			return err
		}
		n, err := s.conn.Write(piece)
		if err != nil {
			return s.explain(err)
		}
		p = p[n:]
	}
	_ = s.arm(time.Time{}) // all is written: what fails from here on is for the next write to find
	return nil
}

// explain returns the error of a write with its cause, if that was Interrupt.
func (s *socket) explain(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted {
		return fmt.Errorf("%w: %w", session.ErrInterrupted, err)
	}
	return err
}

// arm sets the write deadline, unless Interrupt has set the last one.
func (s *socket) arm(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted {
		return session.ErrInterrupted
	}
	return s.conn.SetWriteDeadline(t)
}

// Drop implements Socket.
func (s *socket) Drop() {
	if s.server == nil {
		_ = s.drop()
		return
	}
	in := input{s, s.server}
	s.server = nil
	_, _ = in.server.WriteTo(in) // whatever the input ended with
}

// drop reads what the client sends, into a small piece of memory, and returns nil when that was
// too much.
func (s *socket) drop() error {
	for s.dropped <= mostInput {
		n, err := s.conn.Read(s.piece[:])
		if s.dropped += n; err != nil {
			return err
		}
	}
	return nil
}

// input is the target of bufio.Reader.WriteTo, which passes buffered bytes to Write and then
// hands the underlying reader to ReadFrom; from there on the server's 4 KiB buffer can be
// released. If WriteTo did not know ReadFrom, it would go on with Write.
type input struct {
	*socket
	server *bufio.Reader
}

var errTooMuch = errors.New("too much input")

// Write implements io.Writer.
func (i input) Write(p []byte) (int, error) {
	if i.dropped += len(p); i.dropped > mostInput {
		return 0, errTooMuch
	}
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom.
func (i input) ReadFrom(server io.Reader) (int64, error) {
	*i.server = bufio.Reader{}
	if err := i.drop(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		// The client has left. The server finds that too when it reads, and ends the request's
		// context. It must not find the deadline of Release: middleware still wants the context
		// when the stream is over.
		_, _ = server.Read(i.piece[:])
	}
	return 0, nil
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
	tcp, isTCP := netconn.Plain(s.conn).(*net.TCPConn)
	if !clean {
		// On HTTP/1.1 the missing last chunk says that the stream was broken off; on HTTP/1.0
		// only a reset can.
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
