package feed

import (
	"bytes"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headrace/headrace/hub"
)

// TestDeliveryAllocatesNothing: what publishing a message allocates, anywhere in the process
// until the last connection has read it, does not grow with the number of connections that the
// engine serves.
func TestDeliveryAllocatesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere each delivery has a goroutine of its own")
	}
	const few, many = 10, 200
	most := 0.02 // a delivery: after a garbage collection pools are filled anew
	if raceDetector() {
		// Pools then drop a quarter of what is put into them, so that each of the two polls of a
		// delivery may have to make its list.
		most = 0.9
	}
	base, all := allocsPerMessage(t, few), allocsPerMessage(t, many)
	t.Logf("allocations for a message: %v with %d connections, %v with %d", base, few, all, many)
	if each := (all - base) / (many - few); each > most {
		t.Errorf("%.3f allocations for a delivery: %v for a message with %d connections, %v with %d", each, base, few, all, many)
	}
}

// allocsPerMessage returns how many allocations the process makes for a message that so many
// clients read from sockets.
func allocsPerMessage(t *testing.T, clients int) float64 {
	h := newHub(t, nil, hub.Options{})
	var (
		ends, readers sync.WaitGroup
		left          atomic.Int64
		ready         = make(chan struct{}, clients)
		all           = make(chan struct{}, 1)
		conns         []net.Conn
	)
	s := httptest.NewServer(Handler(Of(h, "t"), Options{Logger: quiet(), OnEnd: func(e End) {
		if !e.Direct {
			t.Error("a stream was not served by the engine")
		}
		ends.Done()
	}}))
	defer s.Close()
	defer ends.Wait()
	defer readers.Wait()
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range clients {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		ends.Add(1)
		readers.Go(func() { readMarks(conn, ready, &left, all) })
	}
	for range clients {
		<-ready
	}
	m := hub.Message{Data: append(bytes.Repeat([]byte("x"), 200), lastMark)}
	return testing.AllocsPerRun(50, func() {
		left.Store(int64(clients))
		if _, err := h.Publish(t.Context(), "t", m); err != nil {
			t.Fatal(err)
		}
		<-all
	})
}

// readMarks reads a stream until the connection is closed. It says once that the stream has
// begun, and when the last of left has read a mark; it allocates nothing meanwhile.
func readMarks(conn net.Conn, ready chan<- struct{}, left *atomic.Int64, all chan<- struct{}) {
	buf := make([]byte, 4096)
	var head []byte
	begun := false
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if !begun {
			if head = append(head, buf[:n]...); bytes.Contains(head, []byte("\nid: ")) {
				begun, head = true, nil
				ready <- struct{}{}
			}
			continue
		}
		if marks := int64(bytes.Count(buf[:n], []byte{lastMark})); marks > 0 && left.Add(-marks) == 0 {
			all <- struct{}{}
		}
	}
}

// raceDetector reports whether the tests run under the race detector.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
