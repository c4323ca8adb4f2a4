//go:build !unix

package redisstream

import "syscall"

// waiting is for go-redis' check of connections, which does nothing on this system.
func waiting(syscall.RawConn) bool { return false }
