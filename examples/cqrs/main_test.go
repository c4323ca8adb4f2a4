package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
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

// app is the application, served on a port of its own.
type app struct {
	*server
	t       *testing.T
	backend *shaky
	url     string
}

// serve starts the application with its events in memory; the handler that wrap returns, if not
// nil, stands between the network and it.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) *app {
	t.Helper()
	return serveOver(t, "memory://", wrap)
}

// serveOver starts an instance of the application over a backend.
func serveOver(t *testing.T, url string, wrap func(http.Handler) http.Handler) *app {
	t.Helper()
	opened, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	backend := &shaky{Backend: opened}
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(t.Context(), h, nil)
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
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-served; err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
		_ = backend.Close()
	})
	return &app{server: s, t: t, backend: backend, url: "http://" + listener.Addr().String()}
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
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// follow opens the feed, from what came after an event if one is given, and returns what decodes
// it.
func follow(t *testing.T, base, after string) *sse.Decoder {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/events?last_event_id="+url.QueryEscape(after), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return sse.NewDecoder(resp.Body)
}

// next returns the next event in a few words, and its ID.
func next(t *testing.T, d *sse.Decoder) (what, id string) {
	t.Helper()
	e, err := d.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if e.Type == "checkpoint" {
		return e.Type, e.ID
	}
	return sentenceOf(t, e.Type, []byte(e.Text())), e.ID
}

// TestFeed: commands go in, events come out, each once though two answers are lost, and again for
// who comes back.
func TestFeed(t *testing.T) {
	for _, backend := range []string{"memory://", "miniredis://cqrs"} {
		t.Run(backend, func(t *testing.T) {
			a := serveOver(t, backend, nil)
			feed := follow(t, a.url, "")
			if what, _ := next(t, feed); what != "checkpoint" {
				t.Fatalf("the feed begins with %s", what)
			}
			a.do("POST", "/debug/lose", "")
			code, answer := a.do("POST", "/commands/BookRoom", `{"room":203,"guest":" Ada "}`, "Idempotency-Key", "b-1")
			if code != http.StatusAccepted || answer != `{"command":"b-1"}` {
				t.Fatalf("status %d, %s", code, answer)
			}
			what, id := next(t, feed)
			if what != "RoomBooked 203 v1 Ada" {
				t.Fatalf("got %s", what)
			}
			a.do("POST", "/commands/BookRoom", `{"room":203,"guest":"Grace"}`)
			refused := "CommandRefused room 203 is booked, not free"
			if what, _ := next(t, feed); what != refused {
				t.Errorf("got %s, want %s", what, refused)
			}
			if what, _ := next(t, follow(t, a.url, id)); what != refused {
				t.Errorf("after coming back: got %s, want %s", what, refused)
			}
			if got := a.buses.attempts.tally().Attempts[a.buses.desk.id+".b-1"]; got != 3 {
				t.Errorf("the first event was published %d times, want 3", got)
			}
			if code, answer := a.do("GET", "/rooms", ""); code != http.StatusOK || !strings.Contains(answer, `{"number":203,"state":"booked","guest":"Ada","version":1}`) {
				t.Errorf("rooms: status %d, %s", code, answer)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	a := serve(t, nil)
	tests := []struct {
		name, method, path, body string
		header                   []string
		code                     int
		want                     string
	}{
		{"unknown command", "POST", "/commands/BurnRoom", `{"room":101}`, nil, 404, "no such command"},
		{"no JSON", "POST", "/commands/CheckIn", `room 101`, nil, 400, "not the JSON"},
		{"JSON of another command", "POST", "/commands/CheckIn", `{"room":101,"guest":"Ada"}`, nil, 400, "not the JSON"},
		{"no name", "POST", "/commands/BookRoom", `{"room":101,"guest":" "}`, nil, 400, "name of the guest is missing"},
		{"name too long", "POST", "/commands/BookRoom", `{"room":101,"guest":"` + strings.Repeat("ä", maxGuest+1) + `"}`, nil, 400, "has 61 characters"},
		{"control character", "POST", "/commands/BookRoom", `{"room":101,"guest":"a\u0000b"}`, nil, 400, "control characters"},
		{"body too large", "POST", "/commands/CheckIn", `{"room":101` + strings.Repeat(" ", maxBody) + `}`, nil, 400, "too large"},
		{"strange key", "POST", "/commands/CheckIn", `{"room":101}`, []string{"Idempotency-Key", "a/b"}, 400, "Idempotency-Key"},
		{"long key", "POST", "/commands/CheckIn", `{"room":101}`, []string{"Idempotency-Key", strings.Repeat("k", 65)}, 400, "Idempotency-Key"},
		{"from a page of another site", "POST", "/commands/CheckIn", `{"room":101}`, []string{"Origin", "http://elsewhere.example"}, 403, ""},
		{"no such path", "GET", "/nix", "", nil, 404, `{"error":`},
		{"wrong method", "GET", "/commands/CheckIn", "", nil, 405, `{"error":`},
		{"the page", "GET", "/", "", nil, 200, "<title>Front desk"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, answer := a.do(test.method, test.path, test.body, test.header...)
			if code != test.code || !strings.Contains(answer, test.want) {
				t.Errorf("status %d, %s; want %d and %s", code, answer, test.code, test.want)
			}
		})
	}
	if got := a.backend.happened(t); len(got) != 1 {
		t.Errorf("events %q, want only the first", got)
	}
}

// TestRunStopsWithStreamsOpen starts the program as a user does, opens the feed, and stops it.
func TestRunStopsWithStreamsOpen(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, out)
		out.Close()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	base, ok := strings.CutPrefix(strings.TrimSpace(line), "cqrs: ")
	if err != nil || !ok || !strings.HasPrefix(base, "http://127.0.0.1:") || !strings.HasSuffix(base, "/") {
		t.Fatalf("printed %q, %v", line, err)
	}
	d := follow(t, strings.TrimSuffix(base, "/"), "")
	if _, err := d.Decode(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for err == nil {
		_, err = d.Decode()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v, want a clean end", err)
	}
	if retry, ok := d.Retry(); !ok || retry <= 0 {
		t.Error("the client was not told when to come back")
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{{"-colour", "red"}, {"memory://"}, {"-backend", "carrier-pigeon://"}, {"-backend", "memory://?histroy=7"}, {"-backend", "redis://u:canary@h:x"}, {"-addr", "127.0.0.1"}, {"-addr", "127.0.0.1:99999"}} {
		if err := run(t.Context(), args, io.Discard); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: error %v", args, err)
		}
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
