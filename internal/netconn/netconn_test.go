package netconn

import (
	"crypto/tls"
	"net"
	"testing"
)

func TestPlain(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if got := Plain(tls.Client(one, &tls.Config{MinVersion: tls.VersionTLS13})); got != one {
		t.Errorf("below TLS: %v", got)
	}
	if got := Plain(one); got != one {
		t.Errorf("of a connection that wraps nothing: %v", got)
	}
}
