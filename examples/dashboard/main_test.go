package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends"
	_ "github.com/headrace/headrace/backends/redisstream/embedded" // Redis within the test
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testenv.Main(m)
}

// patience is how long a stream, or the browser, may take for one step before the test gives up.
const patience = time.Minute

// app is the application without machines, served on a port of its own.
type app struct {
	t      *testing.T
	hub    *hub.Hub
	server *server
	url    string
	conns  *connections
}

// newHub returns a hub over a backend of its own, which ends with the test.
func newHub(t *testing.T, url string) *hub.Hub {
	t.Helper()
	backend, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(h.Shutdown(ctx), backend.Close()); err != nil {
			t.Errorf("stopping the hub: %v", err)
		}
	})
	return h
}

// serve starts an instance over a hub. The handler that wrap returns, if not nil, stands between
// the network and it.
func serve(t *testing.T, h *hub.Hub, wrap func(http.Handler) http.Handler) *app {
	t.Helper()
	s, err := newServer(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		s.Handler = wrap(s.Handler)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, hub: h, server: s, url: "http://" + listener.Addr().String(), conns: &connections{Listener: listener}}
	served := make(chan error, 1)
	go func() { served <- s.Serve(a.conns) }()
	t.Cleanup(func() {
		a.stop()
		if err := <-served; err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
	})
	return a
}

// stop stops the server, as often as wanted, and leaves the hub.
func (a *app) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(a.server.Shutdown(ctx), a.server.drain.Wait(ctx)); err != nil {
		a.t.Errorf("stop: %v", err)
	}
}

// connections is a listener that can cut all connections that it has accepted.
type connections struct {
	net.Listener
	mu   sync.Mutex
	open []net.Conn
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.open = append(c.open, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *connections) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}

// publish publishes values to a topic, and has all of them appended.
func (a *app) publish(topic string, values ...hub.Typed) {
	a.t.Helper()
	for _, v := range values {
		if _, err := hub.NewTopic[hub.Typed](a.hub, topic).Publish(a.t.Context(), v); err != nil {
			a.t.Fatal(err)
		}
	}
}

// do sends a request and returns the status and the body.
func (a *app) do(method, path, body string, header ...string) (int, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream; charset=utf-8" {
		a.t.Fatalf("%s %s is answered by a stream", method, path)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// stream is somebody's stream, with everything that came in on it.
type stream struct {
	t      *testing.T
	d      *sse.Decoder
	body   io.Closer
	all    bytes.Buffer
	cursor string
}

// follow opens a site's feed as somebody, from a cursor on if there is one.
func (a *app) follow(name, site, cursor string) *stream {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	a.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/sites/"+site+"/events", nil)
	if err != nil {
		a.t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: sessionCookie, Value: name})
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		a.t.Fatalf("status %d", resp.StatusCode)
	}
	s := &stream{t: a.t, body: resp.Body, cursor: cursor}
	s.d = sse.NewDecoder(io.TeeReader(resp.Body, &s.all))
	return s
}

// decode returns the next event, or false at the end of the stream.
func (s *stream) decode() (sse.Event, bool) {
	s.t.Helper()
	e, err := s.d.Decode()
	if errors.Is(err, io.EOF) {
		return e, false
	}
	if err != nil {
		s.t.Fatalf("%v after %s", err, s.all.String())
	}
	if e.ID != "" {
		s.cursor = e.ID
	}
	return e, true
}

// content is what the tests look at in the data of events.
type content struct {
	kind    string
	Name    string   `json:"name"`
	Role    role     `json:"role"`
	Sensors []sensor `json:"sensors"`
	Sensor  string   `json:"sensor"`
	Seq     int64    `json:"seq"`
	At      int64    `json:"at"`
	Value   float64  `json:"value"`
	Unit    string   `json:"unit"`
	Hot     bool     `json:"hot"`
	Raised  bool     `json:"raised"`
	Text    string   `json:"text"`
}

// next returns the next event that is no checkpoint.
func (s *stream) next() content {
	s.t.Helper()
	for {
		e, ok := s.decode()
		if !ok {
			s.t.Fatalf("the stream ended after %s", s.all.String())
		}
		if e.Type == "checkpoint" {
			continue
		}
		c := content{kind: e.Type}
		if err := json.Unmarshal([]byte(e.Text()), &c); err != nil {
			s.t.Fatalf("event %s with data %s: %v", e.Type, e.Text(), err)
		}
		return c
	}
}

// greeted takes the hello, which is the first thing on each connection.
func (s *stream) greeted() *stream {
	s.t.Helper()
	if c := s.next(); c.kind != "hello" {
		s.t.Fatalf("the stream begins with %+v", c)
	}
	return s
}

// lacks fails when something has come in, in the clear or within an id.
func (s *stream) lacks(words ...string) {
	s.t.Helper()
	text := s.all.String()
	for line := range strings.Lines(s.all.String()) {
		if id, ok := strings.CutPrefix(line, "id: v1."); ok {
			inside, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(id))
			if err != nil {
				s.t.Fatalf("the id %s cannot be looked into: %v", id, err)
			}
			text += string(inside)
		}
	}
	for _, word := range words {
		if strings.Contains(text, word) {
			s.t.Errorf("%q has come in:\n%s", word, s.all.String())
		}
	}
}

// TestRunStopsWithStreamsOpen starts the program as a user does, sees its machines publish, and
// stops it.
func TestRunStopsWithStreamsOpen(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-addr", "127.0.0.1:0", "-rate", "20", "-backend", "miniredis://dashboard"}, out)
		out.Close()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "dashboard: ")
	if err != nil || !ok || !strings.HasPrefix(url, "http://127.0.0.1:") || !strings.HasSuffix(url, "/") || strings.Contains(url, ":0/") {
		t.Fatalf("printed %q, %v", line, err)
	}
	a := &app{t: t, url: strings.TrimSuffix(url, "/")}
	for _, site := range sites {
		s := a.follow("Otto", site, "").greeted()
		for seen := map[string]bool{}; len(seen) < len(sensors); {
			if c := s.next(); c.kind == "point" || c.kind == "calibration" {
				seen[c.Sensor] = true
			}
		}
	}
	s := a.follow("Vera", sites[0], "").greeted()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for ok := true; ok; {
		_, ok = s.decode() // to a clean end
	}
	if retry, ok := s.d.Retry(); !ok || retry <= 0 {
		t.Error("the client was not told when to come back")
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"-colour", "red"}, {"memory://"}, {"-backend", "carrier-pigeon://"}, {"-backend", "memory://?histroy=7"}, {"-backend", "redis://u:canary@h:x"},
		{"-addr", "127.0.0.1"}, {"-addr", "127.0.0.1:99999"}, {"-rate", "21"}, {"-rate", "-1"}, {"-rate", "fast"}, {"-seed", "-1"},
	} {
		if err := run(t.Context(), args, io.Discard); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: error %v", args, err)
		}
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
