package sse

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
			name: "an event ends a row of failures",
			answers: append(fails(3),
				answer{body: "data: a\n\n", end: cut}, answer{refuse: refused}, answer{refuse: refused}),
			events: "=a", ids: ",,,,,,", came: "0 1 3 7 8 10 14",
		},
		{
			name:    "an answer without event does not",
			answers: []answer{{refuse: refused}, {body: ":\n", end: cut}, {refuse: refused}},
			ids:     ",,,", came: "0 1 3 7",
		},
		{
			name:    "retry after an event and a clean end",
			answers: []answer{{body: "retry: 100\ndata: a\n\n"}, {body: "data: b\n\n"}, {body: "retry: 5000\ndata: c\n\n"}},
			events:  "=a =b =c", ids: ",,,", came: "0 0.1 0.2 5.2",
		},
		{
			name:    "retry without blank line and event",
			answers: []answer{{body: ": no room\nretry: 5000\n"}, {body: "retry: 10\n"}},
			ids:     ",,", came: "0 5 6",
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
				if err != nil {
					t.Errorf("204 ended with %v", err)
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
