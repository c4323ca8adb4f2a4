package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

// patience is how long the browser may take for one step before the test gives up.
const patience = time.Minute

// gate holds back requests that state a last event ID, until it is opened: while it is shut, a browser that lost its connection stays away.
type gate struct {
	mu     sync.Mutex
	open   chan struct{}
	refuse int // how many of them to answer 503 first, like a proxy whose server is away
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
	return sync.OnceFunc(func() { close(g.open) })
}

func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") != "" {
			g.mu.Lock()
			open, refuse := g.open, g.refuse > 0 && r.URL.Path == "/desk/events"
			if refuse {
				g.refuse--
			}
			g.mu.Unlock()
			if refuse {
				http.Error(w, "away", http.StatusServiceUnavailable)
				return
			}
			select {
			case <-open:
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// tab is one page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// browse starts a browser and returns a function that opens tabs in it.
func browse(t *testing.T) func(url string) *tab {
	t.Helper()
	path := testenv.Need(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("no-sandbox", true), // it refuses to start as root otherwise, and it sees nothing here but this server
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
	return func(url string) *tab {
		t.Helper()
		ctx, cancel := chromedp.NewContext(browser)
		t.Cleanup(cancel)
		// Before a deadline is set: a tab lives as long as the context it was opened with.
		if err := chromedp.Do(ctx); err != nil {
			t.Fatal(err)
		}
		b := &tab{t: t, ctx: ctx}
		b.watch()
		b.do(chromedp.Navigate(url))
		b.until(`document.getElementById("state").dataset.state === "live" && document.getElementById("no-tickets-title").textContent !== "Loading"`)
		return b
	}
}

// watch fails the test at an exception in the page.
func (b *tab) watch() {
	exceptions := chromedp.Events(b.ctx, runtime.ExceptionThrown)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range exceptions {
			if err != nil {
				return
			}
			b.t.Errorf("exception in the page: %s, line %d: %+v", e.ExceptionDetails.Text, e.ExceptionDetails.LineNumber, e.ExceptionDetails.Exception)
		}
	}()
	b.t.Cleanup(func() {
		_ = chromedp.Cancel(b.ctx)
		<-done
	})
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v\n%s", err, b.text("body"))
	}
}

// until waits for an expression to become true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(20*time.Millisecond))); err != nil {
		b.t.Fatalf("waiting for %s: %v\n%s", expression, err, b.text("body"))
	}
}

// shows waits until an element has a text.
func (b *tab) shows(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector(%q)?.textContent.includes(%q)`, selector, text))
}

func (b *tab) text(selector string) string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector)))
	return text
}

func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) write(selector, text string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector(%q).value = ""`, selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// ids returns the ids of the events that the page has listed, oldest first.
func (b *tab) ids() []string {
	ids := evaluate[[]string](b, `[...document.querySelectorAll("#log [data-id]")].map((item) => item.dataset.id)`)
	slices.Reverse(ids)
	return ids
}

// TestPage is one story in two tabs; each chapter goes on where the one before ended.
func TestPage(t *testing.T) {
	testenv.Long(t)
	s := &story{gate: newGate(), t: t}
	s.app = serve(t, s.gate.wrap)
	open := browse(t)
	s.one, s.two = open(s.app.url), open(s.app.url)
	for _, chapter := range []func(){s.seeInOtherTab, s.catchUp, s.catchUpAfterRefusal, s.markupIsText, s.guardedDashboard, s.finishedFeed} {
		chapter()
	}
}

type story struct {
	t        *testing.T
	gate     *gate
	app      *app
	one, two *tab
}

// seeInOtherTab: what one tab does shows in the other.
func (s *story) seeInOtherTab() {
	s.one.write("#subject", "Printer on fire")
	s.one.click("#create button")
	s.two.shows("#tickets", "Printer on fire")
	s.one.shows("#ticket-subject", "Printer on fire") // it is selected where it was created

	s.two.click("#tickets button")
	s.two.shows("#ticket-subject", "Printer on fire")
	s.two.write("#text", "Is it still burning?")
	s.two.click("#say button")
	s.one.shows("#comments", "Is it still burning?")
	s.two.write("#assignee", "Ada")
	s.two.click("#assign button")
	s.one.until(`document.getElementById("assignee").value === "Ada"`)
	s.two.click(`#status [data-status="closed"]`)
	s.one.until(`document.querySelector("#status [data-status=closed]").getAttribute("aria-pressed") === "true"`)
	s.one.until(`document.getElementById("text").disabled`)
	s.one.click(`#status [data-status="open"]`)
	s.two.shows("#tickets .chip", "open")
	// The ticket's feed was finished when it was closed. The page follows the next one.
	for _, b := range []*tab{s.one, s.two} {
		b.until(`document.getElementById("thread-state").dataset.state === "live" && round === 2`)
	}
}

// catchUp: what happens while the connection is down arrives after the automatic reconnection, in order and once.
func (s *story) catchUp() {
	id := evaluate[string](s.one, `document.querySelector("#tickets li").dataset.ticket`)
	s.one.until(`document.querySelectorAll("#log li[data-kind=moved]").length === 2`)
	before := s.one.ids()
	if last := s.one.text("#last-id"); last != before[len(before)-1] {
		s.t.Errorf("the last event id is shown as %q, want %q", last, before[len(before)-1])
	}
	open := s.gate.shut()
	defer open()
	s.one.click("#drop")
	s.one.until(`document.getElementById("state").dataset.state === "reconnecting"`)
	const missed = 5
	for i := range missed {
		s.app.must("POST", "/tickets/"+id+"/comments", fmt.Sprintf(`{"text":"meanwhile %d"}`, i))
	}
	s.two.shows("#comments", fmt.Sprint("meanwhile ", missed-1))
	if got := s.one.ids(); len(got) != len(before) {
		s.t.Errorf("the page got %d events while its connection was down", len(got)-len(before))
	}
	open()
	s.one.until(`document.getElementById("state").dataset.state === "live"`)
	s.one.shows("#comments", fmt.Sprint("meanwhile ", missed-1))
	s.app.must("PATCH", "/tickets/"+id, `{"assignee":"Grace"}`)
	s.one.until(`document.getElementById("assignee").value === "Grace"`)

	s.two.until(fmt.Sprintf(`document.querySelectorAll("#log [data-id]").length === %d`, len(before)+missed+1))
	if want := s.two.ids(); !slices.Equal(s.one.ids(), want) {
		s.t.Errorf("after the reconnection the page has %v, want each once and in order: %v", s.one.ids(), want)
	}
	marked := evaluate[int](s.one, `document.querySelectorAll("#log .missed").length`)
	notes := evaluate[[]string](s.one, `[...document.querySelectorAll("#log .note")].map((item) => item.dataset.note)`)
	if marked != missed || !slices.Equal(notes, []string{"back", "lost"}) {
		s.t.Errorf("%d events are marked, notes %v; want %d, and back after lost", marked, notes, missed)
	}
	texts := evaluate[[]string](s.one, `[...document.querySelectorAll("#comments li")].map((item) => item.firstChild.textContent)`)
	if wantTexts := []string{"Is it still burning?", "meanwhile 0", "meanwhile 1", "meanwhile 2", "meanwhile 3", "meanwhile 4"}; !slices.Equal(texts, wantTexts) {
		s.t.Errorf("comments %q, want %q", texts, wantTexts)
	}
}

// catchUpAfterRefusal: a browser gives an EventSource up at a status like 503. The page opens another one that goes on where the first one was.
func (s *story) catchUpAfterRefusal() {
	id := evaluate[string](s.one, `document.querySelector("#tickets li").dataset.ticket`)
	s.gate.mu.Lock()
	s.gate.refuse = 1
	s.gate.mu.Unlock()
	s.one.click("#drop")
	s.one.until(`document.getElementById("state").dataset.state === "reconnecting"`)
	s.app.must("POST", "/tickets/"+id+"/comments", `{"text":"after a refusal"}`)
	s.one.until(`document.getElementById("state").dataset.state === "live"`)
	s.one.shows("#log .what", "after a refusal")
	s.two.shows("#log .what", "after a refusal")
	if got, want := s.one.ids(), s.two.ids(); !slices.Equal(got, want) {
		s.t.Errorf("after the refusal the page has %v, want each once and in order: %v", got, want)
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if s.gate.refuse != 0 {
		s.t.Error("nothing was refused")
	}
}

// markupIsText: no field of a ticket can become markup.
func (s *story) markupIsText() {
	const payload = `<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>`
	made := s.app.create(payload)
	body, _ := json.Marshal(map[string]string{"text": payload})
	s.app.must("POST", "/tickets/"+made.ID+"/comments", string(body))
	body, _ = json.Marshal(map[string]string{"assignee": payload[:40]})
	s.app.must("PATCH", "/tickets/"+made.ID, string(body))
	for _, b := range []*tab{s.one, s.two} {
		b.click(fmt.Sprintf(`#tickets [data-ticket="%s"] button`, made.ID))
		b.shows("#ticket-subject", payload)
		b.shows("#comments", payload)
		b.shows("#log", payload)
		// The policy would keep the payload from running; it must not even become elements.
		if n := evaluate[int](b, `document.querySelectorAll("main img, main script").length`); n != 0 {
			s.t.Errorf("the payload became %d elements", n)
		}
		if !evaluate[bool](b, `window.pwned === undefined`) {
			s.t.Error("the payload ran")
		}
	}
}

// signIn signs in with the role that is chosen, and waits until the page's stream is the agent's.
func (b *tab) signIn(name string) {
	b.t.Helper()
	b.write("#name", name)
	b.click("#sign-in .primary")
	b.until(fmt.Sprintf(`!document.getElementById("who").hidden && document.getElementById("who-name").textContent === %q`, name))
}

// guardedDashboard: the guard refuses, or the counts are live, over a reconnection too.
func (s *story) guardedDashboard() {
	s.one.click("#dashboard")
	s.one.shows("#dashboard-text", "401")
	s.one.click(`#roles [data-role="agent"]`)
	s.one.signIn("Bob")
	s.one.shows("#dashboard-text", "403")
	s.one.click("#sign-out")
	s.one.until(`!document.getElementById("sign-in").hidden`)
	s.one.click(`#roles [data-role="admin"]`)
	s.one.signIn("Ada")
	s.one.shows("#dashboard-text", "Welcome, Ada")
	counts := `[...document.querySelectorAll("#counts b")].map((box) => box.textContent).join(" ")`
	s.one.until(counts + ` === "2 0 0"`)
	id := evaluate[string](s.one, `document.querySelector("#tickets li").dataset.ticket`)
	s.app.must("PATCH", "/tickets/"+id, `{"status":"pending"}`)
	s.one.until(counts + ` === "1 1 0"`)
	// It comes back too.
	s.one.click("#drop")
	s.one.shows("#dashboard-state", "reconnecting")
	s.app.must("PATCH", "/tickets/"+id, `{"status":"closed"}`)
	s.one.until(counts + ` === "1 0 1"`)
	s.one.shows("#dashboard-state", "live")
}

// finishedFeed: the page does not try again.
func (s *story) finishedFeed() {
	if _, err := s.app.hub.Finish(s.t.Context(), everything); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range []*tab{s.one, s.two} {
		b.until(`document.getElementById("state").dataset.state === "finished"`)
	}
}

// TestPageAfterRestart: the tickets are gone with the process, and so is what the cursor meant. The page says so and shows what there is.
func TestPageAfterRestart(t *testing.T) {
	testenv.Long(t)
	var mu sync.Mutex
	var handler http.Handler
	old := serve(t, func(own http.Handler) http.Handler {
		handler = own
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			h := handler
			mu.Unlock()
			h.ServeHTTP(w, r)
		})
	})
	b := browse(t)(old.url)
	old.create("made by the old process")
	b.shows("#tickets", "made by the old process")

	renewed := serve(t, nil)
	renewed.create("made by the new process")
	mu.Lock()
	handler = renewed.Handler
	mu.Unlock()
	// The old streams end, and the browser comes back to the same address.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := old.hub.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	b.shows(`#log [data-note="gap"]`, "the list anew")
	b.shows("#tickets", "made by the new process")
	if evaluate[bool](b, `document.querySelector("#tickets").textContent.includes("old process")`) {
		t.Error("the page still shows a ticket that is gone")
	}
}

func evaluateVoid(script string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](script)
}
