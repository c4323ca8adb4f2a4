//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/headrace/headrace/integration/bench/internal/payload"
)

// cut feeds a stream to one connection in pieces of a length and returns the loop.
func cut(t *testing.T, stream []byte, length int, now int64) (*loop, *conn) {
	t.Helper()
	c := &conn{sampled: true}
	l := &loop{out: &bytes.Buffer{}, conns: map[int32]*conn{0: c}, opened: 1, latency: true, step: 2}
	for len(stream) > 0 {
		n := min(length, len(stream))
		if err := l.feed(c, stream[:n:n], now); err != nil {
			t.Fatal(err)
		}
		stream = stream[n:]
	}
	return l, c
}

func TestFeedInPieces(t *testing.T) {
	const header = "HTTP/1.1 200 OK\r\nX-Odd: !^\r\n\r\n"
	stream := []byte(header + ": hello\n\n")
	stream = append(stream, payload.ProbeMessage(60)...)
	for i := range int64(5) {
		stream = append(stream, "\n\nid: 1\ndata: "...)
		stream = append(stream, payload.Message(80, 1000+i)...)
	}
	for length := 1; length <= len(stream); length++ {
		l, c := cut(t, stream, length, 5000)
		if c.count != 5 || l.total != 5 || l.joined != 1 || l.last != 5000 {
			t.Fatalf("pieces of %d: %d messages, %d in all, %d joined, last at %d", length, c.count, l.total, l.joined, l.last)
		}
		if l.answered != 1 || l.first != 5000 {
			t.Fatalf("pieces of %d: answered %d times, last at %d", length, l.answered, l.first)
		}
		if len(l.samples) != 5 {
			t.Fatalf("pieces of %d: %d samples", length, len(l.samples))
		}
		for _, s := range l.samples {
			if s < 3996 || s > 4000 {
				t.Fatalf("pieces of %d: a sample of %d", length, s)
			}
		}
		if got := l.out.(*bytes.Buffer).String(); !strings.HasSuffix(got, "progress 4\n") {
			t.Fatalf("pieces of %d: %q", length, got)
		}
	}
}

func TestFeedRefuses(t *testing.T) {
	for name, stream := range map[string]string{
		"another status":  "HTTP/1.1 503 Service Unavailable\r\n\r\n",
		"no status":       "hello\r\n\r\n",
		"an endless head": strings.Repeat("x", maxHeader+1),
	} {
		l := &loop{conns: make(map[int32]*conn)}
		if err := l.feed(&conn{}, []byte(stream), 0); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		values []int64
		p      int
		want   int64
	}{{nil, 50, 0}, {[]int64{7}, 99, 7}, {hundred, 50, 50}, {hundred, 99, 99}} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("%d of %d values: %d", c.p, len(c.values), got)
		}
	}
}

// start runs a loop against addresses and returns what asks it a question; an empty question waits
// for one more line.
func start(t *testing.T, addrs []string, path, cursor string) func(string) string {
	t.Helper()
	in, commands, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(int(in.Fd()), out)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if err := l.add(addr, path, cursor); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- l.run() }()
	t.Cleanup(func() {
		_ = commands.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_, _, _ = in.Close(), out.Close(), answers.Close()
	})
	lines := bufio.NewScanner(answers)
	return func(command string) string {
		t.Helper()
		if command != "" {
			if _, err := commands.WriteString(command + "\n"); err != nil {
				t.Fatal(err)
			}
		}
		lines.Scan()
		return lines.Text()
	}
}

// topic sends the same to all clients.
type topic struct {
	mu      sync.Mutex
	clients []chan []byte
	cursors []string
	joined  chan struct{}
}

func (s *topic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	messages := make(chan []byte, 100)
	s.mu.Lock()
	s.clients = append(s.clients, messages)
	s.cursors = append(s.cursors, r.Header.Get("Last-Event-ID"))
	s.mu.Unlock()
	s.joined <- struct{}{}
	w.Header().Set("Connection", "close")
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			fmt.Fprintf(w, "data: %s\n\n", m)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (s *topic) send(m []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		c <- m
	}
}

func TestLoop(t *testing.T) {
	const clients = 200
	s := &topic{joined: make(chan struct{}, clients)}
	one, two := httptest.NewServer(s), httptest.NewServer(s)
	// After the clients have gone: a server waits for them.
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	ask := start(t, []string{one.Listener.Addr().String(), two.Listener.Addr().String()}, "/events", "cursor-1")

	if got := ask(fmt.Sprint("open ", clients)); !strings.HasPrefix(got, "opened 200 ") {
		t.Fatal(got)
	}
	for range clients {
		<-s.joined
	}
	s.send(payload.ProbeMessage(64))
	if got := ask("join 30"); got != "joined 200" {
		t.Fatal(got)
	}
	if got := ask("reset 0 1 0"); got != "ok" {
		t.Fatal(got)
	}
	for range 10 {
		s.send(payload.Message(200, payload.Now()))
	}
	var last, p50, p99 int64
	var total, least, most, lost, samples int
	got := ask("expect 10 30")
	if _, err := fmt.Sscanf(got, "done %d %d %d %d %d %d %d %d", &last, &total, &least, &most, &lost, &samples, &p50, &p99); err != nil {
		t.Fatalf("%q: %v", got, err)
	}
	if total != 2000 || least != 10 || most != 10 || lost != 0 || samples != 1000 || p50 <= 0 || p99 < p50 || last > payload.Now() {
		t.Errorf("got %q", got)
	}
	if s.cursors[0] != "cursor-1" {
		t.Errorf("cursor %q", s.cursors[0])
	}

	// One message less than expected is waited for, and then said.
	if got := ask("reset 5 0 0"); got != "ok" {
		t.Fatal(got)
	}
	for range 9 {
		s.send(payload.Message(200, payload.Now()))
	}
	if got := ask("expect 10 1"); got != "progress 5" {
		t.Errorf("got %q", got)
	}
	if got := ask(""); !strings.Contains(got, " 1800 9 9 0 0 0 0") {
		t.Errorf("got %q", got)
	}

	// Connections that end are counted, and nothing more is expected of them.
	s.mu.Lock()
	for _, c := range s.clients[:50] {
		close(c)
	}
	s.clients = s.clients[50:]
	s.mu.Unlock()
	if got := ask("expect 9 30"); !strings.Contains(got, " 9 9 ") {
		t.Errorf("got %q", got)
	}
	if got := ask("expect 10 1"); !strings.Contains(got, " 1800 9 9 50 ") {
		t.Errorf("got %q", got)
	}
	for _, wrong := range []string{"dance", "open", "open x", "reset 1 2", "expect -1 2"} {
		if got := ask(wrong); !strings.HasPrefix(got, "error ") {
			t.Errorf("%s: %q", wrong, got)
		}
	}
}

// TestConnectNumbersPaths: each connection has a number of its own, over all addresses.
func TestConnectNumbersPaths(t *testing.T) {
	const clients = 70
	var mu sync.Mutex
	paths := make(map[string]int)
	late := make(chan struct{})
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths[r.URL.Path]++
		mu.Unlock()
		if r.URL.Path == "/events/70/x" {
			<-late
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	one, two := httptest.NewServer(serve), httptest.NewServer(serve)
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	ask := start(t, []string{one.Listener.Addr().String(), two.Listener.Addr().String()}, "/events/{n}/x", "")

	var all int
	var started, first int64
	got := ask(fmt.Sprintf("connect %d 30", clients))
	if _, err := fmt.Sscanf(got, "connected %d %d %d", &all, &started, &first); err != nil || all != clients {
		t.Fatalf("%q: %v", got, err)
	}
	if first < started || first > payload.Now() {
		t.Errorf("%q", got)
	}
	// One that gets no byte is waited for, and then missing.
	if got := ask("connect 1 1"); !strings.HasPrefix(got, "connected 70 ") {
		t.Errorf("%q", got)
	}
	close(late)
	if got := ask("connect 1 30"); !strings.HasPrefix(got, "connected 72 ") {
		t.Errorf("%q", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range clients + 2 {
		if path := fmt.Sprintf("/events/%d/x", i); paths[path] != 1 {
			t.Errorf("%s is asked for %d times", path, paths[path])
		}
	}
}

// TestProgressOfReceivers: where not all connections get a message, progress is that of the sum.
func TestProgressOfReceivers(t *testing.T) {
	out := &bytes.Buffer{}
	l := &loop{out: out, conns: map[int32]*conn{0: {}, 1: {}, 2: {}, 3: {}}}
	l.reset(4, false, 2)
	for range 7 {
		l.count(l.conns[0], 1, 1)
	}
	if got := out.String(); got != "" {
		t.Errorf("after 7 of 8: %q", got)
	}
	l.count(l.conns[1], 1, 1)
	l.count(l.conns[2], 17, 1)
	if got := out.String(); got != "progress 4\nprogress 12\n" {
		t.Errorf("got %q", got)
	}
}

func TestAddRefuses(t *testing.T) {
	l := &loop{}
	for _, addr := range []string{"", "localhost:80", "[::1]:80", "127.0.0.1"} {
		if l.add(addr, "/", "") == nil {
			t.Errorf("%q is taken", addr)
		}
	}
	if err := l.add("127.0.0.1:8080", "/events?stream=load", "0123456789abcdef-12345678"); err != nil {
		t.Fatal(err)
	}
	if n := len(l.targets[0].request(7)); n > 300 {
		t.Errorf("the request has %d bytes, and 300 is the limit", n)
	}
}
