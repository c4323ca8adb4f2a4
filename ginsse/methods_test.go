package ginsse_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

func send(r http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// TestHead holds that HEAD passes what GET passes, and begins nothing.
func TestHead(t *testing.T) {
	h := newHub(t)
	publish(t, h, "x", "1")
	limits := &feed.Limits{Max: 1}
	o := quiet
	o.Limits = limits
	guard := func(c *ginsse.Context[none]) error {
		switch c.Request().Header.Get("X-User") {
		case "":
			return feed.Unauthorized("Bearer", errors.New("secret"))
		case "ann":
			return c.Lease(h, "user/ann")
		}
		return ginsse.ErrForbidden
	}
	never := func(*ginsse.Context[none]) (any, error) { t.Error("the snapshot was loaded"); return nil, nil }
	r := gin.New()
	mount(t, r.Group("/api"),
		ginsse.SSE[none]("/feed").Options(o).Guard(guard).CORS(ginsse.CORS{Origins: []string{app}}).Topic(h, "x").Snapshot(never),
		ginsse.SSE[none]("/detached").Options(feed.Options{Logger: o.Logger, Limits: limits, Detach: true}).Guard(guard).Topic(h, "x"),
		ginsse.SSE[none]("/generator").Options(o).Guard(guard).Handle(func(*ginsse.Context[none]) seq {
			t.Error("the generator was started")
			return events()
		}))
	s := newServer(t, r)
	for _, path := range []string{"/feed", "/detached", "/generator"} {
		for user, want := range map[string]int{"": 401, "ann": 200, "bob": 403} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.URL+"/api"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-User", user)
			req.Header.Set("Origin", app)
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			typ := "application/json"
			if want == 200 {
				typ = "text/event-stream; charset=utf-8"
			}
			if resp.StatusCode != want || len(body) > 0 || resp.Header.Get("Content-Type") != typ {
				t.Errorf("%s of %q: %d, %q, %v", path, user, resp.StatusCode, body, resp.Header)
			}
			if got := resp.Header.Get("WWW-Authenticate"); (got == "Bearer") != (want == 401) {
				t.Errorf("%s of %q: WWW-Authenticate %q", path, user, got)
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); (got == app) != (path == "/feed") {
				t.Errorf("%s of %q: Access-Control-Allow-Origin %q", path, user, got)
			}
		}
	}
	if n := limits.Open() + h.Stats().Subscriptions; n != 0 {
		t.Errorf("%d streams and subscriptions", n)
	}
	if n := len(ginsse.Describe(r)); n != 3 {
		t.Errorf("%d routes are described", n)
	}
}

// TestMountsWhole holds that a route is there for all of its methods or for none, that what was
// there before goes on, and that the application's own HEAD is left alone.
func TestMountsWhole(t *testing.T) {
	h := newHub(t)
	own := func(c *gin.Context) { c.String(http.StatusTeapot, c.Request.Method) }
	crossOrigin := func() *ginsse.Route[struct{ ID string }] {
		return ginsse.SSE[struct{ ID string }]("/things/:id/events").Options(quiet).CORS(ginsse.CORS{Origins: []string{app}}).Topic(h, "x")
	}
	for name, tc := range map[string]struct {
		before func(gin.IRouter)
		fails  string // the method that the error names
		head   int
	}{
		"nothing":                 {func(gin.IRouter) {}, "", 200},
		"OPTIONS for all":         {func(r gin.IRouter) { r.OPTIONS("/*path", own) }, "OPTIONS", 404},
		"OPTIONS of its own":      {func(r gin.IRouter) { r.OPTIONS("/things/:id/events", own) }, "OPTIONS", 404},
		"OPTIONS of another name": {func(r gin.IRouter) { r.OPTIONS("/things/:thing", own) }, "OPTIONS", 404},
		"GET of its own":          {func(r gin.IRouter) { r.GET("/things/:id/events", own) }, "GET", 404},
		"GET for all":             {func(r gin.IRouter) { r.GET("/*path", own) }, "GET", 404},
		"GET of another name":     {func(r gin.IRouter) { r.GET("/things/:thing", own) }, "GET", 404},
		"HEAD of its own":         {func(r gin.IRouter) { r.HEAD("/things/:id/events", own) }, "", http.StatusTeapot},
		"HEAD for all":            {func(r gin.IRouter) { r.HEAD("/*path", own) }, "", http.StatusTeapot},
		"POST for all":            {func(r gin.IRouter) { r.POST("/*path", own) }, "", 200},
	} {
		for _, prefix := range []string{"", "/api"} {
			t.Run(name+" "+prefix, func(t *testing.T) {
				r := gin.New()
				var router gin.IRouter = r
				if prefix != "" {
					router = r.Group(prefix)
				}
				tc.before(router)
				err := ginsse.Mount(router, crossOrigin())
				if (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), ": gin: "+tc.fails+": ") {
					t.Errorf("error %v, want one of %q", err, tc.fails)
				}
				const path = "/things/7/events"
				if w := send(r, http.MethodHead, prefix+path); w.Code != tc.head {
					t.Errorf("HEAD: %d, want %d", w.Code, tc.head)
				}
				preflight := send(r, http.MethodOptions, prefix+path, "Origin", app, "Access-Control-Request-Method", "GET")
				if allowed := preflight.Header().Get("Access-Control-Allow-Origin"); (allowed == app) != (tc.fails == "") {
					t.Errorf("preflight: %d, allowed %q", preflight.Code, allowed)
				}
				if tc.fails == "GET" && preflight.Code != http.StatusNotFound {
					t.Errorf("OPTIONS of what is not mounted: %d", preflight.Code)
				}
				if n := len(ginsse.Describe(r)); (n == 1) != (tc.fails == "") {
					t.Errorf("%d routes are described", n)
				}
			})
		}
	}
}

// TestPostRoute holds that feed.Serve works in a route of the application's own for POST.
func TestPostRoute(t *testing.T) {
	h := newHub(t)
	start := publish(t, h, "x", "1")
	ended := make(chan feed.End, 1)
	r := gin.New()
	r.POST("/x", func(c *gin.Context) {
		var ask struct{ Topic string }
		if err := c.ShouldBindJSON(&ask); err != nil {
			t.Error(err)
		}
		o := feed.Options{Logger: quiet.Logger, Post: true, OnEnd: func(e feed.End) { ended <- e }}
		_ = feed.Serve(c.Writer, c.Request, feed.Of(h, ask.Topic), o)
	})
	s := newServer(t, r)
	resp, err := s.Client().Post(s.URL+"/x", "application/json", strings.NewReader(`{"topic":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	d := sse.NewDecoder(resp.Body)
	if e, err := d.Decode(); err != nil || e.Type != "checkpoint" || e.ID != start {
		t.Errorf("%+v, %v", e, err)
	}
	next, err := h.Publish(t.Context(), "x", hub.Message{Data: []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := d.Decode(); err != nil || e.ID != string(next) {
		t.Errorf("%+v, %v", e, err)
	}
	resp.Body.Close()
	if e := <-ended; !errors.Is(e.Cause, feed.ErrClientGone) {
		t.Errorf("ended by %v", e.Cause)
	}
}
