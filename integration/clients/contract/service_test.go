package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is how long a test waits for what must happen. It only matters when a test fails.
const patience = 30 * time.Second

// visit is a request for the stream. What is sent goes to the client; closing the channel breaks
// the connection.
type visit struct {
	request *http.Request
	body    string
	send    chan string
}

// harness is the other side of the contract: a stream and a callback endpoint.
type harness struct {
	t        *testing.T
	service  *httptest.Server
	own      *httptest.Server
	visits   chan *visit
	messages chan message
	ended    *sync.WaitGroup // all clients
	status   int             // answers requests for the stream; 0: 200

	mu   sync.Mutex
	told int
	err  error
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{t: t, visits: make(chan *visit, 16), messages: make(chan message, 128)}
	mux := http.NewServeMux()
	mux.HandleFunc("/stream", h.stream)
	mux.HandleFunc("POST /callback/{n}", h.callback)
	h.own = httptest.NewServer(mux)
	s := newService(func() {})
	h.service = httptest.NewServer(s)
	h.ended = &s.running
	mux.Handle("/moved", http.RedirectHandler("/stream", http.StatusMovedPermanently))
	mux.HandleFunc("/nowhere", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTemporaryRedirect) })
	t.Cleanup(func() {
		s.close()
		h.service.Close()
		h.own.CloseClientConnections()
		h.own.Close()
		if h.err != nil {
			t.Error(h.err)
		}
	})
	return h
}

func (h *harness) stream(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	v := &visit{request: r, body: string(body), send: make(chan string)}
	if h.status != 0 {
		w.WriteHeader(h.status)
		h.visits <- v
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	h.visits <- v
	for {
		select {
		case <-r.Context().Done():
			return
		case chunk, ok := <-v.send:
			if !ok {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, chunk)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func (h *harness) callback(w http.ResponseWriter, r *http.Request) {
	var m message
	h.mu.Lock()
	h.told++
	if want := fmt.Sprint(h.told); r.PathValue("n") != want {
		h.err = errors.Join(h.err, fmt.Errorf("callback %s came when %s was due", r.PathValue("n"), want))
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		h.err = errors.Join(h.err, err)
	}
	h.mu.Unlock()
	h.messages <- m
	w.WriteHeader(http.StatusAccepted)
}

// do sends a request to the service.
func (h *harness) do(method, url string, body any) *http.Response {
	h.t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), method, url, bytes.NewReader(content))
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// create starts a client and returns the URL of its stream.
func (h *harness) create(p params) string {
	h.t.Helper()
	p.StreamURL, p.CallbackURL = h.own.URL+cmp.Or(p.StreamURL, "/stream"), h.own.URL+"/callback"
	if p.InitialDelayMS == nil {
		p.InitialDelayMS = new(int)
	}
	resp := h.do(http.MethodPost, h.service.URL, p)
	if resp.StatusCode != http.StatusCreated {
		h.t.Fatalf("status %d", resp.StatusCode)
	}
	return h.service.URL + resp.Header.Get("Location")
}

func (h *harness) visit() *visit {
	h.t.Helper()
	return receive(h.t, h.visits, "a visit")
}

func (h *harness) message() message {
	h.t.Helper()
	return receive(h.t, h.messages, "a message")
}

func receive[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

func ev(typ, id, data string) message {
	return message{Kind: "event", Event: &event{Type: typ, ID: id, Data: data}}
}

func comment(text string) message { return message{Kind: "comment", Comment: text} }

func same(a, b message) bool {
	if (a.Event == nil) != (b.Event == nil) || a.Event != nil && *a.Event != *b.Event {
		return false
	}
	return a.Kind == b.Kind && a.Comment == b.Comment
}

// TestParsing: what comes, in one chunk and byte by byte, is what the harness is told.
func TestParsing(t *testing.T) {
	const bom = "\xEF\xBB\xBF"
	for _, test := range []struct {
		name, stream string
		want         []message
	}{
		{"two lines", "data: a\ndata:b\n\n", []message{ev("message", "", "a\nb")}},
		{"empty data", "data:\n\ndata\ndata\n\n", []message{ev("message", "", ""), ev("message", "", "\n")}},
		{"type and ID", "event: t\nid: 1\ndata: a\n\n", []message{ev("t", "1", "a")}},
		{"a space of its own", "event:  t\ndata:  a\n\n", []message{ev(" t", "", " a")}},
		{"unknown field", "color: blue\ndata: a\n\n", []message{ev("message", "", "a")}},
		{"NUL in an ID", "id: a\x00b\ndata: a\n\n", []message{ev("message", "", "a")}},
		{"an ID stays, and is reset", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", []message{ev("message", "1", "a"), ev("message", "1", "b"), ev("message", "", "c")}},
		{"several bytes a letter", "data: €豆腐🌊\n\n", []message{ev("message", "", "€豆腐🌊")}},
		{"CR", "data: a\rdata: b\r\rdata: c\r\r:\n", []message{ev("message", "", "a\nb"), ev("message", "", "c"), comment("")}},
		{"CRLF", "data: a\r\ndata: b\r\n\r\n\r\n\r\ndata: c\r\n\r\n", []message{ev("message", "", "a\nb"), ev("message", "", "c")}},
		{"comments", ":a\n:b\ndata: a\n\n:c\n", []message{comment("a"), comment("b"), ev("message", "", "a"), comment("c")}},
		{"one BOM", bom + "data: " + bom + "a\n\n" + "data: b\n\n", []message{ev("message", "", bom+"a"), ev("message", "", "b")}},
		{"BOM before a comment", bom + ":a\ndata: a\n\n", []message{comment("a"), ev("message", "", "a")}},
		{"many", strings.Repeat("data: a\n\n", 20), slices.Repeat([]message{ev("message", "", "a")}, 20)},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{len(test.stream), 1, 2} {
				h := newHarness(t)
				h.create(params{})
				v := h.visit()
				for chunk := range slices.Chunk([]byte(test.stream), size) {
					v.send <- string(chunk)
				}
				for i, want := range test.want {
					if got := h.message(); !same(got, want) {
						t.Errorf("in chunks of %d: message %d is %+v %+v, want %+v %+v", size, i, got, got.Event, want, want.Event)
					}
				}
			}
		})
	}
}

// TestLargeEvent: no bound of the client stands in the way.
func TestLargeEvent(t *testing.T) {
	h := newHarness(t)
	h.create(params{})
	data := strings.Repeat("x", 10<<20)
	v := h.visit()
	v.send <- "data: " + data[:len(data)/2]
	v.send <- data[len(data)/2:] + "\n\n"
	if got := h.message(); !same(got, ev("message", "", data)) {
		t.Errorf("got a message of %d bytes", len(got.Event.Data))
	}
}

func TestRequests(t *testing.T) {
	for _, method := range []string{"", "POST", "REPORT"} {
		h := newHarness(t)
		p := params{Method: method, LastEventID: "7", Headers: map[string]string{"x-own": "a"}}
		if method != "" {
			p.Body, p.Headers["content-type"] = `{"a":1}`, "application/json"
		}
		h.create(p)
		first := h.visit()
		first.send <- "id: 8\ndata: a\n\n"
		if got := h.message(); !same(got, ev("message", "8", "a")) {
			t.Errorf("got %+v", got)
		}
		close(first.send)
		if got := h.message(); got.Kind != "error" || got.Error == "" {
			t.Errorf("got %+v of a broken connection", got)
		}
		for i, v := range []*visit{first, h.visit()} {
			r := v.request
			if want := max(method, "GET"); r.Method != want || v.body != p.Body || r.Header.Get("X-Own") != "a" {
				t.Errorf("request %d of %q: %s %q %v", i, method, r.Method, v.body, r.Header)
			}
			if r.Header.Get("Accept") != "text/event-stream" || r.Header.Get("Cache-Control") != "no-cache" || r.Header.Get("Content-Type") != p.Headers["content-type"] {
				t.Errorf("request %d of %q: headers %v", i, method, r.Header)
			}
			if want := []string{"7", "8"}[i]; r.Header.Get("Last-Event-Id") != want {
				t.Errorf("request %d of %q states %q, want %q", i, method, r.Header.Get("Last-Event-Id"), want)
			}
		}
	}
}

func TestRestart(t *testing.T) {
	h := newHarness(t)
	stream := h.create(params{InitialDelayMS: new(3_600_000)})
	h.visit().send <- "data: a\n\n"
	h.message()
	if resp := h.do(http.MethodPost, stream, map[string]string{"command": "restart"}); resp.StatusCode != http.StatusAccepted {
		t.Errorf("status %d", resp.StatusCode)
	}
	h.visit().send <- "data: b\n\n"
	// A restart that was asked for is no error.
	if got := h.message(); !same(got, ev("message", "", "b")) {
		t.Errorf("got %+v", got)
	}
}

func TestReadTimeout(t *testing.T) {
	h := newHarness(t)
	h.create(params{ReadTimeoutMS: 50})
	h.visit()
	if got := h.message(); got.Kind != "error" {
		t.Errorf("got %+v", got)
	}
	h.visit()
}

// TestTornEvent: of an event whose connection broke nothing is left, and an ID can be reset.
func TestTornEvent(t *testing.T) {
	h := newHarness(t)
	h.create(params{})
	v := h.visit()
	v.send <- "id: 1\ndata: a\n\nid: 2\ndata: to"
	if got := h.message(); !same(got, ev("message", "1", "a")) {
		t.Errorf("got %+v", got)
	}
	close(v.send)
	if got := h.message(); got.Kind != "error" {
		t.Errorf("got %+v of a broken connection", got)
	}
	v = h.visit()
	v.send <- "data: b\n\nid\ndata: c\n\n"
	for _, want := range []message{ev("message", "1", "b"), ev("message", "", "c")} {
		if got := h.message(); !same(got, want) {
			t.Errorf("got %+v %+v, want %+v", got, got.Event, want.Event)
		}
	}
	close(v.send)
	if header := h.visit().request.Header; header.Values("Last-Event-Id") != nil {
		t.Errorf("an ID is stated that was reset: %v", header)
	}
}

func TestRedirects(t *testing.T) {
	h := newHarness(t)
	h.create(params{StreamURL: "/moved"})
	h.visit().send <- "data: a\n\n"
	if got := h.message(); !same(got, ev("message", "", "a")) {
		t.Errorf("got %+v", got)
	}
	h = newHarness(t)
	h.create(params{StreamURL: "/nowhere", InitialDelayMS: new(3_600_000)})
	if got := h.message(); got.Kind != "error" {
		t.Errorf("got %+v of a redirect to nowhere", got)
	}
}

// TestEnds: a status that is final is asked for once, and 204 is no error.
func TestEnds(t *testing.T) {
	for status, want := range map[int]string{http.StatusForbidden: "403", http.StatusNoContent: ""} {
		h := newHarness(t)
		h.status = status
		h.create(params{})
		h.visit()
		h.ended.Wait()
		if got := len(h.visits); got != 0 {
			t.Errorf("status %d: %d more visits", status, got)
		}
		if want == "" && len(h.messages) == 0 {
			continue
		}
		if got := h.message(); got.Kind != "error" || !strings.Contains(got.Error, want) || want == "" {
			t.Errorf("status %d: got %+v", status, got)
		}
	}
}

func TestService(t *testing.T) {
	h := newHarness(t)
	var status struct{ Capabilities []string }
	if err := json.NewDecoder(h.do(http.MethodGet, h.service.URL, nil).Body).Decode(&status); err != nil || len(status.Capabilities) != len(capabilities) {
		t.Errorf("capabilities %v, error %v", status.Capabilities, err)
	}
	url := h.own.URL + "/stream"
	for _, p := range []params{{}, {StreamURL: url}, {StreamURL: "/stream", CallbackURL: url}, {StreamURL: url, CallbackURL: url, Method: "a b"}} {
		if resp := h.do(http.MethodPost, h.service.URL, p); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d for %+v", resp.StatusCode, p)
		}
	}
	stream := h.create(params{})
	v := h.visit()
	if resp := h.do(http.MethodPost, stream, map[string]string{"command": "jump"}); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d for an unknown command", resp.StatusCode)
	}
	for i, want := range []int{http.StatusOK, http.StatusNotFound} {
		if resp := h.do(http.MethodDelete, stream, nil); resp.StatusCode != want {
			t.Errorf("status %d for deletion %d", resp.StatusCode, i)
		}
	}
	receive(t, v.request.Context().Done(), "the end of the connection")
	if resp := h.do(http.MethodPost, stream, map[string]string{"command": "restart"}); resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d for a stream that is gone", resp.StatusCode)
	}
}

// TestRun: the harness ends the program.
func TestRun(t *testing.T) {
	addr := "127.0.0.1:" + testenv.Ports(t, 1)[0]
	done := make(chan error, 1)
	go func() { done <- run(addr) }()
	h := &harness{t: t}
	testenv.Eventually(t, "the service answers", func() error {
		resp, err := http.Get("http://" + addr)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	h.do(http.MethodDelete, "http://"+addr, nil)
	if err := receive(t, done, "the program's end"); err != nil {
		t.Error(err)
	}
}

// TestWithTheHarness runs the harness itself where somebody has installed it: it comes from no
// package registry.
func TestWithTheHarness(t *testing.T) {
	program, err := exec.LookPath("sse-contract-tests")
	if err != nil {
		program, err = exec.LookPath("sse-test-harness")
	}
	if err != nil {
		t.Skip("neither sse-contract-tests nor sse-test-harness is installed")
	}
	s := newService(func() {})
	server := httptest.NewServer(s)
	defer server.Close()
	defer s.close()
	out, err := exec.CommandContext(t.Context(), program, "--url", server.URL, "--host", "127.0.0.1", "--port", testenv.Ports(t, 1)[0]).CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
