package feed

import (
	"net"
	"time"

	"github.com/headrace/headrace/sse/feed/internal/direct"
)

// Listener returns l with a bound on how long clients may fail to acknowledge what they were
// sent. When a client has vanished without a word, with its power or its network, the system
// breaks its connection off after that time; without the bound it takes a quarter of an hour. Use
// it for everything that streams through package net/http: HTTP/2, TLS (below it: tls.NewListener
// over Listener), generators, responses behind middleware that wraps the writer. Streams on the
// engine set the same bound themselves, from Options.WriteTimeout.
//
// The timeout is in whole milliseconds; 0 stands for the default of WriteTimeout, 10 s.
// Connections that are no TCP connections stay as they are, and so do all on systems other than
// Linux.
func Listener(l net.Listener, timeout time.Duration) net.Listener {
	return listener{l, positive(timeout, defaultWriteTimeout)}
}

type listener struct {
	net.Listener
	timeout time.Duration
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		direct.SetUserTimeout(conn, l.timeout)
	}
	return conn, err
}
