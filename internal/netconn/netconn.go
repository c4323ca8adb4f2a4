// Package netconn looks through connections that wrap others.
package netconn

import "net"

// Plain returns the connection below one that wraps it and says so: TLS, or what a listener has
// wrapped. Any other connection is returned as it is.
func Plain(conn net.Conn) net.Conn {
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return c.NetConn()
	}
	return conn
}
