package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/memory"
	_ "github.com/headrace/headrace/backends/redisstream/embedded"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

// endsPage follows the feed that its URL names, and does nothing about errors: what comes after
// them is the browser's doing.
const endsPage = `<!doctype html><meta charset="utf-8"><title>Ends</title><script>
const options = new URLSearchParams(location.search);
const seen = { opens: 0, places: 0, messages: [], closes: 0, states: [] };
const source = new EventSource(options.get("feed"), { withCredentials: options.has("credentials") });
source.onopen = () => { seen.opens++; };
source.onerror = () => { seen.states.push(source.readyState); };
source.onmessage = (event) => { seen.messages.push(event.data); };
source.addEventListener("checkpoint", () => { seen.places++; });
source.addEventListener("close", (event) => { seen.closes++; seen.end = event.lastEventId; });
</script>`

func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(endsPage))
}

// tab is one page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// browse starts a browser and returns a function that opens the page of a server in a tab, for a
// feed.
func browse(t *testing.T) func(t *testing.T, page *httptest.Server, feed string, options ...string) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Need(t, "chromium")),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("no-sandbox", true), // it refuses to start as root otherwise, and it sees nothing here but these servers
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-gpu", true),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	browser, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(browser); err != nil {
			t.Logf("closing the browser: %v", err)
		}
		cancel()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, page *httptest.Server, feed string, options ...string) *tab {
		t.Helper()
		ctx, cancel := chromedp.NewContext(browser)
		// Before a deadline is set: a tab lives as long as the context it was opened with.
		if err := chromedp.Do(ctx); err != nil {
			t.Fatal(err)
		}
		exceptions := chromedp.Events(ctx, runtime.ExceptionThrown)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e, err := range exceptions {
				if err != nil {
					return
				}
				t.Errorf("exception in the page: %s, line %d", e.ExceptionDetails.Text, e.ExceptionDetails.LineNumber)
			}
		}()
		t.Cleanup(func() {
			_ = chromedp.Cancel(ctx)
			<-done
			cancel()
		})
		query := url.Values{"feed": {feed}}
		for _, option := range options {
			query.Set(option, "")
		}
		b := &tab{t, ctx}
		b.do(chromedp.Navigate(page.URL + "/page?" + query.Encode()))
		return b
	}
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// until waits for an expression to become true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(10*time.Millisecond))); err != nil {
		b.t.Fatalf("waiting for %s: %v; the page has %s", expression, err, b.seen())
	}
}

func (b *tab) seen() string { return evaluate[string](b, `JSON.stringify(seen) + source.readyState`) }

func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// hasAll waits for the messages 0 to n-1, which must have come once each and in order.
func (b *tab) hasAll(n int) {
	b.t.Helper()
	b.until(fmt.Sprintf(`seen.messages.length >= %d`, n))
	want := ""
	for i := range n {
		want += fmt.Sprintf("news %d,", i)
	}
	if got := evaluate[string](b, `seen.messages.map((data) => data + ",").join("")`); got != want {
		b.t.Errorf("the page has %q, want %q", got, want)
	}
}

// stays fails unless the browser tried again after each error but the last one, and gave up then if
// it was to.
func (b *tab) stays(closed bool) {
	b.t.Helper()
	states := evaluate[[]int](b, `seen.states`)
	for i, state := range states {
		want := 0 // CONNECTING
		if closed && i == len(states)-1 {
			want = 2 // CLOSED
		}
		if state != want {
			b.t.Errorf("at error %d of %d readyState was %d, want %d", i+1, len(states), state, want)
		}
	}
}

const (
	isOpen   = `source.readyState === EventSource.OPEN`
	isClosed = `source.readyState === EventSource.CLOSED`
)

// site is a server with the page and one feed, /news.
type site struct {
	hub     *hub.Hub
	server  *httptest.Server
	refused atomic.Int64 // by the guard
}

// newSite mounts the feed with a guard, options and what else.
func newSite(t *testing.T, h *hub.Hub, o ginsse.Options, guard func(*ginsse.Context[struct{}]) error, cors ginsse.CORS) *site {
	t.Helper()
	s := &site{hub: h}
	o.Logger, o.Heartbeat = quiet, time.Hour
	if o.Retry == 0 {
		o.Retry = 20 * time.Millisecond
	}
	route := ginsse.SSE[struct{}]("/news").Options(o).CORS(cors).Topic(h, "news").Guard(func(c *ginsse.Context[struct{}]) error {
		err := guard(c)
		if err != nil {
			s.refused.Add(1)
		}
		return err
	})
	r := gin.New()
	r.GET("/page", gin.WrapF(servePage))
	if err := ginsse.Mount(r, route); err != nil {
		t.Fatal(err)
	}
	s.server = newServer(t, r)
	return s
}

// endsWith waits for the end of a stream.
func endsWith(t *testing.T, ends <-chan error, want error) {
	t.Helper()
	select {
	case cause := <-ends:
		if !errors.Is(cause, want) {
			t.Errorf("the stream ended with %v, want %v", cause, want)
		}
	case <-time.After(deadline):
		t.Fatalf("the stream did not end with %v", want)
	}
}

func everybody(*ginsse.Context[struct{}]) error { return nil }

// TestBrowserEnds: what Chromium's EventSource makes of each way in which a stream ends, or is
// refused.
func TestBrowserEnds(t *testing.T) {
	testenv.Long(t)
	visit := browse(t)
	t.Run("expiry", func(t *testing.T) { testExpiry(t, visit) })
	t.Run("revocation", func(t *testing.T) { testRevocation(t, visit) })
	t.Run("finish", func(t *testing.T) { testFinish(t, visit) })
	t.Run("limit", func(t *testing.T) { testLimit(t, visit) })
	t.Run("other origins", func(t *testing.T) { testOrigins(t, visit) })
}

type visitFunc = func(t *testing.T, page *httptest.Server, feed string, options ...string) *tab

// testExpiry: the browser comes back by itself when the right to the stream expires, and gives up
// when the guard refuses it then.
func testExpiry(t *testing.T, visit visitFunc) {
	var banned atomic.Bool
	h := newHub(t, memory.Options{})
	ends := make(chan error, 100)
	s := newSite(t, h, ginsse.Options{OnEnd: func(e feed.End) { ends <- e.Cause }}, func(c *ginsse.Context[struct{}]) error {
		if banned.Load() {
			return ginsse.ErrForbidden
		}
		c.ExpireAt(time.Now().Add(time.Second))
		return nil
	}, ginsse.CORS{})
	b := visit(t, s.server, "/news")
	b.until(isOpen)
	send(t, h, "news", "news", 0)
	b.until(`seen.messages.length === 1`)
	endsWith(t, ends, feed.ErrExpired)
	send(t, h, "news", "news", 1) // while the browser is away
	b.until(`seen.opens >= 2 && ` + isOpen)
	send(t, h, "news", "news", 2)
	b.hasAll(3)
	b.stays(false)

	banned.Store(true)
	b.until(isClosed)
	b.stays(true)
	if n := s.refused.Load(); n != 1 {
		t.Errorf("the guard refused %d times, want once: 403 is the end for a browser", n)
	}
}

// testRevocation: a revocation at one instance ends the stream at another one, over a backend that
// they share.
func testRevocation(t *testing.T, visit visitFunc) {
	var banned atomic.Bool
	var sites [2]*site
	ends := make(chan error, 100)
	for i := range sites {
		backend, err := backends.Open(t.Context(), "miniredis://browser-ends")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = backend.Close() })
		h := newHubOver(t, backend, hub.Options{})
		sites[i] = newSite(t, h, ginsse.Options{OnEnd: func(e feed.End) { ends <- e.Cause }}, func(c *ginsse.Context[struct{}]) error {
			if err := c.Lease(h, "user/ada"); err != nil {
				return err
			}
			if banned.Load() {
				return ginsse.ErrForbidden
			}
			return nil
		}, ginsse.CORS{})
	}
	here, there := sites[0], sites[1]
	revoke := func() {
		t.Helper()
		if err := there.hub.Revoke(t.Context(), "user/ada"); err != nil {
			t.Fatal(err)
		}
		endsWith(t, ends, feed.ErrRevoked)
	}
	b := visit(t, here.server, "/news")
	b.until(isOpen)
	send(t, there.hub, "news", "news", 0)
	b.until(`seen.messages.length === 1`)
	if err := there.hub.Revoke(t.Context(), "user/grace"); err != nil { // somebody else
		t.Fatal(err)
	}
	send(t, there.hub, "news", "news", 1)
	b.until(`seen.messages.length === 2`)
	if n := evaluate[int](b, `seen.opens`); n != 1 {
		t.Errorf("%d connections after the revocation of somebody else, want one", n)
	}

	revoke()
	send(t, there.hub, "news", "news", 2) // while the browser is away
	b.until(`seen.opens === 2 && ` + isOpen)
	send(t, here.hub, "news", "news", 3)
	b.hasAll(4)
	b.stays(false)

	banned.Store(true)
	revoke()
	b.until(isClosed)
	b.stays(true)
	if n := here.refused.Load(); n != 1 {
		t.Errorf("the guard refused %d times, want once", n)
	}
}

// testFinish: the page does nothing about the event close. The browser waits for as long as it was
// asked to before it comes back, and stops at the 204 that it gets then: here at once, with the
// place that it would come back with.
func testFinish(t *testing.T, visit visitFunc) {
	h := newHub(t, memory.Options{})
	s := newSite(t, h, ginsse.Options{}, everybody, ginsse.CORS{})
	b := visit(t, s.server, "/news")
	b.until(isOpen)
	send(t, h, "news", "news", 0)
	if _, err := h.Finish(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	b.until(`seen.states.length === 1`)
	b.hasAll(1)
	b.stays(false)
	if got, want := evaluate[[]int](b, `[seen.opens, seen.closes]`), [2]int{1, 1}; len(got) != 2 || [2]int(got) != want {
		t.Errorf("opens and close events: %v, want %v", got, want)
	}

	back := visit(t, s.server, "/news?lastEventId="+url.QueryEscape(evaluate[string](b, `seen.end`)))
	back.until(isClosed)
	back.stays(true)
	if n := evaluate[int](back, `seen.opens`); n != 0 {
		t.Errorf("a browser that came back opened %d streams", n)
	}
}

// testLimit: a second tab is kept waiting, not turned away, and gets in when the first one leaves.
func testLimit(t *testing.T, visit visitFunc) {
	h := newHub(t, memory.Options{})
	limits := &feed.Limits{PerKey: 1, Retry: 20 * time.Millisecond}
	s := newSite(t, h, ginsse.Options{Limits: limits}, everybody, ginsse.CORS{})
	one := visit(t, s.server, "/news")
	one.until(`seen.places === 1`)
	two := visit(t, s.server, "/news")
	two.until(`seen.states.length >= 5`)
	two.stays(false)
	send(t, h, "news", "news", 0)
	one.until(`seen.messages.length === 1`)
	two.until(fmt.Sprintf(`seen.states.length >= %d`, evaluate[int](two, `seen.states.length`)+2))
	if n := evaluate[int](two, `seen.messages.length + seen.places`); n > 0 {
		t.Errorf("the tab that was refused has got %d events", n)
	}
	if n := limits.Open(); n != 1 {
		t.Errorf("%d streams are open, want one", n)
	}
	one.do(chromedp.Evaluate[chromedp.Void](`source.close()`))
	two.until(`seen.places === 1 && ` + isOpen)
	send(t, h, "news", "news", 1)
	two.until(`seen.messages.join() === "news 1"`)
	two.stays(false)
	one.stays(false)
}

// testOrigins: a page of a listed origin reads a feed that asks for a cookie, and one of an origin
// that is not listed does not.
func testOrigins(t *testing.T, visit visitFunc) {
	pages := func() *httptest.Server {
		return newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Cookies do not know ports: the feed's server gets it too.
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "ada", HttpOnly: true, SameSite: http.SameSiteLaxMode})
			servePage(w, r)
		}))
	}
	listed, unlisted := pages(), pages()
	h := newHub(t, memory.Options{})
	var admitted atomic.Int64
	guard := func(c *ginsse.Context[struct{}]) error {
		if session, err := c.Request().Cookie("session"); err != nil || session.Value != "ada" {
			return ginsse.ErrUnauthorized
		}
		admitted.Add(1)
		return nil
	}
	// A short life, so that the browser comes back with a cursor.
	options := ginsse.Options{MaxLifetime: 500 * time.Millisecond}
	s := newSite(t, h, options, guard, ginsse.CORS{Origins: []string{listed.URL}, Credentials: true})
	feed := s.server.URL + "/news"

	b := visit(t, listed, feed, "credentials")
	b.until(isOpen)
	send(t, h, "news", "news", 0)
	b.until(`seen.opens >= 2`)
	send(t, h, "news", "news", 1)
	b.hasAll(2)
	b.stays(false)

	before := s.refused.Load()
	b = visit(t, listed, feed) // without the cookie
	b.until(isClosed)
	if n := s.refused.Load() - before; n != 1 {
		t.Errorf("the guard refused %d times, want once: without credentials the browser sends no cookie", n)
	}

	b = visit(t, unlisted, feed, "credentials")
	b.until(isClosed)
	b.stays(true)
	if n := evaluate[int](b, `seen.opens + seen.places + seen.messages.length`); n > 0 {
		t.Errorf("a page of an origin that is not listed has got %d events", n)
	}
	if admitted.Load() < 3 {
		t.Errorf("%d requests reached the guard with the cookie: the last page's was to be among them", admitted.Load())
	}
}
