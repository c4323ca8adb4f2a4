package integration

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// cuttingProxy passes connections on to a server and cuts each behind a random number of the
// server's bytes.
type cuttingProxy struct {
	listener net.Listener
	target   string
	cuts     atomic.Int64
	enough   int64 // cuts; then connections live
	wg       sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool
}

func newCuttingProxy(t *testing.T, target string, enough int) *cuttingProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cuttingProxy{listener: listener, target: target, enough: int64(enough), open: make(map[net.Conn]bool)}
	c.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		c.mu.Lock()
		for conn := range c.open {
			conn.Close()
		}
		c.mu.Unlock()
		c.wg.Wait()
	})
	return c
}

func (c *cuttingProxy) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer server.Close()
	c.mu.Lock()
	c.open[client], c.open[server] = true, true
	c.mu.Unlock()
	c.wg.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	if c.cuts.Load() >= c.enough {
		_, _ = io.Copy(client, server)
		return
	}
	// The head of the response has about 300 bytes, and is cut too.
	if _, err := io.CopyN(client, server, 1+rand.Int64N(2000)); err != nil {
		return // the client left
	}
	c.cuts.Add(1)
	if rand.IntN(2) == 0 {
		_ = client.(*net.TCPConn).SetLinger(0) // a reset, which may overtake what was sent
	}
}

// TestClientThroughCuts: connections are cut at random bytes, and the program is started again now
// and then. It gets each message once, in order, and no gap.
func TestClientThroughCuts(t *testing.T) {
	cuts := testenv.Sized(100, 1000)
	h := newHub(t, roomy(1_000_000))
	server := newServer(t, feed.Handler(feed.Of(h, "t"), feed.Options{Start: hub.Earliest(), Retry: time.Millisecond, Logger: quiet}))
	proxy := newCuttingProxy(t, server.Listener.Addr().String(), cuts)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()

	within, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	const ahead = 100 // messages that are published and not yet received
	type numbered struct {
		N    int
		Text string
	}
	topic := hub.NewTopic[numbered](h, "t")
	published := make(chan int, 1)
	room := make(chan struct{}, ahead)
	go func() {
		n := 0
		for ; proxy.cuts.Load() < int64(cuts); n++ {
			select {
			case room <- struct{}{}:
			case <-within.Done():
				published <- n
				return
			}
			if _, err := topic.Publish(context.Background(), numbered{n, string(make([]byte, rand.IntN(100)))}); err != nil {
				t.Errorf("Publish: %v", err)
			}
		}
		if _, err := h.Finish(context.Background(), "t"); err != nil {
			t.Errorf("Finish: %v", err)
		}
		published <- n
	}()

	client := sse.Client{
		URL:        "http://" + proxy.listener.Addr().String(),
		HTTPClient: &http.Client{Transport: transport},
		Cursor:     sse.CursorFile(filepath.Join(t.TempDir(), "cursor")),
		MinBackoff: time.Millisecond,
	}
	next, processes, over := 0, 0, false
	for !over {
		processes++
		ctx, stop := context.WithCancel(within)
		for item, err := range sse.Follow[numbered, any](client.Stream(ctx)) {
			switch item := item.(type) {
			case sse.Message[numbered]:
				if item.Data.N != next {
					t.Fatalf("message %d where %d was due, behind %d cuts", item.Data.N, next, proxy.cuts.Load())
				}
				next++
				<-room
				if next%50 == 0 {
					stop()
				}
			case sse.Close:
				over = true
			case nil:
				if within.Err() != nil || ctx.Err() == nil {
					t.Fatalf("%d messages, %d cuts: %v", next, proxy.cuts.Load(), err)
				}
			default:
				t.Fatalf("%+v", item)
			}
		}
		stop()
	}
	if n := <-published; next != n || proxy.cuts.Load() < int64(cuts) {
		t.Errorf("%d messages of %d, %d cuts", next, n, proxy.cuts.Load())
	}
	t.Logf("%d messages, %d cuts, %d processes", next, proxy.cuts.Load(), processes)
}
