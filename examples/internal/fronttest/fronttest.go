// Package fronttest tests that an example keeps strangers out and its places shared.
package fronttest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/headrace/headrace/sse"
)

// Program is an example.
type Program struct {
	Run    func(ctx context.Context, args []string, stdout io.Writer) error
	Args   []string
	Stream string // a path, without the first slash
	Cookie string
	Each   int // how many streams a client may have
}

// Check starts the example at a loopback address. It must answer under the names of this machine
// only, but for its health, and bound a client that nobody knows by its address.
func (p Program) Check(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- p.Run(ctx, append([]string{"-addr", "127.0.0.1:0"}, p.Args...), out)
		_ = out.Close()
	}()
	transport := &http.Transport{}
	defer func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	url := regexp.MustCompile(`http://[^/\s]+/`).FindString(line)
	if err != nil || url == "" {
		t.Fatalf("printed %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()

	// Streams last until the test has seen all of them.
	streaming, leave := context.WithCancel(t.Context())
	defer leave()
	ask := func(path, host string, header ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(streaming, http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, test := range []struct {
		path, host string
		want       int
	}{
		{"", "", http.StatusOK},
		{"", "localhost:80", http.StatusOK},
		{"", "evil.example", http.StatusMisdirectedRequest},
		{p.Stream, "evil.example", http.StatusMisdirectedRequest},
		{"healthz", "evil.example", http.StatusNoContent},
	} {
		resp := ask(test.path, test.host)
		_ = resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("GET /%s of %q: status %d, want %d", test.path, test.host, resp.StatusCode, test.want)
		}
	}
	for i := range p.Each {
		resp := ask(p.Stream, "", "Accept", "text/event-stream", "Cookie", p.Cookie)
		defer resp.Body.Close() //nolint:revive // all stay open until the last was refused
		if e, err := sse.NewDecoder(resp.Body).Decode(); err != nil {
			t.Fatalf("stream %d of %d: status %d, %q, %v", i+1, p.Each, resp.StatusCode, e.Type, err)
		}
	}
	resp := ask(p.Stream, "", "Cookie", p.Cookie)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one stream more: status %d, want 429", resp.StatusCode)
	}
	resp = ask(p.Stream, "", "Cookie", p.Cookie, "X-Forwarded-For", "192.0.2.1")
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("one stream more, behind what may be a proxy: status %d, want 200", resp.StatusCode)
	}
}
