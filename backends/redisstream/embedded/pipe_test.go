package embedded

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipe(t *testing.T) {
	a, b := newPipe()
	defer a.Close()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	for range 3 { // nobody reads meanwhile
		if n, err := a.Write(big); n != len(big) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if _, err := b.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	_ = b.SetReadDeadline(time.Now().Add(time.Hour))
	got := make([]byte, 3*len(big))
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, bytes.Repeat(big, 3)) {
		t.Fatalf("Read: %v, or something else than was written", err)
	}
	_, _ = a.Write([]byte("last"))
	_ = a.Close()
	if rest, err := io.ReadAll(b); string(rest) != "last" || err != nil {
		t.Errorf("after Close: %q, %v", rest, err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write to a closed end: %v", err)
	}
	if _, err := a.Read(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read at a closed end: %v", err)
	}
	if _, err := a.Write(got); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write at a closed end: %v", err)
	}
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		defer a.Close()
		p := make([]byte, 8)
		began := time.Now()
		read := func(what string, want error, after time.Duration) {
			t.Helper()
			if _, err := b.Read(p); !errors.Is(err, want) || time.Since(began) != after {
				t.Errorf("%s: %v after %v, want %v after %v", what, err, time.Since(began), want, after)
			}
		}
		_ = b.SetDeadline(began.Add(time.Second))
		read("a deadline", os.ErrDeadlineExceeded, time.Second)
		_, _ = a.Write([]byte("x"))
		read("behind a deadline", os.ErrDeadlineExceeded, time.Second)
		_ = b.SetDeadline(time.Time{})
		read("without a deadline", nil, time.Second)

		// One that is set while somebody reads counts, sooner or later than the one before.
		_ = b.SetReadDeadline(began.Add(time.Hour))
		time.AfterFunc(time.Second, func() { _ = b.SetReadDeadline(began.Add(3 * time.Second)) })
		read("a sooner deadline", os.ErrDeadlineExceeded, 3*time.Second)
		_ = b.SetReadDeadline(began.Add(4 * time.Second))
		time.AfterFunc(500*time.Millisecond, func() { _ = b.SetReadDeadline(began.Add(5 * time.Second)) })
		read("a later deadline", os.ErrDeadlineExceeded, 5*time.Second)

		_ = b.SetReadDeadline(began.Add(time.Hour))
		time.AfterFunc(time.Second, func() { _, _ = a.Write([]byte("y")) })
		read("what comes in time", nil, 6*time.Second)
		time.AfterFunc(time.Second, func() { _ = a.Close() })
		read("a close at the other end", io.EOF, 7*time.Second)
		time.AfterFunc(time.Second, func() { _ = b.Close() })
		_ = b.SetReadDeadline(time.Time{})
		read("again", io.EOF, 7*time.Second)
		time.Sleep(2 * time.Second)
		read("its own close", net.ErrClosed, 9*time.Second)
	})
}
