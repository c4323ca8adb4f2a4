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

	"github.com/headrace/headrace/examples/internal/pages/pagetest"
	"github.com/headrace/headrace/internal/testenv"
)

// gate holds back requests that state a last event ID, until it is opened: while it is shut, a
// browser that lost its connection stays away.
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
		// A browser states it in the header, a page that opens a stream anew in the query.
		if r.Header.Get("Last-Event-ID") != "" || r.URL.Query().Get("lastEventId") != "" {
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

// tab is the page in a browser.
type tab struct {
	*pagetest.Tab
	t *testing.T
}

// browse starts a browser and returns a function that opens tabs in it.
func browse(t *testing.T) func(url string) *tab {
	t.Helper()
	open := pagetest.Browse(t)
	return func(url string) *tab {
		t.Helper()
		return &tab{open(url, `document.getElementById("state").dataset.state === "live" && document.getElementById("no-tickets-title").textContent !== "Loading"`), t}
	}
}

// ids returns the ids of the events that the page has listed, oldest first.
func (b *tab) ids() []string {
	ids := pagetest.Evaluate[[]string](b.Tab, `[...document.querySelectorAll("#log [data-id]")].map((item) => item.dataset.id)`)
	slices.Reverse(ids)
	return ids
}

// TestPage is one story in two browsers, whose tabs have a connection each; each chapter goes on
// where the one before ended.
func TestPage(t *testing.T) {
	testenv.Long(t)
	s := &story{gate: newGate(), t: t}
	s.app = serve(t, s.gate.wrap)
	s.one, s.two = browse(t)(s.app.url), browse(t)(s.app.url)
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
	s.one.Write("#subject", "Printer on fire")
	s.one.Click("#create button")
	s.two.Shows("#tickets", "Printer on fire")
	s.one.Shows("#ticket-subject", "Printer on fire") // it is selected where it was created

	s.two.Click("#tickets button")
	s.two.Shows("#ticket-subject", "Printer on fire")
	s.two.Write("#text", "Is it still burning?")
	s.two.Click("#say button")
	s.one.Shows("#comments", "Is it still burning?")
	s.two.Write("#assignee", "Ada")
	s.two.Click("#assign button")
	s.one.Until(`document.getElementById("assignee").value === "Ada"`)
	s.two.Click(`#status [data-status="closed"]`)
	s.one.Until(`document.querySelector("#status [data-status=closed]").getAttribute("aria-pressed") === "true"`)
	s.one.Until(`document.getElementById("text").disabled`)
	s.one.Click(`#status [data-status="open"]`)
	s.two.Shows("#tickets .chip", "open")
}

// catchUp: what happens while the connection is down arrives after the automatic reconnection, in
// order and once.
func (s *story) catchUp() {
	id := pagetest.Evaluate[string](s.one.Tab, `document.querySelector("#tickets li").dataset.ticket`)
	s.one.Until(`document.querySelectorAll("#log li[data-kind=moved]").length === 2`)
	before := s.one.ids()
	if last := s.one.Text("#last-id"); last != before[len(before)-1] {
		s.t.Errorf("the last event id is shown as %q, want %q", last, before[len(before)-1])
	}
	open := s.gate.shut()
	defer open()
	s.one.Click("#drop")
	s.one.Until(`document.getElementById("state").dataset.state === "reconnecting"`)
	const missed = 5
	for i := range missed {
		s.app.must("POST", "/tickets/"+id+"/comments", fmt.Sprintf(`{"text":"meanwhile %d"}`, i))
	}
	s.two.Shows("#comments", fmt.Sprint("meanwhile ", missed-1))
	if got := s.one.ids(); len(got) != len(before) {
		s.t.Errorf("the page got %d events while its connection was down", len(got)-len(before))
	}
	open()
	s.one.Until(`document.getElementById("state").dataset.state === "live"`)
	s.one.Shows("#comments", fmt.Sprint("meanwhile ", missed-1))
	s.app.must("PATCH", "/tickets/"+id, `{"assignee":"Grace"}`)
	s.one.Until(`document.getElementById("assignee").value === "Grace"`)

	s.two.Until(fmt.Sprintf(`document.querySelectorAll("#log [data-id]").length === %d`, len(before)+missed+1))
	if want := s.two.ids(); !slices.Equal(s.one.ids(), want) {
		s.t.Errorf("after the reconnection the page has %v, want each once and in order: %v", s.one.ids(), want)
	}
	marked := pagetest.Evaluate[int](s.one.Tab, `document.querySelectorAll("#log .missed").length`)
	notes := pagetest.Evaluate[[]string](s.one.Tab, `[...document.querySelectorAll("#log .note")].map((item) => item.dataset.note)`)
	if marked != missed || !slices.Equal(notes, []string{"back", "lost"}) {
		s.t.Errorf("%d events are marked, notes %v; want %d, and back after lost", marked, notes, missed)
	}
	texts := pagetest.Evaluate[[]string](s.one.Tab, `[...document.querySelectorAll("#comments li")].map((item) => item.firstChild.textContent)`)
	if wantTexts := []string{"Is it still burning?", "meanwhile 0", "meanwhile 1", "meanwhile 2", "meanwhile 3", "meanwhile 4"}; !slices.Equal(texts, wantTexts) {
		s.t.Errorf("comments %q, want %q", texts, wantTexts)
	}
}

// catchUpAfterRefusal: a browser gives an EventSource up at a status like 503. The page opens
// another one that goes on where the first one was.
func (s *story) catchUpAfterRefusal() {
	id := pagetest.Evaluate[string](s.one.Tab, `document.querySelector("#tickets li").dataset.ticket`)
	s.gate.mu.Lock()
	s.gate.refuse = 1
	s.gate.mu.Unlock()
	s.one.Click("#drop")
	s.one.Until(`document.getElementById("state").dataset.state === "reconnecting"`)
	s.app.must("POST", "/tickets/"+id+"/comments", `{"text":"after a refusal"}`)
	s.one.Until(`document.getElementById("state").dataset.state === "live"`)
	s.one.Shows("#log .what", "after a refusal")
	s.two.Shows("#log .what", "after a refusal")
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
		b.Click(fmt.Sprintf(`#tickets [data-ticket="%s"] button`, made.ID))
		b.Shows("#ticket-subject", payload)
		b.Shows("#comments", payload)
		b.Shows("#log", payload)
		// The policy would keep the payload from running; it must not even become elements.
		if n := pagetest.Evaluate[int](b.Tab, `document.querySelectorAll("main img, main script").length`); n != 0 {
			s.t.Errorf("the payload became %d elements", n)
		}
		if !pagetest.Evaluate[bool](b.Tab, `window.pwned === undefined`) {
			s.t.Error("the payload ran")
		}
	}
}

// signIn signs in with the role that is chosen, and waits until the page's stream is the agent's.
func (b *tab) signIn(name string) {
	b.t.Helper()
	b.Write("#name", name)
	b.Click("#sign-in .primary")
	b.Until(fmt.Sprintf(`!document.getElementById("who").hidden && document.getElementById("who-name").textContent === %q`, name))
}

// guardedDashboard: the guard refuses, or the counts are live, over a reconnection too.
func (s *story) guardedDashboard() {
	s.one.Click("#dashboard")
	s.one.Shows("#dashboard-text", "401")
	s.one.Click(`#roles [data-role="agent"]`)
	s.one.signIn("Bob")
	s.one.Shows("#dashboard-text", "403")
	s.one.Click("#sign-out")
	s.one.Until(`!document.getElementById("sign-in").hidden`)
	s.one.Click(`#roles [data-role="admin"]`)
	s.one.signIn("Ada")
	s.one.Shows("#dashboard-text", "Welcome, Ada")
	counts := `[...document.querySelectorAll("#counts b")].map((box) => box.textContent).join(" ")`
	s.one.Until(counts + ` === "2 0 0"`)
	id := pagetest.Evaluate[string](s.one.Tab, `document.querySelector("#tickets li").dataset.ticket`)
	s.app.must("PATCH", "/tickets/"+id, `{"status":"pending"}`)
	s.one.Until(counts + ` === "1 1 0"`)
	// It comes back too.
	s.one.Click("#drop")
	s.one.Shows("#dashboard-state", "reconnecting")
	s.app.must("PATCH", "/tickets/"+id, `{"status":"closed"}`)
	s.one.Until(counts + ` === "1 0 1"`)
	s.one.Shows("#dashboard-state", "live")
}

// finishedFeed: the page does not try again.
func (s *story) finishedFeed() {
	if _, err := s.app.hub.Finish(s.t.Context(), everything); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range []*tab{s.one, s.two} {
		b.Until(`document.getElementById("state").dataset.state === "ended"`)
	}
}

// TestPageAfterRestart: the tickets are gone with the process, and so is what the cursor meant. The
// page says so and shows what there is.
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
	b.Shows("#tickets", "made by the old process")

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
	b.Shows(`#log [data-note="gap"]`, "the list anew")
	b.Shows("#tickets", "made by the new process")
	if pagetest.Evaluate[bool](b.Tab, `document.querySelector("#tickets").textContent.includes("old process")`) {
		t.Error("the page still shows a ticket that is gone")
	}
}

// TestThreeTabs: three pages, with the dashboard and a ticket in each, leave two of the six
// connections that a browser opens.
func TestThreeTabs(t *testing.T) {
	testenv.Long(t)
	a := serve(t, nil)
	a.create("Printer on fire")
	open := browse(t)
	open(a.url).signIn("Ada")
	pagetest.LeavesConnections(t, "/tickets/events", func() *pagetest.Tab {
		b := open(a.url)
		b.Until(`document.getElementById("who-name").textContent === "Ada"`)
		b.Click("#dashboard")
		b.Shows("#dashboard-text", "Welcome, Ada")
		b.Click("#tickets button")
		b.Shows("#no-comments", "No comments yet")
		return b.Tab
	})
}

// TestPageIsAccessible looks at the page in each of its states.
func TestPageIsAccessible(t *testing.T) {
	testenv.Long(t)
	a := serve(t, nil)
	b := browse(t)(a.url)
	pagetest.Accessible(b.Tab, "tickets-empty")
	for _, subject := range []string{"Printer on fire", "Cannot log in", "Coffee machine is out of beans"} {
		made := a.create(subject)
		a.must("POST", "/tickets/"+made.ID+"/comments", `{"text":"Having a look."}`)
		a.must("PATCH", "/tickets/"+made.ID, `{"assignee":"Ada"}`)
	}
	b.Click("#tickets li:nth-child(2) button")
	a.must("PATCH", "/tickets/"+pagetest.Evaluate[string](b.Tab, `document.querySelector("#tickets li:nth-child(1)").dataset.ticket`), `{"status":"closed"}`)
	a.must("PATCH", "/tickets/"+pagetest.Evaluate[string](b.Tab, `document.querySelector("#tickets li:nth-child(3)").dataset.ticket`), `{"status":"pending"}`)
	b.Shows("#comments", "Having a look.")
	b.signIn("Ada")
	b.Click("#dashboard")
	b.Shows("#dashboard-text", "Welcome, Ada")
	b.Click("#drop")
	b.Shows("#log", "Back after")
	b.Until(`page.desk.state === "live" && page.dashboard.state === "live"`)
	pagetest.Accessible(b.Tab, "tickets")
}
