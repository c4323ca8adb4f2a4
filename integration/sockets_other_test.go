//go:build !linux

package integration

import "syscall"

// shrink leaves a socket's receive buffer as it is.
func shrink(int) func(network, address string, raw syscall.RawConn) error { return nil }

// mostFiles returns how many files the process may have open: what most systems allow.
func mostFiles() int { return 1024 }
