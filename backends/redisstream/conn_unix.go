//go:build unix

package redisstream

import "syscall"

// waiting reports whether bytes wait to be read.
func waiting(raw syscall.RawConn) (found bool) {
	_ = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		found = err == nil && n > 0
		return true
	})
	return found
}
