package tabs

import (
	"bytes"
	_ "embed" // for the page
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/js"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is how long a test waits for what must happen. It only matters when a test fails.
const patience = 2 * time.Minute

// second is what the module takes for a second here, so that stalls and back-offs are short.
const second = 200 * time.Millisecond

//go:embed page.html
var pageHTML []byte

// stream is a response of the feed.
type stream struct {
	tab     string // the page that has asked for it
	stalled bool   // it is silent from now on
}

// site is a server with the page, the module and a feed of numbers. The feed is made here, because
// it must stall, and send heartbeats more often than any feed does.
type site struct {
	t   testing.TB
	url string

	mu       sync.Mutex
	changed  chan struct{} // closed when anything below changes
	newest   int
	finished bool
	refuse   []int // the statuses of the next requests
	streams  map[*stream]bool
	most     int // so many streams at a time
	requests int
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, changed: make(chan struct{}), streams: make(map[*stream]bool)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /feed", s.feed)
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(pageHTML)
	})
	module := fast(t)
	mux.HandleFunc("GET /js/headrace.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(module)
	})
	server := httptest.NewServer(mux)
	s.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// fast returns the module with a shorter second.
func fast(t testing.TB) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	js.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/headrace.js", nil))
	const slow = "const second = 1000;"
	if n := bytes.Count(w.Body.Bytes(), []byte(slow)); n != 1 {
		t.Fatalf("the module has %q %d times", slow, n)
	}
	return bytes.Replace(w.Body.Bytes(), []byte(slow), fmt.Appendf(nil, "const second = %d;", second.Milliseconds()), 1)
}

// change makes a change and wakes those who wait.
func (s *site) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *site) feed(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	stated := r.Header.Get("Last-Event-ID")
	if stated == "" {
		stated = query.Get("lastEventId")
	}
	at, err := strconv.Atoi(stated)
	from, _ := url.Parse(r.Referer())
	me := &stream{tab: from.Query().Get("tab")}
	status := http.StatusOK
	fresh := false
	s.change(func() {
		s.requests++
		switch {
		case len(s.refuse) > 0:
			status, s.refuse = s.refuse[0], s.refuse[1:]
			return
		case s.finished && err == nil && at == s.newest:
			status = http.StatusNoContent
			return
		case err != nil:
			at, fresh = s.newest, true
		}
		s.streams[me] = true
		s.most = max(s.most, len(s.streams))
	})
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	defer s.change(func() { delete(s.streams, me) })
	every, _ := strconv.ParseFloat(query.Get("heartbeat"), 64)
	beat := time.NewTicker(time.Duration(every * float64(second)))
	defer beat.Stop()
	const heartbeat = "event: heartbeat\ndata: {}\n\n"
	w.Header().Set("Content-Type", "text/event-stream")
	text := "retry: 20\n\n"
	if fresh {
		text += fmt.Sprintf("event: checkpoint\nid: %d\ndata:\n\n", at)
	}
	text += heartbeat
	for {
		if _, err := fmt.Fprint(w, text); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		text = ""
		for text == "" {
			s.mu.Lock()
			newest, finished, stalled, changed := s.newest, s.finished, me.stalled, s.changed
			s.mu.Unlock()
			if stalled {
				<-r.Context().Done()
				return
			}
			for ; at < newest; at++ {
				kind := ""
				if (at+1)%2 == 1 {
					kind = "event: odd\n"
				}
				text += fmt.Sprintf("%sid: %d\ndata: %d\n\n", kind, at+1, at+1)
			}
			if finished {
				_, _ = fmt.Fprintf(w, "%sretry: 60000\nevent: close\nid: %d\ndata:\n\n", text, at)
				return
			}
			if text != "" {
				break
			}
			select {
			case <-changed:
			case <-beat.C:
				text = heartbeat
			case <-r.Context().Done():
				return
			}
		}
	}
}

// publish publishes a number each few milliseconds until it is stopped.
func (s *site) publish() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				s.change(func() { s.newest++ })
			}
		}
	})
	stop = sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	s.t.Cleanup(stop)
	return stop
}

// wait waits until a condition, which is asked under the lock, holds.
func (s *site) wait(what string, condition func() bool) {
	s.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		s.mu.Lock()
		done, changed := condition(), s.changed
		state := fmt.Sprintf("%d requests, streams of the tabs %q", s.requests, s.holders())
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			s.t.Fatalf("waited in vain until %s: %s", what, state)
		}
	}
}

// holders are the tabs that have streams. The lock must be held.
func (s *site) holders() []string {
	var tabs []string
	for c := range s.streams {
		tabs = append(tabs, c.tab)
	}
	slices.Sort(tabs)
	return tabs
}

// leader waits until there is one stream, and returns the tab that has it.
func (s *site) leader() (tab string) {
	s.t.Helper()
	s.wait("there was one stream", func() bool {
		if len(s.streams) != 1 {
			return false
		}
		tab = s.holders()[0]
		return true
	})
	return tab
}

// tab is a page in some browser.
type tab interface {
	// eval returns the JSON of an expression.
	eval(expression string) (json.RawMessage, error)
	// visit has it show another page.
	visit(url string) error
	// close closes the page.
	close() error
}

// crowd is a number of tabs with the page.
type crowd struct {
	*site
	open func(url string) (tab, error)
	next int
	tabs map[string]tab
}

func newCrowd(t testing.TB, open func(url string) (tab, error)) *crowd {
	t.Helper()
	return &crowd{site: newSite(t), open: open, tabs: make(map[string]tab)}
}

// add opens tabs with options for the page.
func (c *crowd) add(n int, options string) {
	c.t.Helper()
	for range n {
		c.next++
		name := strconv.Itoa(c.next)
		opened, err := c.open(c.url + "/page?tab=" + name + "&" + options)
		if err != nil {
			c.t.Fatal(err)
		}
		c.tabs[name] = opened
	}
}

// eval evaluates an expression in a tab.
func (c *crowd) eval(name, expression string, into any) {
	c.t.Helper()
	result, err := c.tabs[name].eval(expression)
	if err == nil && into != nil {
		err = json.Unmarshal(result, into)
	}
	if err != nil {
		c.t.Fatalf("tab %s: %s: %v", name, expression, err)
	}
}

// until waits until an expression is true in a tab.
func (c *crowd) until(name, expression string) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		var holds bool
		c.eval(name, "!!(window.seen && ("+expression+"))", &holds)
		if holds {
			return
		}
		if time.Now().After(deadline) {
			var seen string
			c.eval(name, "JSON.stringify({ ...seen, numbers: seen.numbers.slice(-9) }) + feed.state", &seen)
			c.t.Fatalf("tab %s: waited in vain for %s: %s", name, expression, seen)
		}
		<-pause.C
	}
}

// flows waits until each tab has got more than it has now.
func (c *crowd) flows() {
	c.t.Helper()
	for name := range c.tabs {
		c.until(name, "seen.numbers.length > 0")
	}
	c.mu.Lock()
	now := c.newest
	c.mu.Unlock()
	for name := range c.tabs {
		c.until(name, fmt.Sprintf("seen.numbers.at(-1) > %d", now))
	}
}

// remove forgets a tab, and closes it.
func (c *crowd) remove(name string) {
	c.t.Helper()
	if err := c.tabs[name].close(); err != nil {
		c.t.Fatal(err)
	}
	delete(c.tabs, name)
}

// whole checks that every tab has got all numbers once and in order.
func (c *crowd) whole() {
	c.t.Helper()
	var n int
	c.change(func() { c.newest += 2 - c.newest%2; n = c.newest }) // an even one, which every page hears
	for name := range c.tabs {
		c.until(name, fmt.Sprintf("feed.cursor >= %d", n))
		var wrong string
		c.eval(name, fmt.Sprintf("wrong(%d)", n), &wrong)
		if wrong != "" {
			c.t.Errorf("tab %s has not got each message once and in order: %s", name, wrong)
		}
	}
}
