//go:build unix

package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

const (
	// descriptorsVariable makes the process of a test the server of TestDescriptors.
	descriptorsVariable = "HEADRACE_TEST_DESCRIPTORS"

	fewDescriptors = 256
	roomForStreams = fewDescriptors * 3 / 4
	perAddress     = 50 // where that is bounded
)

// TestDescriptors: a process with few file descriptors refuses streams while it has some left for
// requests, and lets others in when streams end.
func TestDescriptors(t *testing.T) {
	if os.Getenv(descriptorsVariable) != "" {
		serveFewDescriptors(t)
		return
	}
	for name, room := range map[string]int{"direct": roomForStreams, "ordinary": roomForStreams, "detached": roomForStreams, "bounded": perAddress} {
		t.Run(name, func(t *testing.T) { testDescriptors(t, "/"+name, room) })
	}
}

// serveFewDescriptors serves until the standard input ends. It says first where.
func serveFewDescriptors(t *testing.T) {
	h := newHub(t, memory.Options{})
	streams := func(o feed.Options) http.Handler {
		o.Logger = quiet
		return feed.Handler(feed.Of(h, "t"), o)
	}
	mux := http.NewServeMux()
	mux.Handle("/direct", streams(feed.Options{}))
	mux.Handle("/bounded", streams(feed.Options{Limits: &feed.Limits{PerKey: perAddress}}))
	mux.Handle("/detached", streams(feed.Options{Detach: true}))
	mux.HandleFunc("/ordinary", func(w http.ResponseWriter, r *http.Request) {
		streams(feed.Options{}).ServeHTTP(behind{w}, r)
	})
	mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	server := newServer(t, mux)
	fmt.Println("listening at", server.Listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	server.CloseClientConnections()
}

// behind is a writer of middleware.
type behind struct{ http.ResponseWriter }

func (w behind) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// startFewDescriptors starts a server, and returns its address.
func startFewDescriptors(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(fewDescriptors), self(t), "-test.run=^TestDescriptors$")
	cmd.Env = append(os.Environ(), descriptorsVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if address, ok := strings.CutPrefix(lines.Text(), "listening at "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return address
		}
	}
	t.Fatal("the server did not start")
	return ""
}

// openFew opens a stream, and reports whether it goes on. One that is refused has ended, and so has
// its connection.
func openFew(address, path string) (_ *raw, open bool, err error) {
	c, err := openRaw(address, path, 0, 0)
	if err != nil {
		return nil, false, err
	}
	var said strings.Builder
	for lines := bufio.NewScanner(c.body); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if lines.Text() == "event: checkpoint" {
			return c, true, nil
		}
	}
	defer c.Close()
	if !strings.Contains(said.String(), "retry: ") {
		return nil, false, fmt.Errorf("refused with %q", said.String())
	}
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("the connection of a stream that was refused: %w", err)
	}
	return nil, false, nil
}

func testDescriptors(t *testing.T, path string, room int) {
	address := startFewDescriptors(t)
	plain := func() error {
		conn, err := net.DialTimeout("tcp", address, deadline)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /plain HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		answer, err := io.ReadAll(conn)
		if err == nil && !strings.HasSuffix(string(answer), "\r\n\r\nhere") {
			err = fmt.Errorf("answered with %q", answer)
		}
		return err
	}
	// All at once, and more than the process has descriptors.
	const clients = 2 * fewDescriptors
	var wg sync.WaitGroup
	var mu sync.Mutex
	var streams []*raw
	defer func() {
		for _, c := range streams {
			_ = c.Close()
		}
	}()
	for range clients {
		wg.Go(func() {
			c, open, err := openFew(address, path)
			if err != nil {
				t.Error(err)
			}
			if err := plain(); err != nil {
				t.Errorf("a request beside the streams: %v", err)
			}
			if open {
				mu.Lock()
				defer mu.Unlock()
				streams = append(streams, c)
			}
		})
	}
	wg.Wait()
	if len(streams) != room {
		t.Fatalf("%d streams are open, want %d", len(streams), room)
	}
	for range 100 {
		if err := plain(); err != nil {
			t.Fatalf("a request beside %d streams: %v", len(streams), err)
		}
	}
	// Who leaves makes room, for so many.
	const leaving = 20
	for _, c := range streams[:leaving] {
		_ = c.Close()
	}
	streams = streams[leaving:]
	testenv.Eventually(t, "others come in", func() error {
		c, open, err := openFew(address, path)
		if err != nil {
			return err
		}
		if open {
			streams = append(streams, c)
		}
		if len(streams) < room {
			return fmt.Errorf("%d streams", len(streams))
		}
		return nil
	})
	if _, open, err := openFew(address, path); open || err != nil {
		t.Errorf("one more: open %t, %v", open, err)
	}
}
