package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/examples/internal/pages/pagetest"
	"github.com/headrace/headrace/internal/testenv"
)

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
		return &tab{open(url, `document.getElementById("state").dataset.state === "live" && document.querySelectorAll("#rooms .room").length === 12`), t}
	}
}

// press presses the main button of a room.
func (b *tab) press(room int) {
	b.t.Helper()
	b.Do(chromedp.Click(chromedp.CSS(fmt.Sprintf(`[data-room="%d"] .primary`, room))))
}

// book books a room by hand.
func (b *tab) book(room int, guest string) {
	b.t.Helper()
	b.Do(chromedp.SendKeys(chromedp.CSS(fmt.Sprintf(`[data-room="%d"] input`, room)), guest))
	b.press(room)
}

// is waits until a room has a state.
func (b *tab) is(room int, s state) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`document.querySelector('[data-room="%d"]').dataset.state === %q`, room, s))
}

// TestPage is one story in two tabs; each chapter goes on where the one before ended.
func TestPage(t *testing.T) {
	testenv.Long(t)
	a := serve(t, nil)
	open := browse(t)
	one, two := open(a.url), open(a.url)

	// What one page does shows on the other, which did not load anything.
	one.book(101, "Ada Lovelace")
	two.is(101, booked)
	two.Shows(`[data-room="101"] .guest`, "Ada Lovelace")
	two.press(101)
	one.is(101, occupied)
	one.press(101)
	two.is(101, uncleaned)
	two.press(101)
	one.is(101, free)
	if got := pagetest.Evaluate[string](one.Tab, `[...document.querySelectorAll("#log .name")].map((name) => name.textContent).join(" ")`); got != "RoomCleaned GuestCheckedOut GuestCheckedIn RoomBooked" {
		t.Errorf("the page lists %s", got)
	}

	// A refusal is told to who sent the command, and to nobody else.
	a.do("POST", "/commands/BookRoom", `{"room":102,"guest":"Grace"}`)
	one.is(102, booked)
	one.Script(`page.send("BookRoom", { room: 102, guest: "Mallory" }).catch((error) => { window.refused = error.message; })`)
	one.Until(`window.refused?.includes("room 102 is booked")`)
	two.Shows("#log", "room 102 is booked")
	if told := two.Text(".toast") + two.Text(".problem"); told != "" {
		t.Errorf("the other page is told too: %q", told)
	}

	// Answers are lost, the event is published again, and both pages have it once.
	one.Do(chromedp.Click(chromedp.CSS("#lose")))
	one.Until(`document.getElementById("lose").disabled`)
	two.press(102)
	one.is(102, occupied)
	one.Shows("#log .tries", "sent 3 times, here once")
	for _, b := range []*tab{one, two} {
		b.Shows("#log", "GuestCheckedIn")
		if n := pagetest.Evaluate[int](b.Tab, `document.querySelectorAll("#log [data-kind=GuestCheckedIn]").length`); n != 2 {
			t.Errorf("the page has %d arrivals, want one for each room", n)
		}
	}

	// No name of a guest becomes markup.
	const payload = `<img src=x onerror="window.pwned=1">`
	one.book(103, payload)
	for _, b := range []*tab{one, two} {
		b.Shows(`[data-room="103"] .guest`, payload)
		b.Shows("#log", payload)
		if !pagetest.Evaluate[bool](b.Tab, `window.pwned === undefined && !document.querySelector("main img")`) {
			t.Error("the payload became an element")
		}
	}
}

// TestPageAfterRestart: the rooms are gone with the process. The page says so and shows what there
// is, and what the new desk does.
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
	b.book(101, "Ada")
	b.is(101, booked)

	renewed := serve(t, nil)
	renewed.do("POST", "/commands/BookRoom", `{"room":304,"guest":"Grace"}`)
	mu.Lock()
	handler = renewed.Handler
	mu.Unlock()
	// The old streams end, and the browser comes back to the same address.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := old.hub.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	b.is(101, free)
	b.is(304, booked)
	b.Shows("#log .note", "loaded anew")
	renewed.do("POST", "/commands/CheckIn", `{"room":304}`)
	b.is(304, occupied)
}

// TestPageWithAnotherDesk: over a backend that outlives the process the feed goes on, and the first
// event of the new desk makes the page load.
func TestPageWithAnotherDesk(t *testing.T) {
	testenv.Long(t)
	a := serve(t, nil)
	b := browse(t)(a.url)
	b.book(101, "Ada")
	b.is(101, booked)
	// As a second program on the same backend does.
	another, err := newServer(t.Context(), a.hub, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Shows("#log", "all rooms are free")
	another.accept(t, "/commands/BookRoom", `{"room":102,"guest":"Mallory"}`, "")
	b.Shows("#log", "Mallory")
	a.do("POST", "/commands/CheckIn", `{"room":101}`)
	b.is(101, occupied)
	b.is(102, free) // of its own desk
	if err := another.buses.close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPageIsAccessible looks at the page in each of its states.
func TestPageIsAccessible(t *testing.T) {
	testenv.Long(t)
	a := serve(t, nil)
	b := browse(t)(a.url)
	pagetest.Accessible(b.Tab, "cqrs-empty")
	b.book(101, "Ada Lovelace")
	b.is(101, booked)
	b.book(102, "Grace Hopper")
	b.is(102, booked)
	b.press(102)
	b.is(102, occupied)
	b.book(203, "Mary Somerville")
	b.is(203, booked)
	b.press(203)
	b.is(203, occupied)
	b.press(203)
	b.is(203, uncleaned)
	a.do("POST", "/commands/CleanRoom", `{"room":101}`)
	b.Shows("#log", "CommandRefused")
	// What is wrong is said at the form.
	b.book(204, " ")
	b.Shows(`[data-room="204"] .problem`, "missing")
	pagetest.Accessible(b.Tab, "cqrs")
}
