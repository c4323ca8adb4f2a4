package feed

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"time"
)

// userTimeout returns what is set on a connection, in milliseconds.
func userTimeout(t *testing.T, conn net.Conn) (ms int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var option error
	if err := raw.Control(func(fd uintptr) { ms, option = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 18) }); err != nil || option != nil {
		t.Fatal(err, option)
	}
	return ms
}

func TestListener(t *testing.T) {
	for _, tc := range []struct {
		timeout time.Duration
		want    int
	}{{0, 10_000}, {-1, 10_000}, {time.Nanosecond, 1}, {1500 * time.Millisecond, 1500}, {100 * 24 * time.Hour, 1<<31 - 1}} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := Listener(inner, tc.timeout)
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, tc.timeout.String(), userTimeout(t, conn), tc.want)
		_ = client.Close()
		_ = conn.Close()
		_ = l.Close()
		if _, err := l.Accept(); err == nil {
			t.Error("a closed listener accepts")
		}
	}
}

// TestListenerBelowTLS: what is set is set on the connection below.
func TestListenerBelowTLS(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := tls.NewListener(Listener(inner, time.Second), &tls.Config{})
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	equal(t, "timeout", userTimeout(t, conn.(*tls.Conn).NetConn()), 1000)
}
