package sse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A script is an in-memory server: one answer for each connection. It notes when
// and with which id the client came.
type script struct {
	mu      sync.Mutex
	start   time.Time
	answers []answer
	came    []time.Duration
	ids     []string
	last    *http.Request
	open    int // responses whose body is not closed
}

type answer struct {
	status int // 0: 200
	header map[string]string
	body   string
	// end is how the body ends: nil is a clean end, errHang never ends. It ends after lives.
	end   error
	lives time.Duration
	// refuse fails the request itself.
	refuse error
	delay  time.Duration
}

var errHang = errors.New("hang")

func (s *script) client() *Client {
	s.start = time.Now()
	return &Client{
		URL:        "http://example.test/events?token=secret",
		HTTPClient: &http.Client{Transport: s},
		NoJitter:   true,
	}
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	n := len(s.came)
	s.came = append(s.came, time.Since(s.start))
	s.ids = append(s.ids, r.Header.Get("Last-Event-ID"))
	s.last = r
	s.mu.Unlock()
	a := answer{status: http.StatusNoContent}
	if n < len(s.answers) {
		a = s.answers[n]
	}
	if a.delay > 0 {
		if !sleep(r.Context(), a.delay) {
			return nil, r.Context().Err()
		}
	}
	if a.refuse != nil {
		return nil, a.refuse
	}
	resp := &http.Response{StatusCode: a.status, Header: http.Header{"Content-Type": {"text/event-stream"}}, Request: r}
	if a.status == 0 {
		resp.StatusCode = http.StatusOK
	}
	for name, value := range a.header {
		resp.Header.Set(name, value)
	}
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	resp.Body = &body{script: s, Reader: io.MultiReader(strings.NewReader(a.body), readFunc(func() (int, error) {
		if a.lives > 0 && !sleep(r.Context(), a.lives) {
			return 0, r.Context().Err()
		}
		switch a.end {
		case nil:
			return 0, io.EOF
		case errHang:
			<-r.Context().Done()
			return 0, r.Context().Err()
		}
		return 0, a.end
	}))}
	return resp, nil
}

type body struct {
	io.Reader
	script *script
}

func (b *body) Close() error {
	b.script.mu.Lock()
	defer b.script.mu.Unlock()
	b.script.open--
	return nil
}

// follow ranges over a new stream and returns what came and how it ended.
func follow(ctx context.Context, c *Client) (events []string, err error) {
	for e, e2 := range c.Events(ctx) {
		if e2 != nil {
			if err != nil {
				return events, fmt.Errorf("two errors: %w, %w", err, e2)
			}
			err = e2
			continue
		}
		events = append(events, e.ID+"="+e.Text())
	}
	return events, err
}

func seconds(came []time.Duration) string {
	var out []string
	for _, d := range came {
		out = append(out, fmt.Sprint(d.Seconds()))
	}
	return strings.Join(out, " ")
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
