package feed

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	listed   = "https://app.example.com"
	unlisted = "https://evil.example.com"
)

// asks returns a request of a page of that origin, "" being none. The method "preflight" stands
// for the preflight of a GET.
func asks(method, origin string) *http.Request {
	preflight := method == "preflight"
	if preflight {
		method = http.MethodOptions
	}
	r := httptest.NewRequest(method, "/", nil)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	if preflight {
		r.Header.Set("Access-Control-Request-Method", http.MethodGet)
		r.Header.Set("Access-Control-Request-Headers", "last-event-id")
	}
	return r
}

// answer has a CORS handle a request, in both ways, which must agree. It returns the response, of
// a handler that answers 418 if it was asked.
func answer(t *testing.T, c CORS, r *http.Request, before http.Header) *httptest.ResponseRecorder {
	t.Helper()
	asked := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	through, applied := httptest.NewRecorder(), httptest.NewRecorder()
	for name, values := range before {
		through.Header()[name] = slices.Clone(values)
		applied.Header()[name] = slices.Clone(values)
	}
	c.Handler(asked).ServeHTTP(through, r)
	if !c.Apply(applied, r) {
		asked.ServeHTTP(applied, r)
	}
	equal(t, "status with Apply", applied.Code, through.Code)
	equal(t, "headers with Apply", lines(applied.Header()), lines(through.Header()))
	equal(t, "body", through.Body.Len(), 0)
	return through
}

// lines returns a response's headers, sorted.
func lines(h http.Header) string {
	var b strings.Builder
	_ = h.Write(&b)
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}

const (
	vary          = "Vary: Origin\n"
	varyPreflight = "Vary: Origin\nVary: Access-Control-Request-Method\nVary: Access-Control-Request-Headers\n"
	credentials   = "Access-Control-Allow-Credentials: true\n"
	exposed       = "Access-Control-Expose-Headers: Last-Event-ID\nAccess-Control-Expose-Headers: Retry-After\nAccess-Control-Expose-Headers: Heartbeat-Interval\n"
	headers       = "Access-Control-Allow-Headers: Last-Event-ID, Authorization, Cache-Control, Content-Type, Accept\n"
	methods       = "Access-Control-Allow-Methods: GET, HEAD\n"
	maxAge        = "Access-Control-Max-Age: 600\n"
)

// TestCORSMatrix is what pages of all origins get of all kinds of CORS.
func TestCORSMatrix(t *testing.T) {
	const own, every = "Access-Control-Allow-Origin: " + listed + "\n", "Access-Control-Allow-Origin: *\n"
	kinds := map[string]struct {
		cors                CORS
		origin, credentials string // of the listed origin
		others              string // of all other origins
	}{
		"none":                      {CORS{}, "", "", ""},
		"none, credentials":         {CORS{Credentials: true}, "", "", ""},
		"listed":                    {CORS{Origins: []string{"https://b.example.com", listed}}, own, "", ""},
		"listed, credentials":       {CORS{Origins: []string{"https://b.example.com", listed}, Credentials: true}, own, credentials, ""},
		"every":                     {CORS{Origins: []string{"*"}}, every, "", every},
		"broken: every, creds":      {CORS{Origins: []string{"*"}, Credentials: true}, "", "", ""},
		"broken: every and others":  {CORS{Origins: []string{listed, "*"}}, "", "", ""},
		"broken: one of two":        {CORS{Origins: []string{listed, unlisted + "/"}, Credentials: true}, "", "", ""},
		"broken: null":              {CORS{Origins: []string{listed, "null"}}, "", "", ""},
		"broken: injection":         {CORS{Origins: []string{listed}, Headers: []string{"A\r\nSet-Cookie: a=b"}}, "", "", ""},
		"broken: header of nothing": {CORS{Origins: []string{listed}, Headers: []string{""}}, "", "", ""},
	}
	origins := []string{
		"", listed, unlisted, "null", "*", "http://app.example.com", "https://app.example.com:8443", "https://app.example.com/",
		"https://APP.example.com", "https://app.example.com.evil.com", "https://app.example.co", "https://evil-app.example.com",
	}
	for name, kind := range kinds {
		equal(t, name+": Check", kind.cors.Check() == nil, !strings.HasPrefix(name, "broken"))
		for _, origin := range origins {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, "preflight"} {
				t.Run(name+"/"+origin+"/"+method, func(t *testing.T) {
					allow := kind.others
					creds := ""
					switch origin {
					case listed:
						allow, creds = kind.origin, kind.credentials
					case "":
						allow = ""
					}
					preflight := method == "preflight" && origin != ""
					status, want := http.StatusTeapot, vary
					switch {
					case preflight && allow != "":
						status, want = http.StatusNoContent, creds+headers+methods+allow+maxAge+varyPreflight
					case preflight:
						status, want = http.StatusNoContent, varyPreflight
					case allow != "":
						want = creds + allow + exposed + vary
					}
					w := answer(t, kind.cors, asks(method, origin), nil)
					equal(t, "status", w.Code, status)
					equal(t, "headers", lines(w.Header()), want)
				})
			}
		}
	}
}

// TestCORSOriginTwice: no browser sends that, and which one counts would be a guess.
func TestCORSOriginTwice(t *testing.T) {
	for _, c := range []CORS{{Origins: []string{listed}}, {Origins: []string{"*"}}} {
		for _, method := range []string{http.MethodGet, "preflight"} {
			r := asks(method, listed)
			r.Header.Add("Origin", unlisted)
			equal(t, "allowed", answer(t, c, r, nil).Header().Get("Access-Control-Allow-Origin"), "")
		}
	}
}

// TestCORSPreflightIsOPTIONS: the header alone makes none of any other method.
func TestCORSPreflightIsOPTIONS(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		r := asks(method, listed)
		r.Header.Set("Access-Control-Request-Method", http.MethodGet)
		w := answer(t, CORS{Origins: []string{listed}}, r, nil)
		equal(t, method, w.Code, http.StatusTeapot)
		equal(t, "Max-Age", w.Header().Get("Access-Control-Max-Age"), "")
	}
}

// TestCORSKeepsVary that others have set, and adds what is missing.
func TestCORSKeepsVary(t *testing.T) {
	for _, test := range []struct{ before, get, preflight []string }{
		{nil, []string{"Origin"}, []string{"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"}},
		{[]string{"Accept-Encoding"}, []string{"Accept-Encoding", "Origin"},
			[]string{"Accept-Encoding", "Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"}},
		{[]string{"Cookie, origin"}, []string{"Cookie, origin"}, []string{"Cookie, origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"}},
		{[]string{"Cookie", "Accept , Origin "}, []string{"Cookie", "Accept , Origin "},
			[]string{"Cookie", "Accept , Origin ", "Access-Control-Request-Method", "Access-Control-Request-Headers"}},
		{[]string{"X-Origin"}, []string{"X-Origin", "Origin"}, []string{"X-Origin", "Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"}},
		{[]string{"*"}, []string{"*"}, []string{"*"}},
	} {
		for _, origin := range []string{"", listed, unlisted} {
			c := CORS{Origins: []string{listed}}
			before := http.Header{"Vary": test.before}
			if got := answer(t, c, asks(http.MethodGet, origin), before).Header().Values("Vary"); !slices.Equal(got, test.get) {
				t.Errorf("GET of %q after %q: %q", origin, test.before, got)
			}
			want := test.preflight
			if origin == "" {
				want = test.get
			}
			if got := answer(t, c, asks("preflight", origin), before).Header().Values("Vary"); !slices.Equal(got, want) {
				t.Errorf("preflight of %q after %q: %q", origin, test.before, got)
			}
		}
	}
}

// TestCORSDecidesAlone: what a more generous middleware allowed before does not count here.
func TestCORSDecidesAlone(t *testing.T) {
	before := http.Header{
		"Access-Control-Allow-Origin":      {"*"},
		"Access-Control-Allow-Credentials": {"true"},
		"Access-Control-Expose-Headers":    {"X-Request-Id, retry-after"},
	}
	c := CORS{Origins: []string{listed}}
	for origin, want := range map[string][]string{"": nil, listed: {listed}, unlisted: nil} {
		for _, method := range []string{http.MethodGet, "preflight"} {
			h := answer(t, c, asks(method, origin), before).Header()
			if got := h.Values("Access-Control-Allow-Origin"); !slices.Equal(got, want) {
				t.Errorf("%s of %q: allowed %q", method, origin, got)
			}
			equal(t, "credentials", h.Get("Access-Control-Allow-Credentials"), "")
		}
	}
	exposed := answer(t, c, asks(http.MethodGet, listed), before).Header().Values("Access-Control-Expose-Headers")
	if !slices.Equal(exposed, []string{"X-Request-Id, retry-after", "Last-Event-ID", "Heartbeat-Interval"}) {
		t.Errorf("exposed %q", exposed)
	}
}

func TestCORSHeaders(t *testing.T) {
	c := CORS{Origins: []string{listed}, Headers: []string{"X-Tenant", "traceparent"}}
	equal(t, "Allow-Headers", answer(t, c, asks("preflight", listed), nil).Header().Get("Access-Control-Allow-Headers"),
		"Last-Event-ID, Authorization, Cache-Control, Content-Type, Accept, X-Tenant, traceparent")
}

func TestCORSMaxAge(t *testing.T) {
	for set, want := range map[time.Duration]string{
		0: "600", -time.Hour: "600", time.Second: "1", time.Hour: "3600", 24 * time.Hour: "86400", 25 * time.Hour: "86400", 1<<63 - 1: "86400",
	} {
		c := CORS{Origins: []string{listed}, MaxAge: set}
		equal(t, set.String(), answer(t, c, asks("preflight", listed), nil).Header().Get("Access-Control-Max-Age"), want)
	}
}

// TestCORSHandlerCopies what the caller may change afterwards.
func TestCORSHandlerCopies(t *testing.T) {
	c := CORS{Origins: []string{listed}}
	handler := c.Handler(http.NotFoundHandler())
	c.Origins[0] = unlisted
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, asks(http.MethodGet, unlisted))
	equal(t, "allowed", w.Header().Get("Access-Control-Allow-Origin"), "")
}

func TestCORSLeavesTheCallersHeaders(t *testing.T) {
	backing := []string{"X-A", "X-B"}
	c := CORS{Origins: []string{listed}, Headers: backing[:1]}
	answer(t, c, asks("preflight", listed), nil)
	equal(t, "behind the caller's slice", backing[1], "X-B")
}

func TestCORSCheck(t *testing.T) {
	type wrong map[string]string // field: part of the reason
	origin := func(s string) CORS { return CORS{Origins: []string{s}, Credentials: s != "*"} }
	for name, test := range map[string]struct {
		cors CORS
		want wrong
	}{
		"zero":                {CORS{}, nil},
		"every":               {origin("*"), nil},
		"https":               {origin("https://app.example.com"), nil},
		"port":                {origin("https://app.example.com:8443"), nil},
		"other default port":  {origin("http://app.example.com:443"), nil},
		"localhost":           {origin("http://localhost:5173"), nil},
		"IPv4":                {origin("http://127.0.0.1:8080"), nil},
		"IPv6":                {origin("http://[::1]:8080"), nil},
		"IPv6 without a port": {origin("http://[2001:db8::1]"), nil},
		"app":                 {origin("capacitor://localhost"), nil},
		"extension":           {origin("chrome-extension://abcdefghijklmnop"), nil},
		"punycode":            {origin("https://xn--bcher-kva.example"), nil},
		"underscore":          {origin("https://a_b.example"), nil},
		"trailing dot":        {origin("https://example.com."), nil},
		"digits in a name":    {origin("https://4.example.c0"), nil},
		"several":             {CORS{Origins: []string{"https://a.example", "http://b.example"}, Credentials: true, Headers: []string{"X-A", "traceparent", "!#$%&'*+-.^_`|~09"}}, nil},

		"every, credentials": {CORS{Origins: []string{"*"}, Credentials: true}, wrong{"Credentials": "name the origins"}},
		"every and others":   {CORS{Origins: []string{"https://a.example", "*"}}, wrong{"Origins[1]": "only one"}},
		"every twice":        {CORS{Origins: []string{"*", "*"}}, wrong{"Origins[0]": "only one", "Origins[1]": "only one"}},

		"empty":                {origin(""), wrong{"Origins[0]": "form"}},
		"null":                 {origin("null"), wrong{"Origins[0]": "sandboxed"}},
		"no scheme":            {origin("app.example.com"), wrong{"Origins[0]": "form"}},
		"no slashes":           {origin("https:app.example.com"), wrong{"Origins[0]": "form"}},
		"only a scheme":        {origin("https://"), wrong{"Origins[0]": "no host"}},
		"file":                 {origin("file:///"), wrong{"Origins[0]": "path"}},
		"only a port":          {origin("https://:8443"), wrong{"Origins[0]": "no host"}},
		"trailing slash":       {origin("https://app.example.com/"), wrong{"Origins[0]": "slash"}},
		"path":                 {origin("https://app.example.com/a"), wrong{"Origins[0]": "path"}},
		"query":                {origin("https://app.example.com?a"), wrong{"Origins[0]": "more than"}},
		"fragment":             {origin("https://app.example.com#a"), wrong{"Origins[0]": "more than"}},
		"user":                 {origin("https://user:secret@app.example.com"), wrong{"Origins[0]": "user"}},
		"upper case scheme":    {origin("HTTPS://app.example.com"), wrong{"Origins[0]": "upper case"}},
		"upper case host":      {origin("https://App.example.com"), wrong{"Origins[0]": "upper case"}},
		"malformed scheme":     {origin("1https://app.example.com"), wrong{"Origins[0]": "scheme"}},
		"empty scheme":         {origin("://app.example.com"), wrong{"Origins[0]": "scheme"}},
		"space in scheme":      {origin(" https://app.example.com"), wrong{"Origins[0]": "scheme"}},
		"wildcard host":        {origin("https://*.example.com"), wrong{"Origins[0]": "wildcards"}},
		"umlaut":               {origin("https://bücher.example"), wrong{"Origins[0]": "ASCII"}},
		"space":                {origin("https://app.example.com "), wrong{"Origins[0]": "host"}},
		"line break":           {origin("https://app.example.com\r\nA: b"), wrong{"Origins[0]": "upper"}},
		"line break, lower":    {origin("https://app.example.com\r\na: b"), wrong{"Origins[0]": "host"}},
		"backslash":            {origin(`https://app.example.com\`), wrong{"Origins[0]": "host"}},
		"two in one":           {origin("https://a.example,https://b.example"), wrong{"Origins[0]": "more than"}},
		"empty label":          {origin("https://app..example"), wrong{"Origins[0]": "host"}},
		"default https port":   {origin("https://app.example.com:443"), wrong{"Origins[0]": "default port"}},
		"default http port":    {origin("http://app.example.com:80"), wrong{"Origins[0]": "default port"}},
		"empty port":           {origin("https://app.example.com:"), wrong{"Origins[0]": "port"}},
		"zero port":            {origin("https://app.example.com:0"), wrong{"Origins[0]": "port"}},
		"leading zero":         {origin("https://app.example.com:08443"), wrong{"Origins[0]": "port"}},
		"high port":            {origin("https://app.example.com:65536"), wrong{"Origins[0]": "port"}},
		"port of no digits":    {origin("https://app.example.com:https"), wrong{"Origins[0]": "port"}},
		"signed port":          {origin("https://app.example.com:+8443"), wrong{"Origins[0]": "port"}},
		"two ports":            {origin("https://app.example.com:1:2"), wrong{"Origins[0]": "host"}},
		"short IPv4":           {origin("http://127.1"), wrong{"Origins[0]": "canonical"}},
		"octal IPv4":           {origin("http://127.0.0.01"), wrong{"Origins[0]": "canonical"}},
		"hexadecimal IPv4":     {origin("http://127.0.0.0x1"), wrong{"Origins[0]": "canonical"}},
		"long IPv6":            {origin("http://[0:0:0:0:0:0:0:1]"), wrong{"Origins[0]": "canonical"}},
		"IPv6 with a zone":     {origin("http://[fe80::1%lan]"), wrong{"Origins[0]": "host"}},
		"IPv4-mapped":          {origin("http://[::ffff:127.0.0.1]"), wrong{"Origins[0]": "host"}},
		"IPv4 in brackets":     {origin("http://[127.0.0.1]"), wrong{"Origins[0]": "host"}},
		"no brackets":          {origin("http://::1"), wrong{"Origins[0]": "host"}},
		"half a bracket":       {origin("http://[::1"), wrong{"Origins[0]": "host"}},
		"half a bracket, port": {origin("http://[1::2:80"), wrong{"Origins[0]": "host"}},

		"header, empty":       {CORS{Headers: []string{"X-A", ""}}, wrong{"Headers[1]": "name of a header"}},
		"header, space":       {CORS{Headers: []string{"X A"}}, wrong{"Headers[0]": "name of a header"}},
		"header, two":         {CORS{Headers: []string{"X-A,X-B"}}, wrong{"Headers[0]": "name of a header"}},
		"header, colon":       {CORS{Headers: []string{"X-A:"}}, wrong{"Headers[0]": "name of a header"}},
		"header, line break":  {CORS{Headers: []string{"X-A\r\nX-B"}}, wrong{"Headers[0]": "name of a header"}},
		"header, Kelvin sign": {CORS{Headers: []string{"X-\u212A"}}, wrong{"Headers[0]": "name of a header"}},
		"header, not UTF-8":   {CORS{Headers: []string{"X-\xff"}}, wrong{"Headers[0]": "name of a header"}},
		"header, every":       {CORS{Headers: []string{"*"}}, wrong{"Headers[0]": "name the headers"}},

		"all at once": {CORS{Origins: []string{"https://a.example", "null", "*"}, Headers: []string{"", "X-A"}},
			wrong{"Origins[1]": "sandboxed", "Origins[2]": "only one", "Headers[0]": "name of a header"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.cors.Check()
			got := faults(t, err)
			for field, reason := range test.want {
				if !strings.Contains(got[field], reason) {
					t.Errorf("%s: got %q, want %q in it", field, got[field], reason)
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the value is shown: %v", err)
			}
		})
	}
}

// faults returns the reasons of a CORS' errors by field.
func faults(t *testing.T, err error) map[string]string {
	t.Helper()
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("not joined: %v", err)
	}
	reasons := make(map[string]string)
	for _, err := range joined.Unwrap() {
		var fault *CORSError
		if !errors.As(err, &fault) {
			t.Fatalf("no *CORSError: %v", err)
		}
		equal(t, "text", err.Error(), "feed: CORS."+fault.Field+" "+fault.Reason)
		reasons[fault.Field] = fault.Reason
	}
	return reasons
}
