package sse

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func heartbeats(seconds string) map[string]string {
	return map[string]string{"Heartbeat-Interval": seconds}
}

func TestClientReconnects(t *testing.T) {
	refused := errors.New("refused")
	cut := io.ErrUnexpectedEOF
	status := func(code int, after string) answer {
		return answer{status: code, header: map[string]string{"Retry-After": after}}
	}
	fails := func(n int) (out []answer) {
		for range n {
			out = append(out, answer{refuse: refused})
		}
		return out
	}
	tests := []struct {
		name    string
		change  func(*Client)
		answers []answer // 204 after the last
		events  string
		ids     string
		came    string // seconds
	}{
		{
			name:   "204 at once",
			events: "", ids: "", came: "0",
		},
		{
			name:    "clean end",
			answers: []answer{{body: "id: 1\ndata: a\n\n"}, {body: "id: 2\ndata: b\n\n"}},
			events:  "1=a 2=b", ids: ",1,2", came: "0 1 2",
		},
		{
			name:    "connection cut",
			answers: []answer{{body: "id: 1\ndata: a\n\nid: 2\ndata: b\n", end: cut}},
			events:  "1=a", ids: ",1", came: "0 1",
		},
		{
			name:    "the id is kept over connections",
			answers: []answer{{body: "id: 1\ndata: a\n\n"}, {body: "data: b\n\n"}, {body: "id\ndata: c\n\n"}},
			events:  "1=a 1=b =c", ids: ",1,1,", came: "0 1 2 3",
		},
		{
			name:    "an id without event counts",
			answers: []answer{{body: "id: 1\n\n"}},
			ids:     ",1", came: "0 1",
		},
		{
			name:    "configured id",
			change:  func(c *Client) { c.LastEventID = "7" },
			answers: []answer{{body: "data: a\n\n"}},
			events:  "7=a", ids: "7,7", came: "0 1",
		},
		{
			name:    "failures double the wait up to the most",
			answers: fails(7),
			ids:     ",,,,,,,", came: "0 1 3 7 15 31 61 91",
		},
		{
			name:    "bounds of the wait",
			change:  func(c *Client) { c.MinBackoff, c.MaxBackoff = 2*time.Second, 5*time.Second },
			answers: fails(4),
			ids:     ",,,,", came: "0 2 6 11 16",
		},
		{
			name: "a new id ends a row of failures",
			answers: append(fails(3),
				answer{body: "id: 1\ndata: a\n\n", end: cut}, answer{refuse: refused}, answer{refuse: refused}),
			events: "1=a", ids: ",,,,1,1,1", came: "0 1 3 7 8 10 14",
		},
		{
			name: "an event alone does not",
			answers: append(fails(3),
				answer{body: "data: a\n\n", end: cut}, answer{body: "data: b\n\n", end: cut}),
			events: "=a =b", ids: ",,,,,", came: "0 1 3 7 15 31",
		},
		{
			name: "a healthy period does",
			answers: append(fails(3),
				answer{body: "data: a\n\n", lives: 30 * time.Second, end: cut}, answer{refuse: refused}),
			events: "=a", ids: ",,,,,", came: "0 1 3 7 38 40",
		},
		{
			name: "a shorter one does not",
			answers: append(fails(3),
				answer{body: "data: a\n\n", lives: 29 * time.Second, end: cut}, answer{refuse: refused}),
			events: "=a", ids: ",,,,,", came: "0 1 3 7 44 60",
		},
		{
			name:    "empty answers",
			answers: []answer{{}, {}, {}, {}},
			ids:     ",,,,", came: "0 1 3 7 15",
		},
		{
			name:    "an answer without event does not",
			answers: []answer{{refuse: refused}, {body: ":\n", end: cut}, {refuse: refused}},
			ids:     ",,,", came: "0 1 3 7",
		},
		{
			name:    "retry after an event and a clean end",
			answers: []answer{{body: "retry: 100\ndata: a\n\n"}, {body: "data: b\n\n"}, {body: "retry: 5000\ndata: c\n\n"}},
			events:  "=a =b =c", ids: ",,,", came: "0 0.1 2.1 7.1",
		},
		{
			name:    "a server that is polled",
			answers: []answer{{body: "retry: 1000\ndata: a\n\n"}, {body: "retry: 1000\ndata: b\n\n"}, {body: "retry: 1000\ndata: c\n\n"}},
			events:  "=a =b =c", ids: ",,,", came: "0 1 2 3",
		},
		{
			name:    "an id that no header can carry",
			answers: []answer{{body: "id: 1\ndata: a\n\n"}, {body: "id: 2\x01\ndata: b\n\n"}, {body: "data: c\n\n"}, {body: "id: 3\ndata: d\n\n"}},
			events:  "1=a 2\x01=b 2\x01=c 3=d", ids: ",1,1,1,3", came: "0 1 2 4 5",
		},
		{
			name:    "an id that is too long for a header",
			answers: []answer{{body: "id: 1\ndata: a\n\nid: " + strings.Repeat("x", maxStated+1) + "\n\n"}},
			events:  "1=a", ids: ",1", came: "0 1",
		},
		{
			name:    "close and the end",
			answers: []answer{{body: "retry: 60000\nevent: close\ndata\nid: 1\n\n"}, {body: "data: a\n\n"}},
			events:  "1=", ids: "", came: "0",
		},
		{
			name:    "close and a connection that breaks",
			answers: []answer{{body: "event: close\ndata\nid: 1\n\n", end: cut}, {body: "data: a\n\n"}},
			events:  "1=", ids: "", came: "0",
		},
		{
			name:    "what comes behind a close",
			answers: []answer{{body: "event: close\ndata\n\ndata: a\n\n"}},
			events:  "=", ids: "", came: "0",
		},
		{
			name:    "a close that has data",
			answers: []answer{{body: "event: close\ndata: door\n\n"}},
			events:  "=door", ids: ",", came: "0 1",
		},
		{
			name:    "statuses that are not final",
			change:  func(c *Client) { c.FinalStatus = func(code int) bool { return code == 500 || code == 503 } },
			answers: []answer{status(401, ""), status(404, "10"), status(204, ""), status(429, ""), status(500, "")},
			ids:     ",,,,", came: "0 1 11 15 23",
		},
		{
			name:    "retry without blank line and event",
			answers: []answer{{body: ": no room\nretry: 5000\n"}, {body: "retry: 10\n"}},
			ids:     ",,", came: "0 5 7",
		},
		{
			name:    "retry is where backoff begins",
			answers: []answer{{body: "retry: 20000\ndata: a\n\n", end: cut}, {refuse: refused}, {refuse: refused}},
			events:  "=a", ids: ",,,", came: "0 20 50 80",
		},
		{
			name:    "a failure waits at least the least",
			answers: []answer{{body: "retry: 10\ndata: a\n\n", end: cut}},
			events:  "=a", ids: ",", came: "0 1",
		},
		{
			name:    "retry beyond the most",
			answers: []answer{{body: "retry: 40000\ndata: a\n\n", end: cut}, {refuse: refused}},
			events:  "=a", ids: ",,", came: "0 40 80",
		},
		{
			name:    "retry beyond reason",
			answers: []answer{{body: "retry: 99999999999999999999\ndata: a\n\n"}},
			events:  "=a", ids: ",", came: "0 3600",
		},
		{
			name:    "statuses that pass",
			answers: []answer{status(429, ""), status(502, ""), status(503, ""), status(504, "")},
			ids:     ",,,,", came: "0 1 3 7 15",
		},
		{
			name:    "Retry-After",
			answers: []answer{status(503, "10"), status(429, "1"), status(503, "no"), status(503, "99999")},
			ids:     ",,,,", came: "0 10 12 16 3616",
		},
		{
			name:    "Content-Type with parameters",
			answers: []answer{{header: map[string]string{"Content-Type": "Text/Event-Stream ; charset=utf-8"}, body: "data: a\n\n"}},
			events:  "=a", ids: ",", came: "0 1",
		},
		{
			name:    "idle",
			change:  func(c *Client) { c.IdleTimeout = 30 * time.Second },
			answers: []answer{{body: "data: a\n\n", end: errHang}, {delay: time.Minute}},
			events:  "=a", ids: ",,", came: "0 31 63",
		},
		{
			name:    "three heartbeats",
			answers: []answer{{header: heartbeats("15"), body: "data: a\n\n", end: errHang}, {header: heartbeats("0.5"), end: errHang}},
			events:  "=a", ids: ",,", came: "0 46 49.5",
		},
		{
			name:    "heartbeats that are very close",
			answers: []answer{{header: heartbeats("0.01"), end: errHang}},
			ids:     ",", came: "0 2",
		},
		{
			name:    "a timeout beside heartbeats",
			change:  func(c *Client) { c.IdleTimeout = time.Hour },
			answers: []answer{{header: heartbeats("15"), body: "data: a\n\n", end: errHang}},
			events:  "=a", ids: ",", came: "0 3601",
		},
		{
			name:    "an answer that takes longer than heartbeats",
			answers: []answer{{header: heartbeats("1"), delay: time.Minute, body: "data: a\n\n"}},
			events:  "=a", ids: ",", came: "0 61",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: test.answers}
				c := s.client()
				if test.change != nil {
					test.change(c)
				}
				before := *c
				events, err := follow(t.Context(), c)
				if err != nil && !isStatus(500)(err) {
					t.Errorf("it ended with %v", err)
				}
				if got := strings.Join(events, " "); got != test.events {
					t.Errorf("events %q, want %q", got, test.events)
				}
				if got := strings.Join(s.ids, ","); got != test.ids {
					t.Errorf("ids %q, want %q", got, test.ids)
				}
				if got := seconds(s.came); got != test.came {
					t.Errorf("came at %s, want %s", got, test.came)
				}
				if s.open != 0 {
					t.Errorf("%d responses were not closed", s.open)
				}
				if c.LastEventID != before.LastEventID || c.HTTPClient != before.HTTPClient ||
					c.MinBackoff != before.MinBackoff || c.MaxBackoff != before.MaxBackoff {
					t.Error("the configuration was written to")
				}
			})
		})
	}
}

// TestClientOfAServerThatGreetsAndDies: whatever the greeting is, and however the connection ends,
// a server that is not there yet is left in peace.
func TestClientOfAServerThatGreetsAndDies(t *testing.T) {
	const within = 2 * time.Second
	for name, greeting := range map[string]string{
		"nothing":        "",
		"a comment":      ": ok\n",
		"a feed's":       ": ok\nretry: 10\nevent: checkpoint\ndata: \nid: 1\n\n",
		"an event":       "data: hello\n\n",
		"retry, then it": "retry: 1\nevent: hello\ndata: {}\n\n",
		"no wait at all": "retry: 0\ndata: hello\n\n",
	} {
		for how, end := range map[string]error{"cleanly": nil, "breaking": io.ErrUnexpectedEOF} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &script{}
					for range 1000 {
						s.answers = append(s.answers, answer{body: greeting, end: end})
					}
					c := s.client()
					c.MinBackoff, c.MaxBackoff, c.NoJitter = 10*time.Millisecond, time.Second, false
					ctx, cancel := context.WithTimeout(t.Context(), within)
					defer cancel()
					if _, err := follow(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("it ended with %v", err)
					}
					if n := len(s.came); n < 5 || n > 10 {
						t.Errorf("%d connections in %v, want 5 to 10", n, within)
					}
				})
			})
		}
	}
}
