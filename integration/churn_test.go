package integration

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

// TestChurn: clients that come and go at random moments leave nothing behind, and each generator's
// deferred function has run before its handler returned.
func TestChurn(t *testing.T) {
	visits, atOnce := testenv.Sized(400, 2000), 20
	h := newHub(t, memory.Options{})
	r := gin.New()
	var generators, cleaned, early atomic.Int64
	r.Use(func(c *gin.Context) {
		c.Next()
		if c.FullPath() == "/generated" && c.GetBool("began") && !c.GetBool("cleaned") {
			early.Add(1)
		}
	})
	// No heartbeat and no rotation come to the help of a stream that does not notice its client's
	// leaving.
	options := ginsse.Options{Heartbeat: time.Hour, NoRotation: true, Logger: quiet}
	generated := ginsse.SSE[struct{}]("/generated").Options(options).Handle(func(c *ginsse.Context[struct{}]) seq {
		return func(yield func(sse.Event, error) bool) {
			generators.Add(1)
			c.Gin().Set("began", true)
			defer func() {
				c.Gin().Set("cleaned", true)
				cleaned.Add(1)
			}()
			sub, err := h.Subscribe(c.Context(), "news", hub.Earliest())
			if err != nil {
				yield(sse.Event{}, err)
				return
			}
			defer sub.Close()
			for m, err := range sub.All() {
				if !yield(sse.Event{ID: string(m.ID), Data: m.Data}, err) {
					return
				}
			}
		}
	})
	options.Start = hub.Earliest()
	feed := ginsse.SSE[topicParams]("/topics/:topic").Options(options).Topic(h, "{topic}")
	if err := ginsse.Mount(r, generated, feed); err != nil {
		t.Fatal(err)
	}
	server := newServer(t, r)
	const messages = 100 // a replay to be in the middle of
	publish(t, h, "news", 1, messages)
	address := server.Listener.Addr().String()

	visit(t, address, "/topics/news", 50) // the topic is followed, pools are warm
	settle(t, h)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)

	var wg sync.WaitGroup
	var accepted atomic.Int64
	for range atOnce {
		wg.Go(func() {
			for range visits / atOnce {
				path := "/topics/news"
				if rand.IntN(2) == 0 {
					path = "/generated"
				}
				lines := rand.IntN(3*messages) - 20
				if rand.IntN(4) == 0 {
					lines = 3 * messages // to the end, so that the stream is idle
				}
				if visit(t, address, path, lines) {
					accepted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	settle(t, h)
	eventually(t, "goroutines and files are back", func() error {
		if g, f := runtime.NumGoroutine(), openFiles(t); g > goroutines || f > files {
			return fmt.Errorf("%d goroutines, %d before; %d files, %d before", g, goroutines, f, files)
		}
		return nil
	})
	if accepted.Load() < int64(visits/2) {
		t.Errorf("%d streams of %d visits", accepted.Load(), visits)
	}
	if generators.Load() == 0 || generators.Load() != cleaned.Load() {
		t.Errorf("%d generators began, %d cleaned up", generators.Load(), cleaned.Load())
	}
	if early.Load() > 0 {
		t.Errorf("%d handlers returned before their generator's deferred function had run", early.Load())
	}
}

// visit opens a connection, leaves at a chosen moment, and reports whether it saw the stream's
// status. events < 0: before the whole request is sent; 0: before the answer is read; else after
// that many lines.
func visit(t *testing.T, address, path string, lines int) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return false
	}
	defer conn.Close()
	request := "GET " + path + " HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"
	if lines < 0 {
		_, _ = conn.Write([]byte(request[:len(request)/2]))
		return false
	}
	if _, err := conn.Write([]byte(request)); err != nil || lines == 0 {
		return false
	}
	in := bufio.NewReader(conn)
	status, err := in.ReadString('\n')
	for range lines {
		if err == nil {
			_, err = in.ReadString('\n')
		}
	}
	if err != nil {
		t.Errorf("%s after %d lines: %v", path, lines, err)
	}
	return status == "HTTP/1.1 200 OK\r\n"
}

// settle waits until no subscription is open.
func settle(t *testing.T, h *hub.Hub) {
	t.Helper()
	eventually(t, "all subscriptions are closed", func() error {
		if n := h.Stats().Subscriptions; n > 0 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
}

// eventually waits for something that announces itself to nobody, such as the end of a goroutine of
// net/http. It fails only at the deadline.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	testenv.Eventually(t, "waiting until "+what, check)
}

// openFiles counts the process's file descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("file descriptors cannot be counted here: %v", err)
	}
	return len(entries)
}

// TestStalledReader (G7): a reader that never reads costs bounded memory, loses nothing that is
// retained and holds up nobody.
func TestStalledReader(t *testing.T) {
	const size = 16 << 10
	messages := testenv.Sized(2000, 4000) // 32 or 64 MB
	h := newHub(t, memory.Options{MaxBytes: 8 << 20, MaxTotalBytes: 8 << 20})
	server := serve(t, h, ginsse.Options{WriteTimeout: time.Hour}) // the stalled one is not to be thrown out
	url := server.URL + "/topics/big"

	stalled := connect(t, server.Client(), url, "")
	defer stalled.drop()
	checkpoint := stalled.next(t)
	reader := connect(t, server.Client(), url, checkpoint.ID)
	defer reader.drop()

	data := make([]byte, size)
	for i := range data {
		data[i] = 'a' + byte(i%26)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak uint64
	for i := range messages {
		if _, err := h.Publish(t.Context(), "big", hub.Message{Data: data}); err != nil {
			t.Fatal(err)
		}
		if e := reader.next(t); len(e.Text()) != size {
			t.Fatalf("message %d: %d bytes", i, len(e.Text()))
		}
		if i%1000 == 999 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
		}
	}
	// The backend's 8 MiB, the window's 4 MiB, and what the connections have under way.
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 20<<20 {
		t.Errorf("the heap has grown by %d MB for %d MB published", grown>>20, messages*size>>20)
	}
	// The stalled one begins to read: first what was under way, then a gap, then what is retained,
	// to the end, in order.
	last, gap := "", false
	newest := publish(t, h, "big", 1, 1)[0]
	for last != newest {
		e := stalled.next(t)
		gap = gap || e.Type == "gap"
		if e.ID != "" {
			last = e.ID
		}
	}
	if !gap {
		t.Error("messages are gone for the stalled reader, and no gap was said")
	}
}
