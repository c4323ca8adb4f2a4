package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testenv.Main(m)
}

// app is the application, served on a port of its own.
type app struct {
	*server
	t   *testing.T
	url string
}

// serve starts the application with its tickets in memory; wrap, if not nil, stands between the
// network and it.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) *app {
	t.Helper()
	return serveOver(t, "memory://", wrap)
}

// serveOver starts an instance of the application over a backend.
func serveOver(t *testing.T, url string, wrap func(http.Handler) http.Handler) *app {
	t.Helper()
	return serveWith(t, url, wrap, ordinary())
}

func ordinary() settings {
	return settings{session: time.Hour, limits: &feed.Limits{Max: 100, PerKey: 50}, client: feed.ClientAddr()}
}

func serveWith(t *testing.T, url string, wrap func(http.Handler) http.Handler, o settings) *app {
	t.Helper()
	backend, err := backends.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(h, newStore(backend, h), newSessions(backend), o)
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
		http.DefaultClient.CloseIdleConnections() // the server would wait for those that never had a request
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
	return &app{server: s, t: t, url: "http://" + listener.Addr().String()}
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

// must sends a request that succeeds, and returns the ticket it is answered with.
func (a *app) must(method, path, body string) thread {
	a.t.Helper()
	code, answer := a.do(method, path, body)
	var found thread
	if err := json.Unmarshal([]byte(answer), &found); err != nil || code >= 300 {
		a.t.Fatalf("%s %s %s: status %d, %s (%v)", method, path, body, code, answer, err)
	}
	return found
}

func (a *app) create(subject string) thread {
	a.t.Helper()
	body, _ := json.Marshal(map[string]string{"subject": subject})
	return a.must(http.MethodPost, "/tickets", string(body))
}

// comment adds a comment that others may be in the way of. A store that is busy says so and asks
// for another try, as it may after races that were all lost. It reports whether the comment was
// taken, and may be called from any goroutine.
func (a *app) comment(id, words string) bool {
	for {
		code, answer := a.do(http.MethodPost, "/tickets/"+id+"/comments", `{"text":"`+words+`"}`)
		switch {
		case code == http.StatusCreated:
			return true
		case code != http.StatusServiceUnavailable || !strings.Contains(answer, errBusy.Error()):
			a.t.Errorf("comment %q: status %d, %s", words, code, answer)
			return false
		}
	}
}

// connection is one connection to a stream.
type connection struct {
	t *testing.T
	*sse.Decoder
	body io.Closer
}

// follow opens a stream. It has no deadline of its own: a test that waits for ever is ended by go
// test.
func (a *app) follow(path, lastEventID string, header ...string) *connection {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.t.Context()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &connection{t: a.t, Decoder: sse.NewDecoder(resp.Body), body: resp.Body}
	a.t.Cleanup(func() {
		cancel()
		resp.Body.Close()
	})
	if resp.StatusCode != http.StatusOK {
		a.t.Fatalf("GET %s: status %d", path, resp.StatusCode)
	}
	return c
}

// next returns the next event, which must be of this type.
func (c *connection) next(typ string) sse.Event {
	c.t.Helper()
	e, err := c.Decode()
	if err != nil || e.Type != typ {
		c.t.Fatalf("got event %q %s and error %v, want event %q", e.Type, e.Text(), err, typ)
	}
	return e
}

// nextChange returns the next event, which must be a change of this kind.
func (c *connection) nextChange(kind string) change {
	c.t.Helper()
	e := c.next(kind)
	got := change{Kind: kind}
	if err := e.Decode(&got); err != nil || e.ID == "" {
		c.t.Fatalf("event %q with id %q and data %s: %v", kind, e.ID, e.Text(), err)
	}
	return got
}

func TestJSON(t *testing.T) { everywhere(t, testJSON) }

func testJSON(t *testing.T, url string) {
	a := serveOver(t, url, nil)
	one := "/tickets/" + a.create("  Printer on fire ").ID
	long := func(n int) string { return strings.Repeat("ä", n) }
	tests := []struct {
		name, method, path, body string
		code                     int
		want                     string // a part of the answer
	}{
		{"created ticket", "GET", one, "", 200, `"subject":"Printer on fire","status":"open","assignee":"","comment_count":0,"version":1`},
		{"created ticket has a list of comments", "GET", one, "", 200, `"comments":[]`},
		{"list", "GET", "/tickets", "", 200, `"subject":"Printer on fire"`},
		{"comment", "POST", one + "/comments", `{"text":"look:\n\there"}`, 201, `"comments":[{"id":1,"text":"look:\n\there"`},
		{"assign", "PATCH", one, `{"assignee":"Ada"}`, 200, `"assignee":"Ada","comment_count":1,"version":3`},
		{"assign to the same", "PATCH", one, `{"assignee":" Ada "}`, 200, `"version":3`},
		{"assign to nobody", "PATCH", one, `{"assignee":""}`, 200, `"assignee":"","comment_count":1,"version":4`},
		{"pending", "PATCH", one, `{"status":"pending"}`, 200, `"status":"pending"`},
		{"close", "PATCH", one, `{"status":"closed"}`, 200, `"status":"closed"`},
		{"close again", "PATCH", one, `{"status":"closed"}`, 200, `"version":6`},
		{"comment on a closed ticket", "POST", one + "/comments", `{"text":"late"}`, 409, `{"error":"the ticket is closed`},
		{"assign a closed ticket", "PATCH", one, `{"assignee":"Ada"}`, 409, `{"error":"the ticket is closed`},
		{"open again", "PATCH", one, `{"status":"open"}`, 200, `"status":"open"`},

		{"subject missing", "POST", "/tickets", `{}`, 400, `{"error":"invalid subject`},
		{"subject blank", "POST", "/tickets", `{"subject":" \n "}`, 400, `{"error":"invalid subject`},
		{"subject as long as allowed", "POST", "/tickets", `{"subject":"` + long(maxSubject) + `"}`, 201, `"status":"open"`},
		{"subject too long", "POST", "/tickets", `{"subject":"` + long(maxSubject+1) + `"}`, 400, `{"error":"invalid subject`},
		{"subject of two lines", "POST", "/tickets", `{"subject":"a\nb"}`, 400, `{"error":"invalid subject`},
		{"subject a number", "POST", "/tickets", `{"subject":7}`, 400, `{"error":"the body`},
		{"unknown field", "POST", "/tickets", `{"subject":"a","colour":"red"}`, 400, `colour`},
		{"not JSON", "POST", "/tickets", `subject=a`, 400, `{"error":"the body`},
		{"no body", "POST", "/tickets", ``, 400, `{"error":"the body`},
		{"two values", "POST", "/tickets", `{"subject":"a"} {"subject":"b"}`, 400, `{"error":"the body`},
		{"rubbish after the value", "POST", "/tickets", `{"subject":"a"}]`, 400, `{"error":"the body`},
		{"body too large", "POST", "/tickets", `{"subject":"` + strings.Repeat("a", maxBody) + `"}`, 413, `{"error":"the body`},
		{"body too large after the value", "POST", "/tickets", `{"subject":"a"}` + strings.Repeat(" ", maxBody), 413, `{"error":"the body`},
		{"comment empty", "POST", one + "/comments", `{"text":""}`, 400, `{"error":"invalid text`},
		{"comment too long", "POST", one + "/comments", `{"text":"` + long(maxText+1) + `"}`, 400, `{"error":"invalid text`},
		{"comment with a control character", "POST", one + "/comments", `{"text":"a\u0000b"}`, 400, `{"error":"invalid text`},
		{"unknown status", "PATCH", one, `{"status":"lost"}`, 400, `must be one of [open pending closed]`},
		{"assignee too long", "PATCH", one, `{"assignee":"` + long(maxAssignee+1) + `"}`, 400, `{"error":"invalid assignee`},
		{"no change", "PATCH", one, `{}`, 400, `either a status or an assignee`},
		{"two changes", "PATCH", one, `{"status":"open","assignee":"Ada"}`, 400, `either a status or an assignee`},

		{"no such ticket", "GET", "/tickets/nix", "", 404, `{"error":"there is no such ticket"}`},
		{"comment on no such ticket", "POST", "/tickets/nix/comments", `{"text":"a"}`, 404, `{"error":"there is no such ticket"}`},
		{"change no such ticket", "PATCH", "/tickets/nix", `{"status":"closed"}`, 404, `{"error":"there is no such ticket"}`},
		{"feed of no such ticket", "GET", "/tickets/nix/events", "", 404, `{"error":"not found"}`},

		{"sign in without a name", "POST", "/sign-in", `{"name":" ","role":"agent"}`, 400, `{"error":"invalid name`},
		{"sign in with a long name", "POST", "/sign-in", `{"name":"` + long(maxAssignee+1) + `","role":"agent"}`, 400, `{"error":"invalid name`},
		{"sign in as something else", "POST", "/sign-in", `{"name":"Ada","role":"root"}`, 400, `must be agent or admin`},
		{"sign in", "POST", "/sign-in", `{"name":" Ada ","role":"agent"}`, 201, `{"name":"Ada","role":"agent","expires":"`},
		{"sign out without a session", "POST", "/sign-out-everywhere", "", 401, `{"error":"nobody is signed in"}`},
		{"no such path", "GET", "/nix", "", 404, `{"error":`},
		{"wrong method", "DELETE", one, "", 405, `{"error":`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := &app{t: t, url: a.url}
			code, answer := a.do(test.method, test.path, test.body)
			if code != test.code || !strings.Contains(answer, test.want) {
				t.Errorf("status %d, %s; want %d and %s", code, answer, test.code, test.want)
			}
		})
	}
}

func TestListIsOldestFirst(t *testing.T) { everywhere(t, testListIsOldestFirst) }

func testListIsOldestFirst(t *testing.T, url string) {
	a := serveOver(t, url, nil)
	if _, answer := a.do("GET", "/tickets", ""); answer != "[]" {
		t.Errorf("the empty list is %s, want []", answer)
	}
	for i := range 20 {
		a.create(fmt.Sprint("ticket ", i))
	}
	_, answer := a.do("GET", "/tickets", "")
	var list []ticket
	if err := json.Unmarshal([]byte(answer), &list); err != nil || len(list) != 20 {
		t.Fatalf("%d tickets, %v", len(list), err)
	}
	for i, found := range list {
		if want := fmt.Sprint("ticket ", i); found.Subject != want {
			t.Errorf("place %d: %q, want %q", i, found.Subject, want)
		}
	}
}

// TestOtherSites: a page of another site must not be able to change anything through the browser of
// someone who runs this.
func TestOtherSites(t *testing.T) {
	a := serve(t, nil)
	for _, path := range []string{"/tickets", "/debug/drop?client=x", "/sign-in", "/sign-out-everywhere"} {
		code, _ := a.do("POST", path, `{"subject":"a"}`, "Origin", "http://elsewhere.example", "Content-Type", "text/plain")
		if code != http.StatusForbidden {
			t.Errorf("POST %s from another origin: status %d, want 403", path, code)
		}
	}
	if code, _ := a.do("POST", "/tickets", `{"subject":"a"}`, "Origin", a.url); code != http.StatusCreated {
		t.Errorf("POST from the same origin: status %d, want 201", code)
	}
}

func TestServerHasLimits(t *testing.T) {
	s := serve(t, nil).Server
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": s.ReadHeaderTimeout, "ReadTimeout": s.ReadTimeout, "WriteTimeout": s.WriteTimeout, "IdleTimeout": s.IdleTimeout,
	} {
		if d <= 0 || d > 5*time.Minute {
			t.Errorf("%s is %v", name, d)
		}
	}
	if s.MaxHeaderBytes <= 0 || s.MaxHeaderBytes > http.DefaultMaxHeaderBytes {
		t.Errorf("MaxHeaderBytes is %d", s.MaxHeaderBytes)
	}
}

func TestPageHeaders(t *testing.T) {
	a := serve(t, nil)
	resp, err := http.Get(a.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(body, []byte("<title>Tickets")) {
		t.Errorf("the page is %q (%v)", body, err)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
}
