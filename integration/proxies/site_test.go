package proxies

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	// deadline is how long a test waits for what must happen. It only matters when a test fails.
	deadline = time.Minute
	topic    = "news"
	// The paths of a feed that is never silent for long, and of one that sends nothing but
	// messages.
	beating, silent = "/beating", "/silent"
)

// site is a server with two feeds of one topic. It can go away and come back at its address.
type site struct {
	t    *testing.T
	hub  *hub.Hub
	addr string
	ends map[string]chan struct{} // one for each stream that has ended, by the path of their feed

	mu     sync.Mutex
	server *http.Server
	conns  []net.Conn
}

func newSite(t *testing.T) *site {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	backend := memory.New(memory.Options{})
	h, err := hub.New(backend, hub.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, hub: h, addr: "127.0.0.1:0", ends: map[string]chan struct{}{
		beating: make(chan struct{}, 100), silent: make(chan struct{}, 100),
	}}
	mux := http.NewServeMux()
	for path, o := range map[string]feed.Options{
		beating: {Heartbeat: heartbeat, VisibleHeartbeats: true},
		silent:  {Heartbeat: time.Hour},
	} {
		o.Logger, o.NoRotation = quiet, true
		o.OnEnd = func(feed.End) { s.ends[path] <- struct{}{} }
		mux.Handle(path, feed.Handler(feed.Of(h, topic), o))
	}
	mux.HandleFunc("/who", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s.addr) })
	s.start(mux)
	t.Cleanup(func() {
		s.kill()
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		_ = backend.Close()
	})
	return s
}

// listener keeps what it accepts, for kill: connections that a stream has taken over are not closed
// with the server.
type listener struct {
	net.Listener
	site *site
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.site.mu.Lock()
		defer l.site.mu.Unlock()
		l.site.conns = append(l.site.conns, c)
	}
	return c, err
}

// start starts the server, again after kill.
func (s *site) start(handler http.Handler) {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: deadline, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
	go func() { _ = server.Serve(listener{l, s}) }()
}

// kill closes everything, as the death of the process would, and returns what start starts again.
func (s *site) kill() http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.server.Close()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	return s.server.Handler
}

func (s *site) publish(text string) hub.ID {
	s.t.Helper()
	id, err := s.hub.Publish(context.Background(), topic, hub.Message{Data: []byte(text)})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// ended reports whether a stream of a feed ends within a time.
func (s *site) ended(path string, within time.Duration) bool {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case <-s.ends[path]:
		return true
	case <-timeout.C:
		return false
	}
}

// stream is a client's side of one.
type stream struct {
	*sse.Decoder
	body  *watched
	leave context.CancelFunc
}

// watched keeps the error that its reader ended with, which a decoder need not tell.
type watched struct {
	io.ReadCloser
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// follow opens a stream, with a cursor unless it is "".
func follow(client *http.Client, url, cursor string) (*stream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := client.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	body := &watched{ReadCloser: resp.Body}
	s := &stream{Decoder: sse.NewDecoder(body), body: body, leave: func() {
		cancel()
		_ = resp.Body.Close()
	}}
	if resp.StatusCode != http.StatusOK {
		s.leave()
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	return s, nil
}

// next returns the next event that is no heartbeat.
func (s *stream) next(t *testing.T) sse.Event {
	t.Helper()
	for {
		e, err := s.Decode()
		if err != nil {
			t.Fatalf("reading the stream: %v", err)
		}
		if e.Type != "heartbeat" {
			return e
		}
	}
}

// expect wants a message next.
func (s *stream) expect(t *testing.T, id hub.ID, text string) {
	t.Helper()
	if e := s.next(t); e.ID != string(id) || e.Text() != text {
		t.Fatalf("got %+v, want %s %q", e, id, text)
	}
}
