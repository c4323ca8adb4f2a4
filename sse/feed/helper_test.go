package feed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
)

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %#v, want %#v", what, got, want)
	}
}

func isCause(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("cause: got %v, want %v", got, want)
	}
}

// newHub returns a hub over a backend, in memory if it is nil, that is shut down after the test.
func newHub(t testing.TB, b hub.Backend, o hub.Options) *hub.Hub {
	t.Helper()
	if b == nil {
		b = memory.New(memory.Options{})
	}
	h, err := hub.New(b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		b.Close()
	})
	return h
}

func publish(t testing.TB, h *hub.Hub, topic string, data ...string) (ids []string) {
	t.Helper()
	for _, d := range data {
		id, err := h.Publish(context.Background(), topic, hub.Message{Data: []byte(d)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, string(id))
	}
	return ids
}

func finish(t testing.TB, h *hub.Hub, topic string) string {
	t.Helper()
	id, err := h.Finish(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return string(id)
}

// ends returns an OnEnd and the channel it sends on.
func ends() (func(End), chan End) {
	c := make(chan End, 16)
	return func(e End) { c <- e }, c
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// logged returns a logger and a function that returns what it got.
func logged() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var b bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// follower is one connection of a client.
type follower struct {
	*http.Response
	r      *bufio.Reader
	cancel context.CancelFunc

	// With a set, cursors of its topics are read as the IDs of one of them.
	set   *cursor.Set
	topic int
}

func newStream(resp *http.Response) *follower {
	return &follower{Response: resp, r: bufio.NewReader(resp.Body), cancel: func() {}}
}

// connect opens a stream, with a cursor unless it is "".
func connect(t testing.TB, client *http.Client, url, cursor string) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", streamType)
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	s := newStream(resp)
	s.cancel = cancel
	return s
}

// leave drops the connection.
func (s *follower) leave() {
	s.cancel()
	s.Body.Close()
}

var retryLine = regexp.MustCompile(`retry: \d+\n`)

// block reads up to the next blank line, with "N" for reconnection times; "" at the end.
// Heartbeats are left out.
func (s *follower) block(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if line != ":\n" {
			b.WriteString(s.plain(t, line))
		}
		if err != nil && err != io.EOF {
			t.Fatalf("after %q: %v", b.String(), err)
		}
		if err != nil || line == "\n" {
			return retryLine.ReplaceAllString(b.String(), "retry: N\n")
		}
	}
}

// plain returns a line with the ID of the follower's topic instead of a cursor of several.
func (s *follower) plain(t testing.TB, line string) string {
	text, ok := strings.CutPrefix(line, "id: ")
	if !ok || s.set == nil {
		return line
	}
	at, ok := s.set.Parse(strings.TrimSuffix(text, "\n"))
	if !ok {
		t.Fatalf("%q is no cursor of several topics", line)
	}
	return "id: " + string(at[s.topic].ID) + "\n"
}

// rest reads to the end.
func (s *follower) rest(t testing.TB) string {
	t.Helper()
	b, err := io.ReadAll(s.r)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return retryLine.ReplaceAllString(string(b), "retry: N\n")
}

// streamHeader is the Content-Type of every stream.
const streamHeader = "text/event-stream; charset=utf-8"

const prelude = ": ok\nretry: N\n"

func checkpoint(id string) string { return prelude + "event: checkpoint\ndata: \nid: " + id + "\n\n" }

// primed reads the prelude and the checkpoint, and returns its id.
func (s *follower) primed(t testing.TB) string {
	t.Helper()
	b := s.block(t)
	_, id, _ := strings.Cut(b, "\nid: ")
	id = strings.TrimSpace(id)
	equal(t, "first block", b, checkpoint(id))
	return id
}

func event(id, data string) string { return "data: " + data + "\nid: " + id + "\n\n" }

// record serves one request on a recorder.
func record(handler http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func get(url string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// memNet is a network without buffers inside of the process, for tests with fake time.
type memNet struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemNet() *memNet { return &memNet{conns: make(chan net.Conn), done: make(chan struct{})} }

func (n *memNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *memNet) Close() error {
	n.once.Do(func() { close(n.done) })
	return nil
}

func (n *memNet) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (n *memNet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memServer serves a handler in memory, over HTTP/1.1 or, unencrypted, HTTP/2. It is to be used
// in a synctest bubble; stop ends it.
func memServer(handler http.Handler, http2 bool, change func(*http.Server)) (client *http.Client, stop func()) {
	n := newMemNet()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	server := &http.Server{Handler: handler, Protocols: protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	if change != nil {
		change(server)
	}
	served := make(chan struct{})
	go func() {
		defer func() { served <- struct{}{} }()
		_ = server.Serve(n)
	}()
	transport := &http.Transport{DialContext: n.dial, Protocols: protocols}
	return &http.Client{Transport: transport}, func() {
		transport.CloseIdleConnections()
		server.Close()
		<-served
	}
}

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// getPage returns the page for a query, which is not escaped yet.
func getPage(t testing.TB, handler http.Handler, query string) (p page) {
	t.Helper()
	w := record(handler, get("/?"+strings.ReplaceAll(query, " ", "%20"), "Accept", documentType))
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s: %v", query, w.Code, w.Body, err)
	}
	return p
}

// serveLong serves a request with a cursor until so many blocks are written.
func serveLong(t testing.TB, handler http.Handler, path, cursor string, blocks int) string {
	t.Helper()
	s := httptest.NewServer(handler)
	defer s.Close()
	c := connect(t, s.Client(), s.URL+path, cursor)
	defer c.leave()
	var b strings.Builder
	for range blocks {
		b.WriteString(c.block(t))
	}
	body := b.String()
	if before, id, ok := strings.Cut(body, "data: {}\nid: "); ok {
		_, after, _ := strings.Cut(id, "\n")
		body = before + "data: {}\nid: ID\n" + after
	}
	return body
}
