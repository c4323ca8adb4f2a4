package integration

import "syscall"

// shrink makes a socket's receive buffer small, before it connects: afterwards the window that was
// offered stands. A buffer of one byte becomes the least that the kernel knows, some hundred bytes;
// its window is so small that TCP sends a segment every 200 ms or so.
func shrink(bytes int) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			// What is refused leaves a client that takes more, which the tests that mind notice.
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes)
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_WINDOW_CLAMP, bytes)
		})
	}
}

// mostFiles returns how many files the process may have open. Package os has raised it to the most
// that is allowed.
func mostFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<30))
}
