package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testenv.Main(m)
}

// shaky is a backend that can be told to fail.
type shaky struct {
	hub.Backend
	away atomic.Bool  // nothing is appended
	lose atomic.Int32 // how many answers get lost

	following atomic.Pointer[func()] // runs before a topic is followed
}

func (s *shaky) Follow(ctx context.Context, topic string, sink hub.Sink) (hub.ID, func(), error) {
	if f := s.following.Swap(nil); f != nil {
		(*f)()
	}
	return s.Backend.Follow(ctx, topic, sink)
}

func (s *shaky) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	if s.away.Load() {
		return "", errors.Join(hub.ErrRejected, errors.New("canary: away"))
	}
	id, err := s.Backend.Publish(ctx, topic, m)
	if s.lose.Add(-1) >= 0 {
		return "", errors.New("canary: answer lost")
	}
	return id, err
}

// setup is how an application is started; the zero value has everything in memory.
type setup struct {
	backend string
	hub     hub.Options
	stream  ginsse.Options
	wrap    func(http.Handler) http.Handler // what stands between the network and the application
}

// app is the application, served on a port of its own.
type app struct {
	*server
	t       *testing.T
	backend *shaky
	url     string
}

func serve(t *testing.T, o setup) *app {
	t.Helper()
	if o.backend == "" {
		o.backend = "memory://"
	}
	opened, err := backends.Open(t.Context(), o.backend)
	if err != nil {
		t.Fatal(err)
	}
	backend := &shaky{Backend: opened}
	h, err := hub.New(backend, o.hub)
	if err != nil {
		t.Fatal(err)
	}
	o.stream.Drain = &feed.Drain{Window: -1}
	s, err := newServer(h, newStore(), o.stream)
	if err != nil {
		t.Fatal(err)
	}
	if o.wrap != nil {
		s.Handler = o.wrap(s.Handler)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		_ = backend.Close()
	})
	return &app{server: s, t: t, backend: backend, url: "http://" + listener.Addr().String()}
}

// do sends a request and returns the response, and its body.
func (a *app) do(method, path, body string, header ...string) (*http.Response, string) {
	a.t.Helper()
	return do(a.t, method, a.url+path, body, header...)
}

func do(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

// must sends a change, which must succeed, and returns the order.
func (a *app) must(path, body string, header ...string) (o Order) {
	a.t.Helper()
	resp, answer := a.do(http.MethodPost, path, body, header...)
	if resp.StatusCode/100 != 2 {
		a.t.Fatalf("%s: status %d, %s", path, resp.StatusCode, answer)
	}
	if err := json.Unmarshal([]byte(answer), &o); err != nil {
		a.t.Fatal(err)
	}
	return o
}

const mug = `{"customer":"Ada","items":[{"product":"Enamel mug","quantity":2}]}` // 25.80

// place places an order for two mugs.
func (a *app) place() Order {
	a.t.Helper()
	return a.must("/orders", mug)
}

// state returns what a URL answers as JSON, and the place where a stream goes on.
func state[T any](a *app, path string) (v T, cursor string) {
	a.t.Helper()
	resp, answer := a.do(http.MethodGet, path, "", "Accept", "application/json")
	if err := json.Unmarshal([]byte(answer), &v); err != nil || resp.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: status %d, %s (%v)", path, resp.StatusCode, answer, err)
	}
	return v, resp.Header.Get("Last-Event-ID")
}

// stream is an open stream.
type stream struct {
	*sse.Decoder
	t    *testing.T
	body io.Closer
}

func follow(t *testing.T, url string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d", url, resp.StatusCode)
	}
	return &stream{sse.NewDecoder(resp.Body), t, resp.Body}
}

// next returns the next event, whose type is certain, and decodes its data into v, unless that is
// nil.
func (s *stream) next(kind string, v any) (id string) {
	s.t.Helper()
	e, err := s.Decode()
	if err != nil || e.Type != kind {
		s.t.Fatalf("event %q %s (%v), want %s", e.Type, e.Text(), err, kind)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(e.Text()), v); err != nil {
			s.t.Fatal(err)
		}
	}
	return e.ID
}

// TestProgram runs the program as a user does and uses it as the README says, with curl where that
// is installed; it stops with a stream open.
func TestProgram(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, out)
		out.Close()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	base, ok := strings.CutPrefix(strings.TrimSpace(line), "orders: ")
	if err != nil || !ok || !strings.HasPrefix(base, "http://127.0.0.1:") || !strings.HasSuffix(base, "/") {
		t.Fatalf("printed %q, %v", line, err)
	}
	base = strings.TrimSuffix(base, "/")

	var shop Shop
	if err := json.Unmarshal([]byte(curl(t, base+"/orders", "-H", "Accept: application/json")), &shop); err != nil || len(shop.Orders) != len(samples) || shop.TillCents != tillOf(shop.Orders) || shop.TillCents == 0 {
		t.Fatalf("the shop opens with %+v (%v)", shop, err)
	}
	order := shop.Orders[0]
	s := follow(t, base+"/orders/"+order.ID+"/events")
	var got Order
	if s.next("snapshot", &got); got.State != Placed {
		t.Errorf("the first order is %s", got.State)
	}
	if answer := curl(t, base+"/orders/"+order.ID+"/pay", "-X", "POST", "-H", "Idempotency-Key: by-hand"); !strings.Contains(answer, `"state":"paid"`) {
		t.Errorf("paying: %s", answer)
	}
	if s.next("paid", &got); got.Version != 2 || got.PaidCents != order.TotalCents {
		t.Errorf("after paying: %+v", got)
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := s.Decode(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v, want a clean end", err)
	}
	if retry, ok := s.Retry(); !ok || retry <= 0 {
		t.Error("the client was not told when to come back")
	}
}

// curl runs curl, or does the same.
func curl(t *testing.T, url string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err == nil {
		answer, err := exec.CommandContext(t.Context(), path, append(args, "-sS", "--max-time", "60", url)...).Output()
		if err != nil {
			t.Fatalf("curl: %v", err)
		}
		return string(answer)
	}
	method, header := http.MethodGet, []string(nil)
	for i := 0; i < len(args); i += 2 {
		if args[i] == "-X" {
			method = args[i+1]
		} else {
			name, value, _ := strings.Cut(args[i+1], ": ")
			header = append(header, name, value)
		}
	}
	_, answer := do(t, method, url, "", header...)
	return answer
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{{"-colour", "red"}, {"memory://"}, {"-backend", "carrier-pigeon://"}, {"-backend", "redis://u:canary@h:x"}, {"-addr", "127.0.0.1"}, {"-addr", "127.0.0.1:99999"},
		{"-lifetime", "0s"}} {
		if err := run(t.Context(), args, io.Discard); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: error %v", args, err)
		}
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
