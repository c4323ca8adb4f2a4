package testenv

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// echo starts a server that sends back what it gets.
func echo(t *testing.T) string {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func TestRelay(t *testing.T) {
	r := NewRelay(t, echo(t))
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", r.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	say := func(conn net.Conn, text string) (time.Duration, error) {
		began := time.Now()
		if _, err := io.WriteString(conn, text); err != nil {
			return 0, err
		}
		back := make([]byte, len(text))
		_, err := io.ReadFull(conn, back)
		if err == nil && string(back) != text {
			t.Errorf("%q came back as %q", text, back)
		}
		return time.Since(began), err
	}
	must := func(conn net.Conn, text string) time.Duration {
		t.Helper()
		took, err := say(conn, text)
		if err != nil {
			t.Fatal(err)
		}
		return took
	}
	silent := func(conn net.Conn) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := say(conn, "x"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a swallowed connection: %v", err)
		}
	}

	a := dial()
	must(a, "hello")
	r.Delay(30 * time.Millisecond)
	if took := must(a, "hello"); took < 60*time.Millisecond {
		t.Errorf("a round trip took %v, want 60ms", took)
	}
	r.Delay(0)
	r.Rate(1 << 20)
	if took := must(a, strings.Repeat("x", 128<<10)); took < 125*time.Millisecond {
		t.Errorf("128 KiB took %v, want an eighth of a second", took)
	}
	r.Rate(0)
	if r.Passed() < 128<<10 {
		t.Errorf("%d bytes passed", r.Passed())
	}

	r.Swallow()
	silent(a)
	b := dial()
	must(b, "hello")
	r.Block()
	silent(b)
	silent(dial())
	r.Open()
	c := dial()
	must(c, "hello")
	r.Cut()
	if _, err := say(c, "x"); err == nil {
		t.Error("a cut connection works")
	}
	r.Down()
	if _, err := say(dial(), "x"); err == nil {
		t.Error("a connection through a relay that is down works")
	}
	r.Open()
	must(dial(), "hello")
}
