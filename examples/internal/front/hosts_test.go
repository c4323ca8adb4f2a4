package front

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// parse returns a Front made of arguments, and what it logs.
func parse(t *testing.T, args ...string) (*Front, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	f := &Front{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	f.Flags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f, &log
}

func TestHosts(t *testing.T) {
	const (
		loopback = "127.0.0.1:8080"
		other    = "192.0.2.1:8080"
		every    = "0.0.0.0:8080"
	)
	for _, test := range []struct {
		listens, hosts, host string
		want                 bool
	}{
		{loopback, "", "localhost", true},
		{loopback, "", "localhost:8080", true},
		{loopback, "", "localhost:", true},
		{loopback, "", "localhost:1", true}, // of a forwarded port
		{loopback, "", "LocalHost:8080", true},
		{loopback, "", "localhost.", true},
		{loopback, "", "LOCALHOST.:8080", true},
		{loopback, "", "app.localhost:8080", true},
		{loopback, "", "a.b.localhost", true},
		{loopback, "", "127.0.0.1", true},
		{loopback, "", "127.0.0.1:8080", true},
		{loopback, "", "127.0.0.1.:8080", true},
		{loopback, "", "127.255.0.9", true},
		{loopback, "", "[::1]", true},
		{loopback, "", "[::1]:8080", true},
		{loopback, "", "[0:0:0:0:0:0:0:1]:8080", true},
		{loopback, "", "[::ffff:127.0.0.1]:8080", true},
		{"[::1]:8080", "", "localhost", true},
		{"[::1]:8080", "", "evil.example", false},
		{"127.0.0.2:8080", "", "evil.example", false},

		{loopback, "", "", false},
		{loopback, "", ":8080", false},
		{loopback, "", ".", false},
		{loopback, "", "evil.example", false},
		{loopback, "", "evil.example:8080", false},
		{loopback, "", "localhost.evil.example", false},
		{loopback, "", "127.0.0.1.evil.example", false},
		{loopback, "", "evillocalhost", false},
		{loopback, "", ".localhost", false},
		{loopback, "", "a..localhost", false},
		{loopback, "", "localhost..", false},
		{loopback, "", "localhost:80:80", false},
		{loopback, "", "localhost:http", false},
		{loopback, "", "localhost:-1", false},
		{loopback, "", "localhost, evil.example", false},
		{loopback, "", "evil.example@localhost", false},
		{loopback, "", "evil.example/.localhost", false},
		{loopback, "", "192.0.2.1", false},
		{loopback, "", "128.0.0.1", false},
		{loopback, "", "0.0.0.0:8080", false},
		{loopback, "", "2130706433", false},
		{loopback, "", "::1", false},
		{loopback, "", "[::1", false},
		{loopback, "", "[::1]8080", false},
		{loopback, "", "[::1]:x", false},
		{loopback, "", "[::1]]", false},
		{loopback, "", "[::1%lo]:8080", false},
		{loopback, "", "[::1%25lo]:8080", false},
		{loopback, "", "[127.0.0.1]:8080", false},
		{loopback, "", "[localhost]", false},
		{loopback, "", "[2001:db8::1]", false},

		{loopback, "app.example", "app.example", true},
		{loopback, "app.example", "localhost:8080", true},
		{loopback, "app.example", "evil.example", false},

		{other, "", "evil.example", true},
		{other, "", "", true},
		{every, "", "anything", true},
		{every, "a.example,B.Example.", "a.example:443", true},
		{every, "a.example,B.Example.", "b.example", true},
		{every, "a.example,B.Example.", "B.EXAMPLE.:80", true},
		{every, "a.example,B.Example.", "x.a.example", false},
		{every, "a.example", "localhost", false},
		{every, "a.example", "", false},
		{every, "192.0.2.1", "192.0.2.1:8080", true},
		{every, "2001:db8::1", "[2001:db8:0::1]:8080", true},
		{every, "[2001:db8::1]", "[2001:DB8::1]", true},
	} {
		t.Run(test.listens+" "+test.hosts+" "+test.host, func(t *testing.T) {
			var args []string
			if test.hosts != "" {
				args = []string{"-hosts", test.hosts}
			}
			f, log := parse(t, args...)
			addr, err := net.ResolveTCPAddr("tcp", test.listens)
			if err != nil {
				t.Fatal(err)
			}
			handler := f.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }), addr)
			for range 2 {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Host = test.host
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if got := w.Code == http.StatusTeapot; got != test.want || !got && w.Code != http.StatusMisdirectedRequest {
					t.Errorf("answered with %d", w.Code)
				}
				r.URL.Path = Health
				w = httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != http.StatusNoContent {
					t.Errorf("health is answered with %d", w.Code)
				}
			}
			warnings := 1
			if test.want {
				warnings = 0
			}
			if got := strings.Count(log.String(), "-hosts"); got != warnings {
				t.Errorf("%d warnings, want %d:\n%s", got, warnings, log)
			}
		})
	}
}

// TestHostsOfRequests: the name is looked for where each form of a request has it.
func TestHostsOfRequests(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config.Handler = new(Front).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}), server.Listener.Addr())
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	addr := server.Listener.Addr().String()

	for _, test := range []struct {
		request string
		want    string
	}{
		{"GET / HTTP/1.1\r\nHost: " + addr, "200"},
		{"GET / HTTP/1.1\r\nHost: evil.example", "421"},
		{"GET http://localhost/ HTTP/1.1\r\nHost: evil.example", "200"}, // RFC 9112 3.2.2: Host does not count
		{"GET http://evil.example/ HTTP/1.1\r\nHost: localhost", "421"},
		{"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example", "200"},
		{"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost", "421"},
		{"GET / HTTP/1.1\r\nHost:", "421"},
		{"GET / HTTP/1.0", "421"},
		{"GET /healthz HTTP/1.0", "204"},
		{"POST /healthz HTTP/1.0", "421"},
		{"GET /healthz/ HTTP/1.0", "421"},
	} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, test.request+"\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if status := strings.Fields(line); err != nil || len(status) < 2 || status[1] != test.want {
			t.Errorf("%q is answered with %q, %v, want %s", test.request, line, err, test.want)
		}
		_ = conn.Close()
	}
	for host, want := range map[string]string{addr: "200 HTTP/2.0", "localhost": "200 HTTP/2.0", "evil.example": `421 {"error":"misdirected request"}`} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host // :authority
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", string(body)); got != want || resp.ProtoMajor != 2 {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

func TestWrongFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-hosts", ""}, {"-hosts", "a.example,"}, {"-hosts", "a.example:80"}, {"-hosts", "a.example, b.example"}, {"-hosts", "*.example"},
		{"-hosts", "http://a.example"}, {"-hosts", "[a]"},
		{"-proxies", ""}, {"-proxies", "nginx"}, {"-proxies", "10.0.0.0/33"}, {"-proxies", "none,10.0.0.1"}, {"-proxies", "10.0.0.1:80"},
	} {
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		new(Front).Flags(flags)
		if err := flags.Parse(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
