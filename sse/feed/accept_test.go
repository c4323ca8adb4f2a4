package feed

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
)

// TestAccept: what a header gives at a feed, and at one that offers JSON too, by a Snapshot or by
// pages.
func TestAccept(t *testing.T) {
	const stream, document, no = "stream", "JSON", "406"
	h := newHub(t, nil, hub.Options{})
	finish(t, h, "t")
	plain, withState := Of(h, "t"), Of(h, "t")
	withState.Snapshot = func(context.Context) (any, error) { return "state", nil }
	for _, tc := range []struct {
		accept        []string
		plain, offers string
	}{
		{nil, stream, stream},
		{[]string{""}, stream, stream},
		{[]string{" , ,"}, stream, stream},
		{[]string{"*/*"}, stream, stream},
		{[]string{"text/event-stream"}, stream, stream},
		{[]string{"Text/Event-Stream; Q=0.9"}, stream, stream},
		{[]string{"text/*"}, stream, stream},
		{[]string{"application/json"}, no, document},
		{[]string{"Application/JSON"}, no, document},
		{[]string{"application/*"}, no, document},
		{[]string{"image/*"}, no, no},
		{[]string{"text/html, application/xhtml+xml"}, no, no},
		{[]string{"text/event-streams, application/jsonl"}, no, no},

		// Weights.
		{[]string{"text/event-stream, application/json"}, stream, stream},
		{[]string{"application/json, text/event-stream"}, stream, stream},
		{[]string{"application/json;q=0.5, text/event-stream;q=0.50"}, stream, stream},
		{[]string{"application/json, text/event-stream;q=0.9"}, stream, document},
		{[]string{"application/json;q=0.9, text/event-stream"}, stream, stream},
		{[]string{"application/json;q=0.002, text/event-stream;q=0.001"}, stream, document},
		{[]string{"application/*;q=0.8, text/*;q=0.7"}, stream, document},
		{[]string{"application/*;q=0.7, text/*;q=0.8"}, stream, stream},
		{[]string{"application/*, text/*"}, stream, stream},
		{[]string{"application/json;q=0.1, */*;q=0.2"}, stream, stream},
		{[]string{"application/json;q=0.5, */*;q=0.1"}, stream, document},

		// At the same weight what is named comes before what is not.
		{[]string{"application/json, text/plain, */*"}, stream, document}, // axios
		{[]string{"*/*, application/json"}, stream, document},
		{[]string{"text/event-stream, */*"}, stream, stream},
		{[]string{"text/event-stream, application/*"}, stream, stream},
		{[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, stream, stream}, // a browser's address bar
		{[]string{"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}, stream, stream},            // java.net

		// What names it most precisely counts, wherever it stands.
		{[]string{"text/*;q=0, */*"}, no, document},
		{[]string{"*/*, text/*;q=0"}, no, document},
		{[]string{"*/*;q=0, text/event-stream"}, stream, stream},
		{[]string{"text/*;q=0, text/event-stream;q=0.1"}, stream, stream},
		{[]string{"text/event-stream;q=0, */*"}, no, document},
		{[]string{"text/event-stream;q=0, text/*"}, no, no},
		{[]string{"text/event-stream;q=0, application/json;q=0, */*"}, no, no},
		{[]string{"application/json;q=0, */*"}, stream, stream},
		{[]string{"application/json;q=0, application/*, text/*;q=0.1"}, stream, stream},
		{[]string{"application/*;q=0.1, application/json;q=0.9, text/event-stream;q=0.5"}, stream, document},
		{[]string{"*/*;q=0"}, no, no},
		{[]string{"text/event-stream;q=0.000"}, no, no},

		// Parameters.
		{[]string{"text/event-stream;charset=utf-8"}, stream, stream},
		{[]string{`text/event-stream; Charset="UTF-8"; q=0.5`}, stream, stream},
		{[]string{"text/event-stream;charset=utf-8;q=0, text/event-stream"}, no, no},
		{[]string{"text/event-stream;charset=utf-8, text/event-stream;q=0"}, stream, stream},
		{[]string{"application/json;charset=utf-8"}, no, document},
		{[]string{"application/json;charset=utf-8, text/event-stream"}, stream, stream},
		{[]string{"text/event-stream;version=2"}, stream, stream},
		{[]string{"text/event-stream;version=2;q=0.1, text/event-stream;q=0"}, no, no},
		{[]string{"text/event-stream;version=2;q=0, */*"}, stream, stream},
		{[]string{"text/event-stream;q=0.5;version=2, application/json;q=0.4"}, stream, stream},
		{[]string{`text/html;title="a, text/event-stream;q=0", */*`}, stream, stream},
		{[]string{`text/html;title="\", text/event-stream;q=0", */*;q=0`}, no, no},

		// Several headers are one.
		{[]string{"text/html", "text/event-stream"}, stream, stream},
		{[]string{"text/event-stream;q=0.1", "application/json"}, stream, document},
		{[]string{"*/*", "text/event-stream;q=0"}, no, document},

		// What is malformed is as good as not there.
		{[]string{"event-stream"}, stream, stream},
		{[]string{"*"}, stream, stream},
		{[]string{";;;===,,,\""}, stream, stream},
		{[]string{"*/event-stream, image/png"}, no, no},
		{[]string{"text/, /json, image/png"}, no, no},
		{[]string{"text/event-stream;q=high, application/json"}, no, document},
		{[]string{"text/event-stream;q=1.1, application/json"}, no, document},
		{[]string{"text/event-stream;q=-1, application/json"}, no, document},
		{[]string{"text/event-stream;q=NaN, application/json"}, no, document},
		{[]string{"text/event-stream;q=0x1p-2, application/json"}, no, document},
		{[]string{"text/event-stream;q=, application/json"}, no, document},
		{[]string{"text/event-stream;q=1;q=0, application/json"}, no, document},
		{[]string{"text/event-stream;q=., application/json"}, no, document},
		{[]string{"text/event stream, application/json"}, no, document},
		{[]string{`application/json, image/png;x="no end, text/event-stream`}, no, document},
		{[]string{"text/event-stream;q=1.", "application/json;q=.9"}, stream, stream},
	} {
		for _, f := range []struct {
			what, path string
			feed       Feed
			o          Options
			want       string
		}{
			{"plain", "/", plain, Options{}, tc.plain},
			{"snapshot", "/", withState, Options{}, tc.offers},
			{"pages", "/?limit=1", plain, Options{History: &History{}}, tc.offers},
			{"pages, not asked for", "/", plain, Options{History: &History{}}, tc.plain},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				r := get(f.path)
				r.Method, r.Header["Accept"] = method, tc.accept
				f.o.Logger = quiet()
				w := record(Handler(f.feed, f.o), r)
				got := fmt.Sprint(w.Code)
				switch {
				case w.Code == 200 && w.Header().Get("Content-Type") == streamHeader:
					got = stream
				case w.Code == 200 && w.Header().Get("Content-Type") == documentType:
					got = document
				}
				equal(t, fmt.Sprintf("%s, %s: %q", f.what, method, tc.accept), got, f.want)
			}
		}
	}
}

// TestByName: who gets a refusal as a stream.
func TestByName(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/*": false, "application/json": false,
		"text/event-stream": true, "text/event-stream;q=0": false, "text/event-stream, */*": true,
		"text/html, text/event-stream;q=0.1": true, "text/event-stream;charset=utf-8": true, "text/event-stream;v=1": true,
		"application/json, text/event-stream": true, "application/json, text/event-stream;q=0.1": false,
	} {
		_, got := acceptOf(http.Header{"Accept": {accept}}).takesStream()
		equal(t, accept, got, want)
	}
}

// FuzzAccept: no header panics or takes long; one that excludes nothing and accepts everything gets
// a stream, and what stands before and behind an element does not change what that says.
func FuzzAccept(f *testing.F) {
	for _, seed := range []string{
		"", "*/*", "text/event-stream", "application/json, */*;q=0.1", "text/*;q=0, */*", `a/b;c="d,\"e"`, ";;;===,,,\"", "*;q=.2",
		"text/event-stream;q=1;q=0", "\x00\xff", strings.Repeat("a/b,", 100), "text/event-stream;charset*0=utf-;charset*1=8",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h := http.Header{"Accept": {text}}
		stream, byName := acceptOf(h).takesStream()
		document := acceptOf(h).prefersDocument()
		if byName && (!stream || document) {
			t.Errorf("%q: stream %v, by name, JSON %v", text, stream, document)
		}
		excluding := http.Header{"Accept": {text, "text/event-stream;charset=utf-8;q=0"}}
		if ok, _ := acceptOf(excluding).takesStream(); ok && !strings.Contains(strings.ToLower(text), "charset") {
			t.Errorf("%q: a stream that is excluded", text)
		}
		naming := http.Header{"Accept": {"text/event-stream;charset=utf-8", text}}
		if ok, _ := acceptOf(naming).takesStream(); !ok {
			t.Errorf("%q: no stream, which is named", text)
		}
		if acceptOf(naming).prefersDocument() {
			t.Errorf("%q: JSON before what is named at the full weight", text)
		}
	})
}

// TestAcceptIsBounded: of a header that is too long the beginning counts.
func TestAcceptIsBounded(t *testing.T) {
	for _, tc := range []struct {
		accept string
		want   bool
	}{
		{strings.Repeat("image/png,", maxRanges-1) + "text/event-stream", true},
		{strings.Repeat("image/png,", maxRanges) + "text/event-stream", false},
		{"text/event-stream;a=" + strings.Repeat("b", maxRange) + ",image/png", false},
		{"text/event-stream;a=" + strings.Repeat("b", maxRange/2) + ",image/png", true},
	} {
		if got, _ := acceptOf(http.Header{"Accept": {tc.accept}}).takesStream(); got != tc.want {
			t.Errorf("%.60s…: %t", tc.accept, got)
		}
	}
}
