package js

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHandler(t *testing.T) {
	ask := func(method, target string, header ...string) *http.Response {
		t.Helper()
		r := httptest.NewRequest(method, target, nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		return w.Result()
	}
	tag := ask("GET", "/js/headrace.js").Header.Get("ETag")
	if len(tag) != 18 {
		t.Fatalf("ETag is %q", tag)
	}
	if other := ask("GET", "/js/headrace.d.ts").Header.Get("ETag"); other == tag {
		t.Error("two files have one tag")
	}
	const script, text = "text/javascript; charset=utf-8", "text/plain; charset=utf-8"
	tests := []struct {
		name, method, target string
		header               []string
		status               int
		contentType          string
		body                 []byte
	}{
		{"module", "GET", "/js/headrace.js", nil, 200, script, module},
		{"under another prefix", "GET", "/static/v2/headrace.js?x=1", nil, 200, script, module},
		{"prefix stripped", "GET", "/headrace.js", nil, 200, script, module},
		{"types", "GET", "/js/headrace.d.ts", nil, 200, text, types},
		{"HEAD", "HEAD", "/js/headrace.js", nil, 200, script, nil},
		{"unchanged", "GET", "/js/headrace.js", []string{"If-None-Match", tag}, 304, "", nil},
		{"unchanged, weakened by a proxy", "GET", "/js/headrace.js", []string{"If-None-Match", "W/" + tag}, 304, "", nil},
		{"HEAD unchanged", "HEAD", "/js/headrace.js", []string{"If-None-Match", tag}, 304, "", nil},
		{"changed", "GET", "/js/headrace.js", []string{"If-None-Match", `"0"`}, 200, script, module},
		{"part", "GET", "/js/headrace.js", []string{"Range", "bytes=0-1"}, 206, script, module[:2]},
		{"POST", "POST", "/js/headrace.js", nil, 405, text, nil},
		{"another name", "GET", "/js/headrace.min.js", nil, 404, text, nil},
		{"the folder", "GET", "/js/", nil, 404, text, nil},
		{"Go source", "GET", "/js/js.go", nil, 404, text, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp := ask(test.method, test.target, test.header...)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || resp.Header.Get("Content-Type") != test.contentType {
				t.Errorf("status %d, type %q; want %d, %q", resp.StatusCode, resp.Header.Get("Content-Type"), test.status, test.contentType)
			}
			if test.status < 400 && !bytes.Equal(body, test.body) {
				t.Errorf("body of %d bytes, want %d", len(body), len(test.body))
			}
			if test.status < 400 && resp.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("Cache-Control is %q", resp.Header.Get("Cache-Control"))
			}
			if test.status == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow is %q", resp.Header.Get("Allow"))
			}
		})
	}
}
