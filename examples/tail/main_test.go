package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// serve starts a feed of the topic t from its oldest message on.
func serve(t *testing.T) (*hub.Hub, string) {
	t.Helper()
	backend := memory.New(memory.Options{})
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(feed.Handler(feed.Of(h, "t"), feed.Options{Start: hub.Earliest()}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		server.Close()
		_ = backend.Close()
	})
	return h, server.URL
}

func publishTo(t *testing.T, h *hub.Hub, m hub.Message) hub.ID {
	t.Helper()
	id, err := h.Publish(t.Context(), "t", m)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// process is the program while it runs.
type process struct {
	lines *bufio.Reader
	notes strings.Builder
	stop  context.CancelFunc
	done  chan error
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	p := &process{lines: bufio.NewReader(in), stop: cancel, done: make(chan error, 1)}
	go func() {
		err := run(ctx, args, stdio{in: strings.NewReader(""), out: out, err: &p.notes})
		out.Close()
		p.done <- err
	}()
	t.Cleanup(cancel)
	return p
}

func (p *process) next(t *testing.T) line {
	t.Helper()
	text, err := p.lines.ReadString('\n')
	var l line
	if err != nil || json.Unmarshal([]byte(text), &l) != nil {
		t.Fatalf("%q, %v", text, err)
	}
	return l
}

// ends waits for the end of the program, and of what it prints.
func (p *process) ends(t *testing.T) {
	t.Helper()
	rest, _ := io.ReadAll(p.lines)
	if err := <-p.done; err != nil || len(rest) > 0 {
		t.Errorf("it ended with %v and %q", err, rest)
	}
}

// TestLinesOfJSON: what is no terminal gets lines of JSON, up to the end of the feed.
func TestLinesOfJSON(t *testing.T) {
	h, url := serve(t)
	first := publishTo(t, h, hub.Message{Type: "greeting", Data: []byte("hello\nworld")})
	second := publishTo(t, h, hub.Message{Type: "photo", Data: []byte("\xff\xd8"), Binary: true})
	last, err := h.Finish(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, url)
	for _, want := range []string{
		fmt.Sprintf(`{"event":"message","id":%q,"type":"greeting","data":"hello\nworld"}`, first),
		fmt.Sprintf(`{"event":"message","id":%q,"type":"photo","base64":"/9g="}`, second),
		fmt.Sprintf(`{"event":"close","id":%q}`, last),
	} {
		if got, err := p.lines.ReadString('\n'); err != nil || got != want+"\n" {
			t.Errorf("got %q, %v; want %s", got, err, want)
		}
	}
	p.ends(t)
}

// TestSinceFile: a program that is started again goes on behind what it has printed.
func TestSinceFile(t *testing.T) {
	h, url := serve(t)
	file := filepath.Join(t.TempDir(), "cursor")
	n := 0
	for range 5 {
		for range 3 {
			publishTo(t, h, hub.Message{Data: fmt.Append(nil, n)})
			n++
		}
		p := start(t, "-since-file", file, url)
		for want := n - 3; want < n; want++ {
			if got := p.next(t); got.Data == nil || *got.Data != fmt.Sprint(want) {
				t.Fatalf("got %+v, want message %d", got, want)
			}
		}
		// A process that is ended before it has come to it saves nothing, and repeats.
		testenv.Eventually(t, "the cursor is saved", func() error {
			id, err := sse.CursorFile(file).Load(t.Context())
			if info, _ := h.Info(t.Context(), "t"); err != nil || id != string(info.Newest) {
				return fmt.Errorf("it is %q, %v", id, err)
			}
			return nil
		})
		p.stop()
		p.ends(t)
	}
}

// TestSince: an ID that is given counts, and a gap is said.
func TestSince(t *testing.T) {
	h, url := serve(t)
	first := publishTo(t, h, hub.Message{Data: []byte("a")})
	publishTo(t, h, hub.Message{Data: []byte("b")})
	p := start(t, "-since", string(first), url)
	if got := p.next(t); got.Data == nil || *got.Data != "b" {
		t.Errorf("got %+v", got)
	}
	p.stop()
	p.ends(t)
	p = start(t, "-since", "none-of-this-life", url)
	for _, want := range []string{"gap", "message", "message"} {
		if got := p.next(t); got.Event != want {
			t.Errorf("got %+v, want a %s", got, want)
		}
	}
	p.stop()
	p.ends(t)
}

func TestText(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	for _, test := range []struct {
		item   sse.Item
		plain  string
		colour string
	}{
		{sse.Message[[]byte]{ID: "1", Type: "made", Data: []byte("a\nb")}, "03:04:05  1  made  a\n    b",
			"\x1b[2m03:04:05\x1b[0m  \x1b[2m1\x1b[0m  \x1b[1mmade\x1b[0m  a\n    b"},
		{sse.Message[[]byte]{Data: []byte("a\x1b[2J\u202eb\r\u0085")}, `03:04:05  a\x1b[2J\u202eb\r\u0085`, ""},
		{sse.Message[[]byte]{Type: "\x1b]0;title\a"}, `03:04:05  \x1b]0;title\a  `, ""},
		{sse.Message[[]byte]{Data: []byte{0xff, 0xd8}}, "03:04:05  2 bytes", ""},
		{sse.Snapshot[[]byte]{ID: "1", State: []byte("{}")}, "03:04:05  1  snapshot  {}", ""},
		{sse.Gap{ID: "1"}, "03:04:05  1  messages are gone", "\x1b[2m03:04:05\x1b[0m  \x1b[2m1\x1b[0m  \x1b[33mmessages are gone\x1b[0m"},
		{sse.Close{}, "03:04:05  the feed has ended", ""},
	} {
		for _, colour := range []bool{false, true} {
			want := test.plain
			if colour {
				want = test.colour
			}
			var out strings.Builder
			p := printer{out: &out, colour: colour}
			if err := p.print(test.item, now); err != nil {
				t.Fatal(err)
			}
			if got := out.String(); want != "" && got != want+"\n" {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
}

// TestFormats: a terminal gets text in colour, unless flags or NO_COLOR say otherwise.
func TestFormats(t *testing.T) {
	h, url := serve(t)
	id := publishTo(t, h, hub.Message{Data: []byte("a")})
	if _, err := h.Finish(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args           []string
		terminal       bool
		noColour       string
		json, coloured bool
	}{
		{nil, true, "", false, true},
		{nil, true, "1", false, false},
		{nil, false, "", true, false},
		{[]string{"-format", "text"}, false, "", false, false},
		{[]string{"-format", "json"}, true, "", true, false},
		{[]string{"-format", "text", "-colour", "always"}, false, "1", false, true},
		{[]string{"-colour", "never"}, true, "", false, false},
	} {
		t.Setenv("NO_COLOR", test.noColour)
		var out strings.Builder
		if err := run(t.Context(), append(test.args, url), stdio{out: &out, err: io.Discard, terminal: test.terminal}); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if !strings.Contains(text, string(id)) || strings.HasPrefix(text, "{") != test.json || strings.Contains(text, "\x1b[") != test.coloured {
			t.Errorf("%q, terminal %v, NO_COLOR=%s: %q", test.args, test.terminal, test.noColour, text)
		}
	}
}

// TestNotes: a connection that is lost, and found again, is said beside the events.
func TestNotes(t *testing.T) {
	var came atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch came.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			if r.Header.Get("X-Team") != "blue" {
				t.Errorf("header %v", r.Header)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: close\ndata\nid: 1\n\n")
		}
	}))
	defer server.Close()
	p := start(t, "-header", "X-Team: blue", server.URL)
	if got := p.next(t); got.Event != "close" {
		t.Errorf("got %+v", got)
	}
	p.ends(t)
	if notes := p.notes.String(); !strings.Contains(notes, "not connected: sse: status 503") || !strings.Contains(notes, "connected again") {
		t.Errorf("notes %q", notes)
	}
}

func TestPublish(t *testing.T) {
	var came atomic.Int64
	keys := map[string][]string{} // the lines that came with each
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.RawQuery != "a=b&type=made" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		key := r.Header.Get("Idempotency-Key")
		keys[key] = append(keys[key], string(body))
		if string(body) == "bad" {
			http.Error(w, "\x1b[2J", http.StatusBadRequest)
			return
		}
		if came.Add(1) == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"id":"%d"}`, came.Load())
	}))
	defer server.Close()
	var out strings.Builder
	err := run(t.Context(), []string{"-publish", "-type", "made", server.URL + "/?a=b"}, stdio{in: strings.NewReader("one\ntwo\nbad\nthree\n"), out: &out, err: io.Discard})
	if err == nil || err.Error() != `line 3: status 400: \x1b[2J` {
		t.Errorf("error %v", err)
	}
	if got := out.String(); got != "{\"id\":\"1\"}\n{\"id\":\"3\"}\n" {
		t.Errorf("printed %q", got)
	}
	if len(keys) != 3 {
		t.Errorf("keys and lines %v", keys)
	}
}

// TestGateway publishes to the gateway as it is, and follows it.
func TestGateway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	binary := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "../gateway").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	gateway := exec.CommandContext(ctx, binary, "-addr", "127.0.0.1:0")
	gateway.Cancel = func() error { return gateway.Process.Signal(os.Interrupt) }
	printed, err := gateway.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = gateway.Wait() // that it was interrupted
	}()
	first, err := bufio.NewReader(printed).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSuffix(first, "/\n"), "gateway: ")
	if err != nil || !ok {
		t.Fatalf("%q, %v", first, err)
	}
	url += "/topics/news"
	file := filepath.Join(t.TempDir(), "cursor")
	p := start(t, "-since-file", file, url)
	testenv.Eventually(t, "it follows", func() error {
		id, err := sse.CursorFile(file).Load(t.Context()) // that of the checkpoint
		if err != nil || id == "" {
			return fmt.Errorf("it is at %q, %v", id, err)
		}
		return nil
	})
	var ids strings.Builder
	if err := run(t.Context(), []string{"-publish", "-type", "made", url}, stdio{in: strings.NewReader("one\ntwo\n"), out: &ids, err: io.Discard}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		if got := p.next(t); got.Type != "made" || got.Data == nil || *got.Data != want || !strings.Contains(ids.String(), fmt.Sprintf("{%q:%q}\n", "id", got.ID)) {
			t.Errorf("got %+v, want %s with an id of %q", got, want, ids.String())
		}
	}
	p.stop()
	p.ends(t)
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{
		{}, {"http://a.test/", "http://b.test/"}, {"-format", "xml", "http://a.test/"}, {"-colour", "red", "http://a.test/"}, {"-header", "none", "http://a.test/"},
		{"-unknown", "http://a.test/"}, {"/relative?token=secret"}, {"-publish", "/relative?token=secret"}, {"-publish", "http://a\n/?token=secret"},
	} {
		err := run(t.Context(), args, stdio{in: strings.NewReader("a\n"), out: io.Discard, err: io.Discard})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := run(t.Context(), []string{"-h"}, stdio{err: io.Discard}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
