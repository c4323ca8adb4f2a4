package ginsse_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

const (
	app     = "https://app.example.com"
	another = "https://evil.example.net"
)

// preflight is what a browser asks before a fetch with a cursor.
func preflight(handler http.Handler, target, origin string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodOptions, target, nil)
	addHeaders(r, []string{"Origin", origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "last-event-id"})
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// TestCORS holds that the pages of a listed origin may ask and read, a stream and a document, and
// others may not, and that nothing of the route runs for a preflight.
func TestCORS(t *testing.T) {
	h := newHub(t)
	runs := 0
	o := quiet
	r := gin.New()
	cors := ginsse.CORS{Origins: []string{app}, Credentials: true, Headers: []string{"X-Tenant"}}
	mount(t, r.Group("/api"), ginsse.SSE[ticketParams]("/:ticket/events").Options(o).CORS(cors).
		Use(func(*gin.Context) { runs++ }).
		Topic(h, "{ticket}").Snapshot(func(*ginsse.Context[ticketParams]) (any, error) { return "state", nil }))
	cors.Origins[0] = another // what the caller does with its list

	w := preflight(r, "/api/7/events", app)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": app, "Access-Control-Allow-Credentials": "true", "Access-Control-Allow-Methods": "GET, HEAD", "Access-Control-Max-Age": "600",
		"Access-Control-Allow-Headers": "Last-Event-ID, Authorization, Cache-Control, Content-Type, Accept, X-Tenant",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("preflight: %s: %q, want %q", name, got, want)
		}
	}
	if w.Code != http.StatusNoContent || w.Body.Len() > 0 || runs > 0 {
		t.Errorf("preflight: %d %q, the route's middleware ran %d times", w.Code, w.Body, runs)
	}
	if w = preflight(r, "/api/7/events", another); w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight of another origin: %d %v", w.Code, w.Header())
	}
	s := newServer(t, r)
	for _, accept := range []string{"text/event-stream", "application/json"} {
		for origin, want := range map[string]string{app: app, another: "", "": ""} {
			st := open(t, s.Client(), s.URL+"/api/7/events", "Accept", accept, "Origin", origin)
			if got := st.Header.Get("Access-Control-Allow-Origin"); st.StatusCode != http.StatusOK || got != want {
				t.Errorf("%s, %q: %d, Access-Control-Allow-Origin %q", accept, origin, st.StatusCode, got)
			}
			if vary := strings.Join(st.Header.Values("Vary"), ", "); vary != "Origin, Accept" {
				t.Errorf("%s, %q: Vary %q", accept, origin, vary)
			}
			if exposed := strings.Join(st.Header.Values("Access-Control-Expose-Headers"), ", "); (exposed == "Last-Event-ID, Retry-After, Heartbeat-Interval") != (want != "") {
				t.Errorf("%s, %q: Access-Control-Expose-Headers %q", accept, origin, exposed)
			}
			st.leave()
		}
	}
}

// TestCORSOfRefusals holds that pages can read why they were refused, whatever of the route
// refused them.
func TestCORSOfRefusals(t *testing.T) {
	h := newHub(t)
	limits := &feed.Limits{PerKey: 1, Key: func(*http.Request) string { return "" }}
	drained := &feed.Drain{}
	drained.Begin()
	o := quiet
	o.Limits = limits
	draining := quiet
	draining.Drain = drained
	route := func(path string) *ginsse.Route[none] {
		return ginsse.SSE[none](path).Options(o).CORS(ginsse.CORS{Origins: []string{app}})
	}
	refuse := func(err error) func(*ginsse.Context[none]) error {
		return func(*ginsse.Context[none]) error { return err }
	}
	r := engine(t,
		route("/guard").Guard(refuse(ginsse.ErrForbidden)).Topic(h, "x"),
		route("/guard/of/generator").Guard(refuse(errors.New(canary))).Handle(func(*ginsse.Context[none]) seq { return events() }),
		route("/use").Use(func(c *gin.Context) { c.AbortWithStatusJSON(401, gin.H{"error": "unauthorized"}) }).Topic(h, "x"),
		route("/topics").TopicsFunc(h, func(*ginsse.Context[none]) ([]string, error) { return nil, ginsse.ErrNotFound }),
		route("/snapshot").Topic(h, "x").Snapshot(func(*ginsse.Context[none]) (any, error) { return nil, ginsse.ErrNotFound }),
		route("/hello").Topic(h, "x").Hello(func(*ginsse.Context[none]) (sse.Event, error) { return sse.Event{}, errors.New(canary) }),
		route("/draining").Topic(h, "x").Options(draining),
		ginsse.SSE[ticketParams]("/parameter/:ticket").CORS(ginsse.CORS{Origins: []string{app}}).Topic(h, "x"))
	for target, want := range map[string]int{
		"/guard": 403, "/guard/of/generator": 500, "/use": 401, "/topics": 404, "/snapshot": 404, "/hello": 503, "/draining": 503, "/parameter/x": 400,
	} {
		w := get(r, target, "Origin", app)
		if w.Code != want || w.Header().Get("Access-Control-Allow-Origin") != app || !strings.HasPrefix(w.Body.String(), `{"error":`) {
			t.Errorf("%s: %d %v %s", target, w.Code, w.Header(), w.Body)
		}
		if w = get(r, target, "Origin", another); w.Code != want || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s, of another origin: %d %v", target, w.Code, w.Header())
		}
		if w = preflight(r, target, app); w.Code != http.StatusNoContent {
			t.Errorf("%s: preflight %d", target, w.Code)
		}
	}
	if w := get(r, "/guard", "Origin", app, "Accept", "text/html"); w.Code != 403 {
		t.Errorf("a guard is asked before the Accept header: %d", w.Code)
	}
}

// TestCORSBehindGroup holds that middleware of a group comes before: what it refuses has no
// headers, preflights included, and what it sets is replaced.
func TestCORSBehindGroup(t *testing.T) {
	h := newHub(t)
	route := func() *ginsse.Route[none] {
		return ginsse.SSE[none]("/x").Options(quiet).CORS(ginsse.CORS{Origins: []string{app}}).Topic(h, "x").Guard(func(*ginsse.Context[none]) error { return ginsse.ErrNotFound })
	}
	r := gin.New()
	mount(t, r.Group("/strict", func(c *gin.Context) {
		if c.GetHeader("Authorization") == "" {
			c.AbortWithStatus(http.StatusUnauthorized)
		}
	}), route())
	mount(t, r.Group("/lenient", func(c *gin.Context) { c.Header("Access-Control-Allow-Origin", "*") }), route())
	for _, w := range []*httptest.ResponseRecorder{preflight(r, "/strict/x", app), get(r, "/strict/x", "Origin", app)} {
		if w.Code != http.StatusUnauthorized || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("strict: %d %v", w.Code, w.Header())
		}
	}
	if w := get(r, "/strict/x", "Origin", app, "Authorization", "x"); w.Code != 404 || w.Header().Get("Access-Control-Allow-Origin") != app {
		t.Errorf("strict, with credentials: %d %v", w.Code, w.Header())
	}
	for origin, want := range map[string]string{app: app, another: ""} {
		if w := get(r, "/lenient/x", "Origin", origin); w.Header().Get("Access-Control-Allow-Origin") != want {
			t.Errorf("lenient, %s: %v", origin, w.Header())
		}
	}
}

// TestCORSMethods holds what the other methods of a route with CORS are: OPTIONS of no browser is
// 204 with what there is, and HEAD is as GET.
func TestCORSMethods(t *testing.T) {
	h := newHub(t)
	r := engine(t, ginsse.SSE[none]("/x").Options(quiet).CORS(ginsse.CORS{Origins: []string{app}}).Topic(h, "x"))
	for method, want := range map[string]int{http.MethodOptions: 204, http.MethodHead: 200, http.MethodPost: 404} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(method, "/x", nil))
		if w.Code != want || method == http.MethodOptions && w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: %d %q, want %d", method, w.Code, w.Body, want)
		}
	}
	if n := len(ginsse.Describe(r)); n != 1 {
		t.Errorf("%d routes are described, OPTIONS is none of them", n)
	}
	taken := gin.New()
	taken.OPTIONS("/x", func(*gin.Context) {})
	err := ginsse.Mount(taken, ginsse.SSE[none]("/x").CORS(ginsse.CORS{}).Topic(h, "x"))
	if err == nil || !strings.HasPrefix(err.Error(), "ginsse: route GET /x: gin: ") {
		t.Errorf("where OPTIONS is taken: %v", err)
	}
}
