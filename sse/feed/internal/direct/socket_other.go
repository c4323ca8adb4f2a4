//go:build !linux

package direct

import (
	"net"
	"time"
)

// SetUserTimeout is for Linux.
func SetUserTimeout(net.Conn, time.Duration) {}

type nonblocking struct{}

func (s *socket) prepare() {}

// TryWrite implements Socket. What it does not take is written by a goroutine of the connection's
// own.
func (s *socket) TryWrite([]byte) (int, error) { return 0, nil }
