package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testenv.Main(m)
}

// faulty is a backend whose Publish fails with a text that must not get out.
type faulty struct {
	*memory.Backend
	kind   error
	noKeys bool
	detach bool // an option of the gateway
}

func (f *faulty) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	if f.kind != nil {
		return "", fmt.Errorf("%w: dial tcp 10.1.2.3:6379: password canary", f.kind)
	}
	return f.Backend.Publish(ctx, topic, m)
}

func (f *faulty) Traits() hub.Traits {
	traits := f.Backend.Traits()
	if f.noKeys {
		traits.Keys = hub.KeysNone
	}
	return traits
}

// serve starts a gateway over a backend.
func serve(t *testing.T, backend *faulty) string {
	t.Helper()
	backend.Backend = memory.New(memory.Options{})
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(h, ginsse.Options{Detach: backend.detach})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(nil)
	ts.Config = s
	ts.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := stop(ctx, h, s); err != nil {
			t.Errorf("stop: %v", err)
		}
		ts.Close()
		_ = backend.Close()
	})
	return ts.URL
}

// request sends a request and returns the status and the body. body "" is no body.
func request(t *testing.T, method, url, body string, header ...string) (int, string) {
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
	if resp.Header.Get("Content-Type") == "text/event-stream; charset=utf-8" {
		t.Fatalf("%s %s is answered by a stream", method, url)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// publish sends a message that is taken, and returns its ID.
func publish(t *testing.T, url, body string, header ...string) string {
	t.Helper()
	code, answer := request(t, http.MethodPost, url, body, header...)
	var got struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &got); err != nil || code != http.StatusCreated || got.ID == "" {
		t.Fatalf("POST %s: status %d, %s", url, code, answer)
	}
	return got.ID
}

// follow opens a stream, and returns what decodes it.
func follow(t *testing.T, url, lastEventID string) *sse.Decoder {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: status %d", url, resp.StatusCode)
	}
	return sse.NewDecoder(resp.Body)
}

func next(t *testing.T, d *sse.Decoder, want sse.Event) {
	t.Helper()
	got, err := d.Decode()
	if err != nil || got.ID != want.ID || got.Type != want.Type || got.Text() != want.Text() {
		t.Fatalf("got %+v and error %v, want %+v", got, err, want)
	}
}

func TestPublishAndFollow(t *testing.T) {
	for _, detach := range []bool{false, true} {
		t.Run(fmt.Sprintf("detach=%v", detach), func(t *testing.T) { publishAndFollow(t, serve(t, &faulty{detach: detach})) })
	}
}

func publishAndFollow(t *testing.T, url string) {
	news := follow(t, url+"/topics/news", "")
	start, err := news.Decode()
	if err != nil || start.Type != "checkpoint" {
		t.Fatalf("%+v, %v", start, err)
	}
	first := publish(t, url+"/topics/news?type=greeting", "hello\nworld")
	second := publish(t, url+"/topics/news", "")
	third := publish(t, url+"/topics/news?type=photo", "\xff\xd8", "Content-Type", "application/octet-stream")
	publish(t, url+"/topics/news/sport", "another topic")
	for _, d := range []*sse.Decoder{news, follow(t, url+"/topics/news", start.ID), follow(t, url+"/topics/news?last_event_id="+start.ID, "")} {
		next(t, d, sse.Event{ID: first, Type: "greeting", Data: "hello\nworld"})
		next(t, d, sse.Event{ID: second, Data: ""})
		next(t, d, sse.Event{ID: third, Type: "photo;base64", Data: "/9g="})
	}
	next(t, follow(t, url+"/topics/news", second), sse.Event{ID: third, Type: "photo;base64", Data: "/9g="})
}

// TestTopicsWithSlashes: a slash in a name may be escaped or not, and everything else about a name
// counts.
func TestTopicsWithSlashes(t *testing.T) {
	url := serve(t, &faulty{})
	d := follow(t, url+"/topics/tickets%2F42", "")
	if _, err := d.Decode(); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"tickets/42/", "/tickets/42", "tickets//42", "tickets/42%2F", "tickets%252F42", "Tickets/42", "tickets/4 2"} {
		publish(t, url+"/topics/"+strings.ReplaceAll(other, " ", "%20"), "elsewhere")
	}
	plain := publish(t, url+"/topics/tickets/42", "a")
	escaped := publish(t, url+"/topics/tickets%2F42", "b")
	next(t, d, sse.Event{ID: plain, Data: "a"})
	next(t, d, sse.Event{ID: escaped, Data: "b"})

	made := publish(t, url+"/topics/tickets/a%252Fb", "of hub.JoinTopic")
	next(t, follow(t, url+"/topics/tickets/a%252Fb?last_event_id="+escaped, ""), sse.Event{ID: made, Data: "of hub.JoinTopic"})
}

func TestIdempotencyKey(t *testing.T) {
	url := serve(t, &faulty{})
	d := follow(t, url+"/topics/a", "")
	if _, err := d.Decode(); err != nil {
		t.Fatal(err)
	}
	first := publish(t, url+"/topics/a", "one", "Idempotency-Key", "k")
	if again := publish(t, url+"/topics/a", "one", "Idempotency-Key", "k"); again != first {
		t.Errorf("the repeat has id %s, want %s", again, first)
	}
	second := publish(t, url+"/topics/a", "two", "Idempotency-Key", "l")
	next(t, d, sse.Event{ID: first, Data: "one"})
	next(t, d, sse.Event{ID: second, Data: "two"})
}

func TestRefusals(t *testing.T) {
	good := &faulty{}
	tests := []struct {
		name    string
		backend *faulty
		method  string
		path    string
		body    string
		header  []string
		code    int
		want    string
	}{
		{"no topic", good, "POST", "/topics/", "a", nil, 400, "invalid topic name: it is empty"},
		{"reserved topic", good, "POST", "/topics/_headrace/a", "a", nil, 400, "reserved"},
		{"control character in the topic", good, "POST", "/topics/a%0Ab", "a", nil, 400, "invalid topic name"},
		{"topic too long", good, "POST", "/topics/" + strings.Repeat("a", hub.MaxTopic+1), "a", nil, 400, "invalid topic name"},
		{"topic not UTF-8", good, "POST", "/topics/%ff", "a", nil, 400, "invalid topic name"},
		{"reserved type", good, "POST", "/topics/a?type=gap", "a", nil, 400, "type is reserved"},
		{"line break in the type", good, "POST", "/topics/a?type=a%0Ad", "a", nil, 400, "type is reserved or malformed"},
		{"not UTF-8", good, "POST", "/topics/a", "\xff", nil, 400, "not UTF-8"},
		{"key too long", good, "POST", "/topics/a", "a", []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, "key is reserved or malformed"},
		{"no keys", &faulty{noKeys: true}, "POST", "/topics/a", "a", []string{"Idempotency-Key", "k"}, 400, "does not honour"},
		{"as large as allowed", good, "POST", "/topics/a", strings.Repeat("a", maxData), nil, 201, `{"id":`},
		{"too large", good, "POST", "/topics/a", strings.Repeat("a", maxData+1), nil, 413, "1048576 bytes"},
		{"too large with its type", good, "POST", "/topics/a?type=b", strings.Repeat("a", maxData), nil, 413, "1048576 bytes"},
		{"rejected by the backend", &faulty{kind: hub.ErrRejected}, "POST", "/topics/a", "a", nil, 503, "was not appended"},
		{"outcome unknown", &faulty{kind: hub.ErrUnknown}, "POST", "/topics/a", "a", nil, 503, "outcome unknown"},
		{"follow no topic", good, "GET", "/topics/", "", nil, 400, "invalid topic name: it is empty"},
		{"follow a reserved topic", good, "GET", "/topics/_headrace/a", "", nil, 400, "reserved"},
		{"from a page of another site", good, "POST", "/topics/a", "a", []string{"Origin", "http://elsewhere.example"}, 403, ""},
		{"no such path", good, "GET", "/nix", "", nil, 404, `{"error":`},
		{"wrong method", good, "PUT", "/topics/a", "", nil, 405, `{"error":`},
		{"introduction", good, "GET", "/", "", nil, 200, "curl -N http://127.0.0.1:"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, answer := request(t, test.method, serve(t, test.backend)+test.path, test.body, test.header...)
			if code != test.code || !strings.Contains(answer, test.want) {
				t.Errorf("status %d, %s; want %d and %s", code, answer, test.code, test.want)
			}
			for _, leak := range []string{"10.1.2.3", "canary", "hub:"} {
				if strings.Contains(answer, leak) {
					t.Errorf("%s lets %s out", answer, leak)
				}
			}
		})
	}
}

// TestRunStopsWithStreamsOpen starts the program as a user does, follows a topic, and stops it.
func TestRunStopsWithStreamsOpen(t *testing.T) {
	t.Run("parked", func(t *testing.T) { runAndStop(t) })
	t.Run("detached", func(t *testing.T) { runAndStop(t, "-detach") })
}

func runAndStop(t *testing.T, args ...string) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append(args, "-addr", "127.0.0.1:0"), out)
		out.Close()
	}()
	printed := bufio.NewReader(stdout)
	line, err := printed.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSuffix(line, "/\n"), "gateway: ")
	if err != nil || !ok {
		t.Fatalf("printed %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, printed) }()
	d := follow(t, url+"/topics/a", "")
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
	for _, args := range [][]string{{"-colour", "red"}, {"memory://"}, {"-backend", "carrier-pigeon://"}, {"-backend", "memory://?histroy=7"}, {"-addr", "127.0.0.1:99999"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
