package delivery

import (
	"net"
	"syscall"
	"time"
)

// nonblocking is the part of a socket that writes without waiting.
type nonblocking struct {
	raw  syscall.RawConn // nil when the connection has none
	call func(fd uintptr) (done bool)
	p    []byte // of the call
	n    int
	err  error
}

// tcpUserTimeout is TCP_USER_TIMEOUT of RFC 5482, in milliseconds.
const tcpUserTimeout = 18

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
			if s.err != syscall.EINTR {
				return true // whatever came of it: the shard does not wait
			}
		}
	}
	_ = raw.Control(func(fd uintptr) {
		// Without it a peer that has vanished is noticed after a quarter of an hour of retransmissions; the write timeout bounds only writes that find no room.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(s.timeout/time.Millisecond))
	})
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
		return 0, err
	case s.err == syscall.EAGAIN:
		return 0, nil
	}
	return max(s.n, 0), s.err
}
