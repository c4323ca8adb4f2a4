package ginsse_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// lookOnly lets a feed end as soon as it has begun, and tells the topic's name.
func lookOnly(topic *string) ginsse.Options {
	o := quiet
	o.ExpireAt = time.Unix(1, 0)
	o.OnEnd = func(e feed.End) { *topic = strings.Join(e.Topics, " ") }
	return o
}

type pairParams struct {
	A string
	B string `query:"b,required"`
}

// newPairs returns a function that asks the route /:a?b= for the topic t/{a}/{b} by its
// parameters' values.
func newPairs(t testing.TB) func(t testing.TB, a, b string) (topic string, code int) {
	t.Helper()
	var topic string
	r := gin.New()
	r.UseRawPath = true // so that a value can have a slash in it
	mount(t, r, ginsse.SSE[pairParams]("/:a").Options(lookOnly(&topic)).Topic(newHub(t), "t/{a}/{b}"))
	return func(t testing.TB, a, b string) (string, int) {
		// Gin reads a plus in a raw path as a space.
		raw := strings.ReplaceAll(url.PathEscape(a), "+", "%2B")
		u := &url.URL{Path: "/" + a, RawPath: "/" + raw, RawQuery: url.Values{"b": {b}}.Encode()}
		w := httptest.NewRecorder()
		topic = ""
		r.ServeHTTP(w, (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, ProtoMajor: 1, ProtoMinor: 1}).WithContext(t.Context()))
		return topic, w.Code
	}
}

// TestTemplateForgery holds that no value leaves its place in a topic's name, and each pair of
// values has a topic of its own.
func TestTemplateForgery(t *testing.T) {
	ask := newPairs(t)
	owner := make(map[string][2]string)
	check := func(a, b string) {
		t.Helper()
		topic, code := ask(t, a, b)
		if want := hub.JoinTopic("t", a, b); code != http.StatusOK || topic != want {
			t.Errorf("%q, %q: topic %q with status %d, want %q", a, b, topic, code, want)
		}
		if other, ok := owner[topic]; ok && other != [2]string{a, b} {
			t.Errorf("%q is the topic of %q and of %q, %q", topic, other, a, b)
		}
		if strings.Count(topic, "/") != 2 || hub.CheckTopic(topic) != nil {
			t.Errorf("%q, %q: topic %q", a, b, topic)
		}
		owner[topic] = [2]string{a, b}
	}
	for _, pair := range [][2]string{
		{"a/b", "c"}, {"a", "b/c"}, {"a%2Fb", "c"}, {"a", "b%2Fc"}, {"a%252Fb", "c"}, {"..", "x"}, {"../..", "x"}, {".", "x"}, {"a\x00", "b"}, {"a\n", "b"},
		{"a\r\n", "b"}, {"a\u0085", "b"}, {"a\x7f", "b"}, {"a\xff", "b"}, {"a%FF", "b"}, {"a\ufffd", "b"}, {"{b}", "c"}, {"a", "{a}"}, {"*", "?"}, {"_headrace", "x"},
		{" ", " "}, {"é", "e\u0301"}, {"e\u0301", "é"}, {"A", "a"}, {"a", "A"}, {"+", " "}, {"%20", "+"},
	} {
		check(pair[0], pair[1])
	}
	pieces := []string{"/", "%", "2F", "%2F", "%25", "a", "b", ".", "..", "\x00", "\n", "\x1f", "\x7f", "\u0085", "\xff", "\xc3", "é", "{", "}", " ", "-", "_"}
	random := rand.New(rand.NewPCG(1, 2))
	value := func() (s string) {
		for range 1 + random.IntN(4) {
			s += pieces[random.IntN(len(pieces))]
		}
		return s
	}
	for range 2000 {
		check(value(), value())
	}
}

func TestTemplateReserved(t *testing.T) {
	var topic string
	r := engine(t, ginsse.SSE[struct{ A, B string }]("/:a/:b").Options(lookOnly(&topic)).Topic(newHub(t), "{a}/{b}"))
	isRefusal(t, get(r, "/_headrace/x"), http.StatusNotFound, "not found")
	if w := get(r, "/_headrac/x"); w.Code != http.StatusOK || topic != "_headrac/x" {
		t.Errorf("beside it: %d, %q", w.Code, topic)
	}
}

// TestTemplateTooLong holds that names of more than 255 bytes are 404, counted after escaping.
func TestTemplateTooLong(t *testing.T) {
	ask := newPairs(t)
	fits := strings.Repeat("x", hub.MaxTopic-len("t//b"))
	for a, want := range map[string]int{
		fits:                            http.StatusOK,
		fits + "x":                      http.StatusNotFound,
		strings.Repeat("x", 10<<10):     http.StatusNotFound,
		strings.Repeat("\n", 84) + "x":  http.StatusNotFound, // 253 bytes after escaping
		strings.Repeat("\n", 83) + "xx": http.StatusOK,
		strings.Repeat("é", 126):        http.StatusNotFound,
		strings.Repeat("é", 125) + "x":  http.StatusOK,
	} {
		if _, code := ask(t, a, "b"); code != want {
			t.Errorf("a value of %d bytes: %d, want %d", len(a), code, want)
		}
	}
}

// TestTemplateValues holds that a topic's name has a value's own text, so that one value has one
// topic however a client writes it.
func TestTemplateValues(t *testing.T) {
	h := newHub(t)
	var topic string
	for name, test := range map[string]struct {
		route   ginsse.Controller
		targets []string
		want    string
	}{
		"number":   {ginsse.SSE[ticketParams]("/:ticket").Options(lookOnly(&topic)).Topic(h, "tickets/{ticket}"), []string{"/7", "/07", "/007", "/+7"}, "tickets/7"},
		"negative": {ginsse.SSE[ticketParams]("/:ticket").Options(lookOnly(&topic)).Topic(h, "{ticket}"), []string{"/-1", "/-01"}, "-1"},
		"unsigned": {ginsse.SSE[struct{ A uint8 }]("/:a").Options(lookOnly(&topic)).Topic(h, "{a}"), []string{"/255", "/0255"}, "255"},
		"bool":     {ginsse.SSE[struct{ A bool }]("/:a").Options(lookOnly(&topic)).Topic(h, "{a}"), []string{"/true", "/1", "/T"}, "true"},
		"float":    {ginsse.SSE[struct{ A float32 }]("/:a").Options(lookOnly(&topic)).Topic(h, "{a}"), []string{"/0.1", "/.1", "/1e-1"}, "0.1"},
		"duration": {ginsse.SSE[struct{ A time.Duration }]("/:a").Options(lookOnly(&topic)).Topic(h, "{a}"), []string{"/90s", "/1m30s"}, "1m30s"},
		"time":     {ginsse.SSE[struct{ A time.Time }]("/:a").Options(lookOnly(&topic)).Topic(h, "{a}"), []string{"/2026-01-02T03:04:05Z", "/2026-01-02T03:04:05.000Z"}, "2026-01-02T03:04:05Z"},
		"own text": {ginsse.SSE[struct{ A level }]("/:a").Options(lookOnly(&topic)).Topic(h, "levels/{a}"), []string{"/high"}, "levels/high"},
		"named":    {ginsse.SSE[struct{ A name }]("/:a").Options(lookOnly(&topic)).Topic(h, "{a}"), []string{"/ann"}, "ann"},
		"query and header": {ginsse.SSE[struct {
			Q int    `query:"q,required"`
			H string `header:"X-H,required"`
		}]("/x").Options(lookOnly(&topic)).Topic(h, "a{q}b/{X-H}/c"), []string{"/x?q=1", "/x?q=01"}, "a1b/h%2F/c"},
		"wildcard":  {ginsse.SSE[struct{ A string }]("/x/*a").Options(lookOnly(&topic)).Topic(h, "t/{a}"), []string{"/x/y/z"}, "t/%2Fy%2Fz"},
		"no values": {ginsse.SSE[ticketParams]("/:ticket").Options(lookOnly(&topic)).Topic(h, "all tickets"), []string{"/1", "/2"}, "all tickets"},
	} {
		t.Run(name, func(t *testing.T) {
			r := engine(t, test.route)
			for _, target := range test.targets {
				topic = ""
				if w := get(r, target, "X-H", "h/"); w.Code != http.StatusOK || topic != test.want {
					t.Errorf("%s: %d, topic %q, want %q", target, w.Code, topic, test.want)
				}
			}
		})
	}
}

// secretText decodes anything and has no text for some of it.
type secretText string

func (s *secretText) UnmarshalText(text []byte) error {
	*s = secretText(text)
	return nil
}

func (s secretText) MarshalText() ([]byte, error) { return nil, context.DeadlineExceeded }

func TestTemplateValueWithoutText(t *testing.T) {
	r := engine(t, ginsse.SSE[struct{ A secretText }]("/:a").Options(quiet).Topic(newHub(t), "{a}"))
	isRefusal(t, get(r, "/"+canary), http.StatusBadRequest, `path parameter "a": is malformed`)
}

func TestTopicFunc(t *testing.T) {
	h := newHub(t)
	var topic string
	r := engine(t, ginsse.SSE[struct{ A string }]("/:a").Options(lookOnly(&topic)).TopicFunc(h, func(c *ginsse.Context[struct{ A string }]) (string, error) {
		switch c.Params.A {
		case "gone":
			return "", ginsse.ErrNotFound
		case "broken":
			return "", context.DeadlineExceeded
		case "invalid":
			return "a\nb", nil
		case "empty":
			return "", nil
		}
		return hub.JoinTopic("f", c.Params.A), nil
	}))
	isRefusal(t, get(r, "/gone"), http.StatusNotFound, "not found")
	isRefusal(t, get(r, "/broken"), http.StatusInternalServerError, "internal server error")
	isRefusal(t, get(r, "/invalid"), http.StatusNotFound, "not found")
	isRefusal(t, get(r, "/empty"), http.StatusNotFound, "not found")
	if w := get(r, "/x%25"); w.Code != http.StatusOK || topic != "f/x%25" {
		t.Errorf("%d, topic %q", w.Code, topic)
	}
}
