package direct

import (
	"errors"
	"math"
	"net"
	"syscall"
	"time"

	"github.com/headrace/headrace/internal/netconn"
)

// nonblocking is the part of a socket that writes without waiting.
type nonblocking struct {
	raw  syscall.RawConn // nil when the connection has none
	call func(fd uintptr) (done bool)
	p    []byte // of the call
	n    int
	err  error
}

// tcpUserTimeout is Linux' TCP_USER_TIMEOUT, the user timeout of RFC 5482, in milliseconds.
const tcpUserTimeout = 18

// SetUserTimeout has the system break a TCP connection off whose peer does not acknowledge for so
// long what was sent. Without it a peer that has vanished is noticed after a quarter of an hour
// of retransmissions; a write timeout bounds only writes that find no room. For other
// connections, and other systems, it does nothing.
func SetUserTimeout(conn net.Conn, timeout time.Duration) {
	if tcp, ok := netconn.Plain(conn).(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			setUserTimeout(raw, timeout)
		}
	}
}

func setUserTimeout(raw syscall.RawConn, timeout time.Duration) {
	ms := min(max(timeout.Milliseconds(), 1), math.MaxInt32)
	// An error would mean that the connection is closed already, and shows elsewhere.
	_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(ms)) })
}

func (s *socket) prepare() {
	tcp, ok := s.conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	s.raw = raw
	// Made once: a closure for each write would be an allocation for each.
	s.call = func(fd uintptr) bool {
		for {
			s.n, s.err = syscall.Write(int(fd), s.p)
			if !errors.Is(s.err, syscall.EINTR) {
				return true // whatever came of it: the shard does not wait
			}
		}
	}
	setUserTimeout(raw, s.timeout)
}

// TryWrite implements Socket.
func (s *socket) TryWrite(p []byte) (n int, err error) {
	if s.raw == nil {
		return 0, nil
	}
	s.p = p
	err = s.raw.Write(s.call)
	s.p = nil
	switch {
	case err != nil:
		return 0, s.explain(err)
	case errors.Is(s.err, syscall.EAGAIN):
		return 0, nil
	}
	return max(s.n, 0), s.err
}
