package sse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestClientHooks: the hooks and the events come in the order of the stream.
func TestClientHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{
			{header: map[string]string{"X-Served-By": "one"}, body: ": ok\nretry: 5000\nid: 1\ndata: a\n\n:\n:  b\xff\ndata: c\n: in a block\n\n"},
			{status: 503},
			{header: map[string]string{"X-Served-By": "two"}, body: "retry: nonsense\nretry: 99999999999\n:torn", end: io.ErrUnexpectedEOF},
		}}
		c := s.client()
		var got []string
		note := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
		c.OnOpen = func(h http.Header) { note("open %s", h.Get("X-Served-By")) }
		c.OnComment = func(text string) { note("comment %q", text) }
		c.OnRetry = func(wait time.Duration) { note("retry %v", wait) }
		c.OnReconnect = func(_ error, wait time.Duration) { note("wait %v", wait) }
		for e, err := range c.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			note("event %s", e.Text())
		}
		want := []string{
			"open one", `comment "ok"`, "retry 5s", "event a", `comment ""`, "comment \" b\ufffd\"", `comment "in a block"`, "event c", "wait 5s",
			"wait 5s",
			"open two", "retry 27777h46m39.999s", "wait 1h0m0s",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestStreamRestart: a restart cuts short whatever goes on.
func TestStreamRestart(t *testing.T) {
	for _, test := range []struct {
		name   string
		first  answer
		events string
		ids    string
	}{
		{"while connecting", answer{delay: time.Hour}, "2=b", ",,2"},
		{"while reading", answer{body: "id: 1\ndata: a\n\n", end: errHang}, "1=a 2=b", ",1,2"},
		{"while waiting", answer{body: "retry: 3600000\nid: 1\ndata: a\n\n"}, "1=a 2=b", ",1,2"},
		{"before the wait", answer{body: "retry: 3600000\nid: 1\ndata: a\n\n", lives: time.Minute}, "1=a 2=b", ",1,2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{test.first, {body: "retry: 1000\nid: 2\ndata: b\n\n"}}}
				c := s.client()
				var stream *Stream
				c.OnReconnect = func(reason error, _ time.Duration) {
					if reason != nil {
						t.Errorf("reconnects because of %v", reason)
					}
					if test.first.lives > 0 && len(s.came) == 1 {
						stream.Restart()
					}
				}
				stream = c.Stream(t.Context())
				stream.Restart() // nobody ranges
				if test.first.lives == 0 {
					time.AfterFunc(time.Minute, stream.Restart)
				}
				var events []string
				for e, err := range stream.All() {
					if err != nil {
						t.Fatal(err)
					}
					events = append(events, e.ID+"="+e.Text())
				}
				stream.Restart()
				if got := strings.Join(events, " "); got != test.events {
					t.Errorf("events %q, want %q", got, test.events)
				}
				if got := strings.Join(s.ids, ","); got != test.ids {
					t.Errorf("ids %q, want %q", got, test.ids)
				}
				if got := seconds(s.came); got != "0 60 61" {
					t.Errorf("came at %s", got)
				}
				if s.open != 0 {
					t.Errorf("%d responses were not closed", s.open)
				}
			})
		})
	}
}

// TestStreamRestartInTheLoop: what the connection has brought already is yielded first.
func TestStreamRestartInTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{body: "id: 1\ndata: a\n\nid: 2\ndata: b\n\n", end: errHang}, {body: "id: 3\ndata: c\n\n"}}}
		stream := s.client().Stream(t.Context())
		var events []string
		for e, err := range stream.All() {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e.ID)
			if e.ID == "1" {
				stream.Restart()
			}
		}
		if got := strings.Join(events, " ") + " from " + strings.Join(s.ids, ","); got != "1 2 3 from ,2,3" {
			t.Error(got)
		}
	})
}

// TestStreamRestartWhileARequestIsMade: NewRequest may wait, for a token for example.
func TestStreamRestartWhileARequestIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{body: "data: a\n\n"}}}
		c := s.client()
		calls := 0
		c.NewRequest = func(ctx context.Context) (*http.Request, error) {
			if calls++; calls == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
		}
		stream := c.Stream(t.Context())
		time.AfterFunc(time.Minute, stream.Restart)
		events := 0
		for _, err := range stream.All() {
			if events++; err != nil {
				t.Error(err)
			}
		}
		if events != 1 || calls != 3 {
			t.Errorf("%d events, %d requests", events, calls)
		}
	})
}

// TestStreamGoesOnAfterItsEnd: an error and a 204 end the sequence, and not the stream.
func TestStreamGoesOnAfterItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{
			{body: "id: 1\ndata: a\n\n"}, {status: 500}, {body: "id: 2\ndata: b\n\n"}, {status: 204}, {body: "id: 3\ndata: c\n\n"},
		}}
		stream := s.client().Stream(t.Context())
		var got []string
		for range 3 {
			for e, err := range stream.All() {
				if err != nil {
					got = append(got, err.Error())
					continue
				}
				got = append(got, e.ID)
			}
			got = append(got, "end")
		}
		if got := strings.Join(got, ", "); got != "1, sse: status 500 Internal Server Error, end, 2, end, 3, end" {
			t.Error(got)
		}
		if got := strings.Join(s.ids, ","); got != ",1,1,2,2,3" {
			t.Errorf("ids %q", got)
		}
	})
}

// TestClientIsUsedAgain: a client makes a new stream after each end, that of a context included.
func TestClientIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := answer{body: "id: 1\ndata: a\n\n", end: errHang}
		s := &script{answers: []answer{hang, hang}}
		c := s.client()
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			events, err := follow(ctx, c)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || strings.Join(events, " ") != "1=a" {
				t.Errorf("%q, %v", events, err)
			}
		}
		if events, err := follow(t.Context(), c); err != nil || len(events) != 0 {
			t.Errorf("%q, %v", events, err)
		}
	})
}
