package sse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestClientEnds(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name   string
		answer answer
		change func(*Client)
		check  func(error) bool
	}{
		{"404", answer{status: 404}, nil, isStatus(404)},
		{"401", answer{status: 401}, nil, isStatus(401)},
		{"500", answer{status: 500}, nil, isStatus(500)},
		{"201", answer{status: 201, body: "data: a\n\n"}, nil, isStatus(201)},
		{"HTML", answer{header: map[string]string{"Content-Type": "text/html"}}, nil, is(ErrContentType)},
		{"no type", answer{header: map[string]string{"Content-Type": ""}}, nil, is(ErrContentType)},
		{"almost the type", answer{header: map[string]string{"Content-Type": "text/event-stream2"}}, nil, is(ErrContentType)},
		{"event too long", answer{body: "data: 4567890\n\n"}, func(c *Client) { c.MaxEventSize = 12 }, is(ErrTooLong)},
		{"NewRequest fails", answer{}, func(c *Client) {
			c.NewRequest = func(context.Context) (*http.Request, error) { return nil, broken }
		}, is(broken)},
		{"no URL", answer{}, func(c *Client) { c.URL = "" }, isSSE},
		{"relative URL", answer{}, func(c *Client) { c.URL = "/events?token=secret" }, isSSE},
		{"broken URL", answer{}, func(c *Client) { c.URL = "http://a\n/?token=secret" }, isSSE},
		{"id that cannot be sent", answer{}, func(c *Client) { c.LastEventID = "a\x01" }, isSSE},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{test.answer}}
				c := s.client()
				if test.change != nil {
					test.change(c)
				}
				events, err := follow(t.Context(), c)
				if len(events) != 0 || !test.check(err) {
					t.Errorf("%q, %v", events, err)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error tells the token: %v", err)
				}
				if len(s.came) > 1 {
					t.Errorf("it came %d times", len(s.came))
				}
			})
		})
	}
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
func isSSE(err error) bool             { return err != nil && strings.HasPrefix(err.Error(), "sse: ") }

func isStatus(code int) func(error) bool {
	return func(err error) bool {
		var status *StatusError
		return errors.As(err, &status) && status.Code == code && isSSE(err)
	}
}

func TestClientContext(t *testing.T) {
	gone := errors.New("gone")
	for _, test := range []struct {
		name   string
		answer answer
		waits  int
	}{
		{"while connecting", answer{delay: time.Hour}, 0},
		{"while reading", answer{body: "data: a\n\n", end: errHang}, 0},
		{"while waiting", answer{body: "retry: 3600000\n"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { cancel(gone) })
				s := &script{answers: []answer{test.answer}}
				c := s.client()
				c.HTTPClient.Timeout = time.Second // must not cut the stream
				waits := 0
				c.OnReconnect = func(error, time.Duration) { waits++ }
				_, err := follow(ctx, c)
				if err != gone || waits != test.waits {
					t.Errorf("error %v after %d waits", err, waits)
				}
				if c.HTTPClient.Timeout != time.Second {
					t.Error("the caller's http.Client was written to")
				}
				if took := time.Since(s.start); took != time.Minute || len(s.came) != 1 {
					t.Errorf("ended after %v and %d connections", took, len(s.came))
				}
			})
		})
	}
}

func TestClientJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		for range 50 {
			s.answers = append(s.answers, answer{body: "retry: 10000\ndata: a\n\n"})
		}
		c := s.client()
		c.NoJitter = false
		if _, err := follow(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		different := map[time.Duration]bool{}
		for i := 1; i < len(s.came); i++ {
			wait := s.came[i] - s.came[i-1]
			if wait < 10*time.Second || wait >= 15*time.Second {
				t.Errorf("waited %v", wait)
			}
			different[wait] = true
		}
		if len(different) < 10 {
			t.Errorf("only %d different waits", len(different))
		}
	})
}

func TestClientTellsWhyItReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		s := &script{answers: []answer{{body: "data: a\n\n"}, {refuse: refused}, {status: 503}, {body: "data: a\n\n", end: errHang}}}
		c := s.client()
		c.IdleTimeout = time.Minute
		var reasons []error
		var waits []time.Duration
		c.OnReconnect = func(reason error, wait time.Duration) {
			reasons, waits = append(reasons, reason), append(waits, wait)
		}
		if _, err := follow(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if len(reasons) != 4 || reasons[0] != nil || !errors.Is(reasons[1], refused) || !isStatus(503)(reasons[2]) || reasons[3] != ErrIdle {
			t.Fatalf("reasons %v", reasons)
		}
		if strings.Contains(reasons[1].Error(), "secret") {
			t.Errorf("the reason tells the token: %v", reasons[1])
		}
		if got := seconds(waits); got != "1 2 4 1" {
			t.Errorf("waits %s", got)
		}
	})
}

// Idle time is that of the connection: a slow consumer is not a dead server.
func TestClientIdleDoesNotCountTheConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{body: strings.Repeat("data: a\n\n", 3)}}}
		c := s.client()
		c.IdleTimeout = time.Second
		c.OnReconnect = func(reason error, _ time.Duration) {
			if reason != nil {
				t.Errorf("reconnects: %v", reason)
			}
		}
		for _, err := range c.Events(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestClientRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		c := s.client()
		c.Header = http.Header{"Authorization": {"Bearer x"}, "Accept": {"text/event-stream, */*"}}
		c.LastEventID = "1"
		if _, err := follow(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		h := s.last.Header
		if h.Get("Cache-Control") != "no-cache" {
			t.Errorf("Cache-Control %q", h.Get("Cache-Control"))
		}
		if h.Get("Authorization") != "Bearer x" || h.Get("Accept") != "text/event-stream, */*" || h.Get("Last-Event-ID") != "1" || s.last.Method != http.MethodGet {
			t.Errorf("request %s %v", s.last.Method, h)
		}
		if len(c.Header) != 2 {
			t.Errorf("the client's header is %v", c.Header)
		}

		shared, err := http.NewRequest(http.MethodPost, "http://example.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		s = &script{answers: []answer{{body: "id: 2\ndata: a\n\n"}}}
		c = s.client()
		c.NewRequest = func(context.Context) (*http.Request, error) { return shared, nil }
		if _, err := follow(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		h = s.last.Header
		if s.last.Method != http.MethodPost || h.Get("Accept") != "text/event-stream" || h.Get("Last-Event-ID") != "2" {
			t.Errorf("request %s %v", s.last.Method, h)
		}
		if len(shared.Header) != 0 {
			t.Errorf("the caller's request got headers %v", shared.Header)
		}
	})
}

func TestStreamGoesOnAfterALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{body: "id: 1\ndata: a\n\nid: 2\ndata: b\n\n", end: errHang}, {body: "id: 2\ndata: b\n\n"}}}
		c := s.client()
		c.LastEventID = "0"
		stream := c.Stream(t.Context())
		if got := stream.LastEventID(); got != "0" {
			t.Errorf("id %q before the first event", got)
		}
		for e, err := range stream.All() {
			if err != nil || e.ID != "1" {
				t.Errorf("%+v, %v", e, err)
			}
			break
		}
		if got := stream.LastEventID(); got != "1" {
			t.Errorf("id %q after the first loop", got)
		}
		if s.last.Context().Err() == nil {
			t.Error("leaving the loop left the connection open")
		}
		for e, err := range stream.All() {
			if err != nil || e.ID != "2" {
				t.Errorf("%+v, %v", e, err)
			}
		}
		if got := strings.Join(s.ids, " "); got != "0 1 2" {
			t.Errorf("ids %q", got)
		}
	})
}

func TestClientWithoutABoundOnEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := strings.Repeat("x", DefaultMaxEventSize+1)
		s := &script{answers: []answer{{body: "data: " + data + "\n\n"}}}
		c := s.client()
		c.MaxEventSize = math.MaxInt
		events, err := follow(t.Context(), c)
		if err != nil || len(events) != 1 || events[0] != "="+data {
			t.Errorf("%d events, %v", len(events), err)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"15": 15 * time.Second, "0.5": 500 * time.Millisecond, " 5 ": 5 * time.Second, "86400": 24 * time.Hour,
		"": 0, "0": 0, "-1": 0, "86401": 0, "1e300": 0, "Inf": 0, "NaN": 0, "15s": 0, "15, 30": 0,
	} {
		if got := heartbeat(http.Header{"Heartbeat-Interval": {value}}); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		value string
		want  time.Duration
	}{
		{"", 0}, {"0", 0}, {"120", 2 * time.Minute}, {"-1", 0}, {"1.5", 0}, {"soon", 0}, {"99999999999999999999", 0},
		{now.Add(time.Minute).Format(http.TimeFormat), time.Minute},
		{now.Add(-time.Minute).Format(http.TimeFormat), 0},
	}
	for _, test := range tests {
		if got := retryAfter(test.value, now); got != test.want {
			t.Errorf("%q: got %v, want %v", test.value, got, test.want)
		}
	}
}

// Client and Writer together, over real connections: the client comes back with
// the last id it saw, after a clean end and after an abort.
func TestClientAndWriter(t *testing.T) {
	var mu sync.Mutex
	connections := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		connections++
		n := connections
		mu.Unlock()
		if n == 5 {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		last, _ := LastEventID(r)
		out, err := Respond(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		if err := out.Write(AppendRetry(AppendComment(nil, "ok"), time.Millisecond)); err != nil {
			t.Error(err)
		}
		if err := out.Send(Event{ID: fmt.Sprint(n), Data: map[string]string{"after": last}}); err != nil {
			t.Error(err)
		}
		if n%2 == 0 {
			if err := out.Abort(); err != nil {
				t.Error(err)
			}
		}
	}))
	defer server.Close()
	c := &Client{URL: server.URL, MinBackoff: time.Millisecond, HTTPClient: server.Client()}
	var got []string
	for e, err := range c.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ After string }
		if err := e.Decode(&v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v.After+"<"+e.ID)
	}
	if want := "<1 1<2 2<3 3<4"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestClientEndsAtClose: an event of type close without data is the end. One that has data is an
// application's own.
func TestClientEndsAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{
			{body: "event: close\ndata: of the shop\nid: 1\n\n"},
			{body: "data: a\n\nretry: 60000\nevent: close\ndata: \nid: 2\n\ndata: b\n\n"},
			{body: "data: c\n\n"},
		}}
		events, err := follow(t.Context(), s.client())
		if err != nil || len(events) != 3 || len(s.came) != 2 {
			t.Errorf("%q after %d connections, %v", events, len(s.came), err)
		}
	})
}
