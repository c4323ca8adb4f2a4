package sse

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAppendTorn(t *testing.T) {
	const (
		webkit   = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15"
		onIOS    = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1"
		chromium = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36"
		firefox  = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
		empty    = "!\nevent: torn\nid: \n\n"
		keep     = "!\nevent: torn\n\n"
	)
	long := strings.Repeat("x", 4<<10)
	for _, test := range []struct {
		name    string
		control string
		agent   string
		query   string
		header  string
		want    string
	}{
		{name: "another client", header: "1-0"},
		{name: "other directives", control: "max-age=0, no-store"},
		{name: "no cursor", control: "no-cache", want: empty},
		{name: "one of several directives", control: "no-store, No-Cache", want: empty},
		{name: "WebKit", control: "no-cache", agent: webkit, want: empty},
		{name: "WebKit under another name", control: "no-cache", agent: onIOS, want: empty},
		{name: "Chromium", control: "no-cache", agent: chromium},
		{name: "Firefox", control: "no-cache", agent: firefox},
		{name: "a client in Go", control: "no-cache", agent: "Go-http-client/1.1"},
		{name: "header", control: "no-cache", header: "1-0", want: "!\nevent: torn\nid: 1-0\n\n"},
		{name: "query", control: "no-cache", query: "?lastEventId=a%20b", want: "!\nevent: torn\nid: a b\n\n"},
		{name: "not one of ours", control: "no-cache", header: `{"é":" 1"}`, want: "!\nevent: torn\nid: {\"é\":\" 1\"}\n\n"},
		{name: "longest", control: "no-cache", header: long, want: "!\nevent: torn\nid: " + long + "\n\n"},
		{name: "too long", control: "no-cache", header: long + "x", want: keep},
		{name: "line end", control: "no-cache", query: "?lastEventId=a%0A%0Adata:%20x", want: keep},
		{name: "CR", control: "no-cache", query: "?lastEventId=a%0Dx", want: keep},
		{name: "NUL", control: "no-cache", query: "?lastEventId=a%00", want: keep},
		{name: "C1 control", control: "no-cache", query: "?lastEventId=a%C2%85", want: keep},
		{name: "not UTF-8", control: "no-cache", header: "a\xff", want: keep},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/"+test.query, nil)
			for name, value := range map[string]string{"Cache-Control": test.control, "User-Agent": test.agent, "Last-Event-ID": test.header} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			if got := string(AppendTorn([]byte("."), r)); got != "."+test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			rec := httptest.NewRecorder()
			if _, err := Respond(rec, r); err != nil || rec.Body.String() != test.want {
				t.Errorf("Respond sends %q, want %q: %v", rec.Body, test.want, err)
			}
		})
	}
}
