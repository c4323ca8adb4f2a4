package feed

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
)

func TestRefusals(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	finish(t, h, "t")
	secret := errors.New("secret")
	name := func(r *http.Request) (string, error) {
		switch r.URL.Path {
		case "/forbidden":
			return "", Status(http.StatusForbidden, secret)
		case "/bad-code":
			return "", Status(200, secret)
		case "/broken":
			return "", secret
		case "/no-topic":
			return "", hub.CheckTopic("")
		case "/reserved":
			return hub.ReservedPrefix + "x", nil
		}
		return "t", nil
	}
	byPath := func(r *http.Request) (Feed, error) {
		topic, err := name(r)
		return Of(h, topic), err
	}
	logger, log := logged()
	handler := HandlerFunc(byPath, Options{Logger: logger})
	for _, tc := range []struct {
		method, path, accept string
		code                 int
		allow                string
	}{
		{"GET", "/", "", 200, ""},
		{"HEAD", "/", "", 200, ""},
		{"HEAD", "/reserved", "", 404, ""},
		{"HEAD", "/", "application/json", 406, ""},
		{"POST", "/", "", 405, "GET, HEAD"},
		{"OPTIONS", "/", "", 405, "GET, HEAD"},
		{"GET", "/", "application/json", 406, ""},
		{"GET", "/forbidden", "text/event-stream", 403, ""},
		{"GET", "/bad-code", "", 500, ""},
		{"GET", "/broken", "", 500, ""},
		{"GET", "/no-topic", "", 404, ""},
		{"GET", "/reserved", "", 404, ""},
	} {
		r := httptest.NewRequest(tc.method, tc.path, nil)
		if tc.accept != "" {
			r.Header.Set("Accept", tc.accept)
		}
		w := record(handler, r)
		name := tc.method + " " + tc.path
		equal(t, name+": status", w.Code, tc.code)
		equal(t, name+": allow", w.Header().Get("Allow"), tc.allow)
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: the client was told: %q", name, w.Body)
		}
		want := streamHeader
		if tc.code != 200 {
			want = "application/json"
			equal(t, name+": text", w.Body.String(), `{"error":"`+strings.ToLower(http.StatusText(tc.code))+`"}`)
			equal(t, name+": caches", w.Header().Get("Cache-Control"), "no-store")
		}
		equal(t, name+": type", w.Header().Get("Content-Type"), want)
		if tc.method == "HEAD" && tc.code == 200 {
			equal(t, "body of HEAD", w.Body.String(), "")
		}
	}
	if n := strings.Count(log(), "secret"); n != 2 {
		t.Errorf("the errors behind status 500 were logged %d times, want 2:\n%s", n, log())
	}
}

func TestServeErrors(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	o := Options{Logger: quiet(), OnEnd: func(End) { t.Error("OnEnd was called without a stream") }}
	serve := func(topic string, o Options, r *http.Request) error {
		return Serve(httptest.NewRecorder(), r, Of(h, topic), o)
	}
	isCause(t, serve("", o, get("/")), hub.ErrTopic)
	isCause(t, serve("t", o, httptest.NewRequest(http.MethodPost, "/", nil)), ErrMethod)
	isCause(t, serve("t", o, get("/", "Accept", "image/png")), ErrAccept)
	o.Start = hub.After("")
	isCause(t, serve("t", o, get("/")), hub.ErrPosition)
}

// TestTimeoutHandler: a response that cannot be flushed is refused before a stream begins, with a
// line that says why.
func TestTimeoutHandler(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	logger, log := logged()
	handler := http.TimeoutHandler(Handler(Of(h, "t"), Options{Logger: logger}), time.Minute, "")
	w := record(handler, get("/", "Accept", streamType))
	equal(t, "status", w.Code, 500)
	equal(t, "type", w.Header().Get("Content-Type"), "application/json")
	if !strings.Contains(log(), "level=ERROR") || !strings.Contains(log(), "http.TimeoutHandler") {
		t.Errorf("log: %q", log())
	}
}

// downBackend cannot be reached.
type downBackend struct {
	hub.Backend
	hang bool
	err  error
}

func (b *downBackend) Follow(ctx context.Context, _ string, _ hub.Sink) (hub.ID, func(), error) {
	if b.hang {
		<-ctx.Done()
		return "", nil, ctx.Err()
	}
	return "", nil, b.err
}

// TestBackendDown: an EventSource gets a stream that ends, others a status, after ConnectTimeout
// at most.
func TestBackendDown(t *testing.T) {
	down := errors.New("dial 10.0.0.1:6379: refused")
	for _, hang := range []bool{false, true} {
		for _, accept := range []string{"text/event-stream", "*/*", ""} {
			t.Run(accept+" hang="+strconv.FormatBool(hang), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHub(t, &downBackend{memory.New(memory.Options{}), hang, down}, hub.Options{})
					r := get("/")
					if accept != "" {
						r.Header.Set("Accept", accept)
					}
					begin := time.Now()
					w := httptest.NewRecorder()
					err := Serve(w, r, Of(h, "t"), Options{Logger: quiet(), OnEnd: func(End) { t.Error("OnEnd was called without a stream") }})
					isCause(t, err, ErrUnavailable)
					if !hang {
						isCause(t, err, down)
					}
					want := time.Duration(0)
					if hang {
						want = 5 * time.Second
					}
					equal(t, "after", time.Since(begin), want)
					checkLater(t, w, accept == streamType)
				})
			})
		}
	}
}

// checkLater checks an answer that tells the client to come back.
func checkLater(t *testing.T, w *httptest.ResponseRecorder, eventSource bool) {
	t.Helper()
	if eventSource {
		equal(t, "status", w.Code, 200)
		equal(t, "type", w.Header().Get("Content-Type"), streamHeader)
		equal(t, "body", retryLine.ReplaceAllString(w.Body.String(), "retry: N\n"), prelude)
		return
	}
	equal(t, "status", w.Code, 503)
	if s, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || s < 2 || s > 3 {
		t.Errorf("Retry-After: %q", w.Header().Get("Retry-After"))
	}
	if strings.Contains(w.Body.String(), "10.0.0.1") {
		t.Errorf("the client was told: %q", w.Body)
	}
}

func TestHubClosingAtConnect(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, accept := range []string{streamType, "*/*"} {
		w := httptest.NewRecorder()
		isCause(t, Serve(w, get("/", "Accept", accept), Of(h, "t"), Options{Logger: quiet()}), ErrShutdown)
		checkLater(t, w, accept == streamType)
	}
}

// TestRequestOverAtConnect: the request's context is over before there is a subscription. The
// client may still be there: then it must be told to come back.
func TestRequestOverAtConnect(t *testing.T) {
	for _, cause := range []error{nil, ErrShutdown} {
		h := newHub(t, &downBackend{memory.New(memory.Options{}), true, nil}, hub.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		w := httptest.NewRecorder()
		err := Serve(w, get("/", "Accept", streamType).WithContext(ctx), Of(h, "t"), Options{Logger: quiet()})
		if cause == nil {
			cause = ErrClientGone
		}
		isCause(t, err, cause)
		checkLater(t, w, true)
	}
}

// TestServeLetsGo: the subscription is closed when Serve returns, whatever the answer was, so
// that Hub.Shutdown has nobody to wait for.
func TestServeLetsGo(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	last := finish(t, h, "t")
	for _, cursor := range []string{"", "unknown", last} {
		r := get("/")
		if cursor != "" {
			r.Header.Set("Last-Event-ID", cursor)
		}
		record(Handler(Of(h, "t"), Options{Logger: quiet()}), r)
		equal(t, "subscriptions after cursor "+cursor, h.Stats().Subscriptions, 0)
	}
}

func TestStatusText(t *testing.T) {
	inner := errors.New("inner")
	err := Status(http.StatusNotFound, inner)
	isCause(t, err, inner)
	equal(t, "text", err.Error(), "feed: Not Found: inner")
	equal(t, "text without an error", Status(http.StatusNotFound, nil).Error(), "feed: Not Found")
}

func TestOptionsDefaults(t *testing.T) {
	o := Options{Heartbeat: -1, Retry: -1, WriteTimeout: -1, MaxLifetime: -1, ConnectTimeout: -1}
	o.fill()
	equal(t, "heartbeat", o.Heartbeat, 15*time.Second)
	equal(t, "retry", o.Retry, 2*time.Second)
	equal(t, "write timeout", o.WriteTimeout, 10*time.Second)
	equal(t, "lifetime", o.MaxLifetime, time.Hour)
	equal(t, "connect timeout", o.ConnectTimeout, 5*time.Second)
	equal(t, "logger", o.Logger, slog.Default())
	least, most := time.Hour, time.Duration(0)
	shortest, longest := 2*time.Hour, time.Duration(0)
	for range 2000 {
		c := o.config()
		least, most = min(least, c.Retry), max(most, c.Retry)
		if c.DrainRetry < 2*time.Second || c.DrainRetry > 8*time.Second || c.EndRetry < time.Second || c.EndRetry > 2*time.Second {
			t.Fatalf("back after %v, or %v", c.DrainRetry, c.EndRetry)
		}
		shortest, longest = min(shortest, c.Lifetime), max(longest, c.Lifetime)
	}
	if least < 2*time.Second || least > 2100*time.Millisecond || most > 3*time.Second || most < 2900*time.Millisecond {
		t.Errorf("reconnection times from %v to %v", least, most)
	}
	if shortest < 48*time.Minute || shortest > 50*time.Minute || longest > 72*time.Minute || longest < 70*time.Minute {
		t.Errorf("lifetimes from %v to %v", shortest, longest)
	}
	still := Options{NoRotation: true}
	still.fill()
	equal(t, "no rotation", still.config().Lifetime, 0)
}
