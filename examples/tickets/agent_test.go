package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// signIn returns a new session and the header Cookie for it.
func (a *app) signIn(name, role string) (who session, cookies string) {
	a.t.Helper()
	body, _ := json.Marshal(map[string]string{"name": name, "role": role})
	resp, err := http.Post(a.url+"/sign-in", "application/json", strings.NewReader(string(body)))
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&who); err != nil || resp.StatusCode != http.StatusCreated || len(resp.Cookies()) != 1 {
		a.t.Fatalf("status %d, cookies %v, %v", resp.StatusCode, resp.Cookies(), err)
	}
	given := resp.Cookies()[0]
	if !given.HttpOnly || given.SameSite != http.SameSiteStrictMode || given.Secure || given.Path != "/" || !given.Expires.Equal(who.Expires.Truncate(time.Second)) {
		a.t.Errorf("cookie %+v of a session until %v", given, who.Expires)
	}
	return who, given.Name + "=" + given.Value
}

// hello reads what the page's stream begins with.
func (c *connection) hello() session {
	c.t.Helper()
	var who session
	if err := c.next("hello").Decode(&who); err != nil {
		c.t.Fatal(err)
	}
	return who
}

// ends reads a stream up to its end, which must be a clean one with a time to come back.
func (c *connection) ends() {
	c.t.Helper()
	for {
		if _, err := c.Decode(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			c.t.Fatalf("the stream ended with %v", err)
		}
	}
	if retry, ok := c.Retry(); !ok || retry <= 0 {
		c.t.Error("the client was not told when to come back")
	}
}

// TestSignOutEverywhere: it ends the sessions and streams of one agent on two instances, those of
// other sessions too, and of nobody else.
func TestSignOutEverywhere(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		one, two := serveOver(t, url, nil), serveOver(t, url, nil)
		_, laptop := one.signIn("Ada", roleAdmin)
		_, phone := two.signIn("Ada", roleAdmin)
		_, other := one.signIn("Bob", roleAdmin)
		made := one.create("a")
		var streams []*connection
		// Each session at the instance that did not give it.
		for _, s := range []*connection{two.follow("/desk/events", "", "Cookie", laptop), one.follow("/desk/events", "", "Cookie", phone)} {
			if who := s.hello(); who.Name != "Ada" || who.Role != roleAdmin || who.Expires.IsZero() {
				t.Errorf("hello %+v", who)
			}
			streams = append(streams, s)
		}
		streams = append(streams, one.follow("/dashboard/events", "", "Cookie", laptop), two.follow("/tickets/"+made.ID+"/events", "", "Cookie", phone))
		stays := two.follow("/desk/events", "", "Cookie", other)
		stays.hello()
		stays.next("snapshot")

		if code, answer := one.do("POST", "/sign-out-everywhere", "", "Cookie", laptop); code != http.StatusNoContent {
			t.Fatalf("status %d, %s", code, answer)
		}
		for _, s := range streams {
			s.ends()
		}
		for _, a := range []*app{one, two} {
			for _, cookies := range []string{laptop, phone} {
				if code, _ := a.do("GET", "/dashboard/events", "", "Cookie", cookies); code != http.StatusUnauthorized {
					t.Errorf("a session that is signed out gets status %d, want 401", code)
				}
				if who := a.follow("/desk/events", "", "Cookie", cookies).hello(); who != (session{}) {
					t.Errorf("a session that is signed out is greeted as %+v", who)
				}
				if code, _ := a.do("POST", "/sign-out-everywhere", "", "Cookie", cookies); code != http.StatusUnauthorized {
					t.Errorf("signing out again: status %d, want 401", code)
				}
			}
		}
		one.create("b")
		stays.nextChange(kindCreated)
		two.signIn("Ada", roleAgent) // and may come back
	})
}

// TestSignOutCanBeRepeated: when the streams could not be told, the session that asked for it is
// still known.
func TestSignOutCanBeRepeated(t *testing.T) {
	a := serve(t, nil)
	_, cookies := a.signIn("Ada", roleAdmin)
	_, other := a.signIn("Ada", roleAdmin)
	if err := a.hub.Shutdown(t.Context()); err != nil { // it refuses to revoke
		t.Fatal(err)
	}
	for range 2 {
		if code, answer := a.do("POST", "/sign-out-everywhere", "", "Cookie", cookies); code != http.StatusServiceUnavailable {
			t.Errorf("status %d, %s; want 503", code, answer)
		}
	}
	if code, _ := a.do("POST", "/sign-out-everywhere", "", "Cookie", other); code != http.StatusUnauthorized {
		t.Errorf("the other session: status %d, want 401", code)
	}
}

// TestSessionExpires: the stream ends with the session, and who comes back is a visitor.
func TestSessionExpires(t *testing.T) {
	everywhere(t, func(t *testing.T, url string) {
		o := ordinary()
		o.session = 4 * time.Second // a busy machine needs its time to begin the stream
		a := serveWith(t, url, nil, o)
		who, cookies := a.signIn("Ada", roleAdmin)
		c := a.follow("/dashboard/events", "", "Cookie", cookies)
		c.next("welcome")
		c.ends()
		if d := time.Until(who.Expires); d > time.Second {
			t.Errorf("the stream ended %v before the session", d)
		}
		until(t, "the session expires", func() bool {
			code, _ := a.doOnce("GET", "/dashboard/events", "Cookie", cookies)
			return code == http.StatusUnauthorized
		})
		if time.Now().Before(who.Expires) {
			t.Error("the session expired before its time")
		}
	})
}

// doOnce sends a request and returns the status, of a stream too.
func (a *app) doOnce(method, path string, header ...string) (int, http.Header) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, nil)
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
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func TestSessions(t *testing.T) {
	for name, url := range map[string]string{"memory": "memory://", "miniredis": "redis://" + miniredis.RunT(t).Addr()} {
		t.Run(name, func(t *testing.T) {
			s := newSessions(dead(t, url, hub.Options{}).backend)
			ctx, soon := t.Context(), present().Add(time.Hour)
			for _, d := range []string{"one", "two"} {
				if err := s.add(ctx, "Ada", d, soon); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.add(ctx, "Bob", "three", soon); err != nil {
				t.Fatal(err)
			}
			check := func(name, digest string, want time.Time) {
				t.Helper()
				if got, err := s.expiry(ctx, name, digest); err != nil || !got.Equal(want) {
					t.Errorf("session %s of %s expires at %v, %v; want %v", digest, name, got, err, want)
				}
			}
			check("Ada", "one", soon)
			check("Ada", "two", soon)
			check("Ada", "three", time.Time{})
			check("Eve", "one", time.Time{})
			if err := s.removeAll(ctx, "Ada"); err != nil {
				t.Fatal(err)
			}
			check("Ada", "one", time.Time{})
			check("Ada", "two", time.Time{})
			check("Bob", "three", soon)
		})
	}
}

// TestSessionsAreBounded: in memory new ones are refused until some are over.
func TestSessionsAreBounded(t *testing.T) {
	s := newSessions(dead(t, "memory://", hub.Options{}).backend)
	over := time.Now().Add(-time.Second)
	for range 2 * maxSessions {
		if err := s.add(t.Context(), "Ada", rand.Text(), over); err != nil {
			t.Fatal(err)
		}
	}
	for range maxSessions {
		if err := s.add(t.Context(), rand.Text(), "one", time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.add(t.Context(), "Ada", "one", time.Now().Add(time.Hour)); !errors.Is(err, errFull) {
		t.Errorf("one too many: %v, want errFull", err)
	}
}

// TestLimits: what is beyond a limit is refused with a status that says so, and a browser is told
// to come back; a stream that ends makes room.
func TestLimits(t *testing.T) {
	o := ordinary()
	o.limits = &feed.Limits{Max: 4, PerKey: 2}
	a := serveWith(t, "memory://", nil, o)
	_, cookies := a.signIn("Ada", roleAdmin)
	_, other := a.signIn("Bob", roleAdmin)
	for range 2 {
		a.follow("/desk/events?client=ada", "", "Cookie", cookies).hello()
	}
	refused := func(want int, cookies string) {
		t.Helper()
		code, header := a.doOnce("GET", "/dashboard/events", "Cookie", cookies)
		if code != want || header.Get("Retry-After") == "" {
			t.Errorf("status %d, Retry-After %q; want %d", code, header.Get("Retry-After"), want)
		}
		c := a.follow("/dashboard/events", "", "Cookie", cookies)
		if e, err := c.Decode(); !errors.Is(err, io.EOF) {
			t.Errorf("a browser gets %q, %v; want a stream that ends at once", e.Type, err)
		}
		if retry, ok := c.Retry(); !ok || retry < 15*time.Second {
			t.Errorf("a browser is told to wait %v", retry)
		}
	}
	refused(http.StatusTooManyRequests, cookies)
	a.follow("/dashboard/events", "", "Cookie", other).next("welcome")
	a.follow("/tickets/events", "").next("checkpoint")
	refused(http.StatusServiceUnavailable, other)
	a.do("POST", "/debug/drop?client=ada", "")
	a.follow("/dashboard/events", "", "Cookie", cookies).next("welcome")
}

// TestState: the URL of a stream answers with its state as JSON, and a stream goes on where that
// was.
func TestState(t *testing.T) { everywhere(t, testState) }

func testState(t *testing.T, url string) {
	a := serveOver(t, url, nil)
	made := a.create("one")
	for path, plain := range map[string]string{"/desk/events": "/tickets", "/tickets/" + made.ID + "/events": "/tickets/" + made.ID} {
		// Published in the course of time, so the cursor may be from before; what is repeated then
		// has a known version.
		code, answer := a.do("GET", path, "", "Accept", "application/json")
		if _, want := a.do("GET", plain, ""); code != http.StatusOK || answer != want {
			t.Errorf("GET %s: status %d, %s; want %s", path, code, answer, want)
		}
		_, header := a.doOnce("GET", path, "Accept", "application/json")
		cursor := header.Get("Last-Event-ID")
		if cursor == "" {
			t.Fatalf("GET %s: no cursor", path)
		}
		now := a.must("POST", "/tickets/"+made.ID+"/comments", `{"text":"hello"}`)
		c := a.follow(path+"?lastEventId="+cursor, "")
		for {
			e, err := c.Decode()
			if err != nil || e.Type == "snapshot" || e.Type == "gap" {
				t.Fatalf("after the cursor: %q, %v", e.Type, err)
			}
			var got change
			if e.Type == kindCommented && e.Decode(&got) == nil && got.Ticket.Version == now.Version {
				break
			}
		}
	}
}

// TestClosedTicket: its feed ends, for who is there, who comes back and who comes first; opened
// again it has another one.
func TestClosedTicket(t *testing.T) { everywhere(t, testClosedTicket) }

func testClosedTicket(t *testing.T, url string) {
	a := serveOver(t, url, nil)
	path := "/tickets/" + a.create("a").ID
	for round := 1; round <= 3; round++ { // the ends of the later rounds would be lost if they were in the topic of the first
		feedPath := fmt.Sprint(path, "/events?round=", round)
		current := a.follow(path+"/events", "")
		var begin thread
		e := current.next("snapshot")
		if e.Decode(&begin) != nil || begin.Round != round || begin.Status != statusOpen {
			t.Fatalf("round %d begins with %s", round, e.Text())
		}
		a.must("POST", path+"/comments", `{"text":"missed"}`)
		a.must("PATCH", path, `{"status":"closed"}`)
		// Whoever came before the first message of the round is in its topic has that too.
		closed := func(c *connection) string {
			t.Helper()
			var got []string
			for {
				e, err := c.Decode()
				if err != nil || e.Type == "gap" {
					t.Fatalf("after %v: %q, %v", got, e.Type, err)
				}
				if got = append(got, e.Type); e.Type == "close" {
					if n := len(got); n < 3 || !slices.Equal(got[n-3:], []string{kindCommented, kindMoved, "close"}) {
						t.Errorf("the round ends with %v", got)
					}
					return e.ID
				}
			}
		}
		end := closed(current)
		if code, _ := a.doOnce("GET", feedPath, "Accept", "text/event-stream", "Last-Event-ID", end); code != http.StatusNoContent {
			t.Errorf("who comes back to a feed that is finished gets status %d, want 204", code)
		}
		first := a.follow(feedPath, "")
		first.next("snapshot")
		first.next("close")

		a.must("PATCH", path, `{"status":"open"}`)
		// Who was away meanwhile misses nothing of the round.
		if again := closed(a.follow(feedPath, e.ID)); again != end {
			t.Errorf("the round ends at %s and at %s", end, again)
		}
		if code, _ := a.doOnce("GET", fmt.Sprint(path, "/events?round=", round+2), "Accept", "text/event-stream"); code != http.StatusNotFound {
			t.Errorf("a round that is yet to come: status %d, want 404", code)
		}
	}
}

func TestRoutes(t *testing.T) {
	a := serve(t, nil)
	_, answer := a.do("GET", "/routes", "")
	var routes []ginsse.Description
	if err := json.Unmarshal([]byte(answer), &routes); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, r := range routes {
		paths = append(paths, r.Path)
		if p := r.Parameters; r.Path == "/tickets/:ticket/events" && (!r.Snapshot || !r.Computed || len(p) != 2 || p[0].Model != "*main.thread" || !slices.Equal(r.Events, kinds)) {
			t.Errorf("the feed of a ticket is described as %+v", r)
		}
	}
	if want := []string{"/dashboard/events", "/desk/events", "/tickets/:ticket/events", "/tickets/events"}; !slices.Equal(paths, want) {
		t.Errorf("described are %v, want %v", paths, want)
	}
}

// TestOrigins: pages of listed sites may read the changes, and nothing else.
func TestOrigins(t *testing.T) {
	const origin = "https://app.example.com"
	o := ordinary()
	o.origins = []string{origin}
	a := serveWith(t, "memory://", nil, o)
	for _, test := range []struct{ method, path, origin, want string }{
		{"GET", "/tickets/events", origin, origin},
		{"OPTIONS", "/tickets/events", origin, origin},
		{"GET", "/tickets/events", "https://elsewhere.example", ""},
		{"GET", "/desk/events", origin, ""},
	} {
		_, header := a.doOnce(test.method, test.path, "Origin", test.origin, "Access-Control-Request-Method", "GET")
		if got := header.Get("Access-Control-Allow-Origin"); got != test.want || header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s %s from %s: allowed is %q, want %q", test.method, test.path, test.origin, got, test.want)
		}
	}
}
