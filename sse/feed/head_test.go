package feed

import (
	"context"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// TestHead: HEAD has the status and the header that GET has, as far as they are known without a
// stream, and opens, counts and loads nothing.
func TestHead(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	publish(t, h, "t", "a")
	begun := &Drain{}
	begun.Begin()
	limits := &Limits{Max: 1}
	heading := false
	called := func(what string) {
		if heading {
			t.Errorf("%s was called for HEAD", what)
		}
	}
	limits.PerKey, limits.Key = 1, func(*http.Request) string { called("Key"); return "" }
	f := Of(h, "t")
	f.Hello = func(context.Context) (sse.Event, error) { called("Hello"); return sse.Event{Data: "x"}, nil }
	state := f
	state.Snapshot = func(context.Context) (any, error) { called("Snapshot"); return "state", nil }
	generate := func(o Options) http.Handler {
		return generator(o, nil, func(context.Context, yieldFunc) { called("the generator") })
	}
	feedOf := func(f Feed, o Options) http.Handler {
		o.Logger, o.Limits = quiet(), limits
		o.OnEnd = func(End) { called("OnEnd") }
		return Handler(f, o)
	}
	for name, tc := range map[string]struct {
		handler        http.Handler
		query, accept  string
		code           int
		whenOpenedOnly []string // what only GET knows
	}{
		"stream":               {feedOf(f, Options{}), "", "", 200, nil},
		"stream by name":       {feedOf(f, Options{}), "", streamType, 200, nil},
		"stream beside JSON":   {feedOf(state, Options{History: &History{}}), "", "*/*", 200, nil},
		"document":             {feedOf(state, Options{}), "", documentType, 200, []string{"Last-Event-Id", "Content-Length"}},
		"page":                 {feedOf(f, Options{History: &History{}}), "?limit=1", documentType, 200, []string{"Content-Length"}},
		"bad page":             {feedOf(f, Options{History: &History{}}), "?limit=x", documentType, 400, nil},
		"bad start":            {feedOf(f, Options{Starts: Starts{Earliest: true}}), "?start=x", "", 400, nil},
		"no topic":             {feedOf(Of(h, ""), Options{}), "", "", 404, nil},
		"absent":               {feedOf(Of(h, "never"), Options{Absent: 404}), "", "", 404, nil},
		"absent, 204":          {feedOf(Of(h, "never"), Options{Absent: 204}), "", streamType, 204, nil},
		"not acceptable":       {feedOf(f, Options{}), "", "image/png", 406, nil},
		"drained":              {feedOf(f, Options{Drain: begun}), "", "", 503, nil},
		"drained, by name":     {feedOf(f, Options{Drain: begun}), "", streamType, 200, nil},
		"drained page":         {feedOf(f, Options{Drain: begun, History: &History{}}), "?limit=1", documentType, 503, nil},
		"wrong options":        {feedOf(f, Options{Absent: 1}), "", "", 500, nil},
		"no feed":              {feedOf(Feed{}, Options{}), "", "", 500, nil},
		"generator":            {generate(Options{}), "", "", 200, nil},
		"generator, drained":   {generate(Options{Drain: begun}), "", "", 503, nil},
		"generator, JSON":      {generate(Options{}), "", documentType, 406, nil},
		"refused":              {HandlerFunc(func(*http.Request) (Feed, error) { return Feed{}, Status(403, nil) }, Options{Logger: quiet()}), "", "", 403, nil},
		"refused, temporarily": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Refuse(w, r, 429, "x", Options{}) }), "", streamType, 200, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, tc.handler)
			answer := func(method string) http.Header {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, method, s.URL+tc.query, nil)
				if err != nil {
					t.Fatal(err)
				}
				if tc.accept != "" {
					req.Header.Set("Accept", tc.accept)
				}
				resp, err := s.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				equal(t, method, resp.StatusCode, tc.code)
				if method == http.MethodHead {
					if body, err := io.ReadAll(resp.Body); len(body) > 0 || err != nil {
						t.Errorf("body %q, %v", body, err)
					}
				}
				head := resp.Header.Clone()
				for _, name := range append([]string{"Date", "Connection"}, tc.whenOpenedOnly...) {
					head.Del(name)
				}
				if head.Get("Retry-After") != "" {
					head.Set("Retry-After", "N")
				}
				return head
			}
			heading = true
			head := answer(http.MethodHead)
			equal(t, "subscriptions", h.Stats().Subscriptions, 0)
			equal(t, "streams", limits.Open(), 0)
			heading = false
			get := answer(http.MethodGet)
			if !maps.EqualFunc(head, get, slices.Equal[[]string]) {
				t.Errorf("HEAD %v, GET %v", head, get)
			}
			for limits.Open() > 0 || h.Stats().Subscriptions > 0 {
				runtime.Gosched() // the server does not wait for a connection that was taken over
			}
		})
	}
}
