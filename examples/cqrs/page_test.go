package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

// patience is how long the browser may take for one step before the test gives up.
const patience = time.Minute

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
		b.until(`document.getElementById("state").dataset.state === "live" && document.querySelectorAll("#rooms .room").length === 12`)
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

// press presses the main button of a room.
func (b *tab) press(room int) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(fmt.Sprintf(`[data-room="%d"] .primary`, room))))
}

// book books a room by hand.
func (b *tab) book(room int, guest string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(fmt.Sprintf(`[data-room="%d"] input`, room)), guest))
	b.press(room)
}

// is waits until a room has a state.
func (b *tab) is(room int, s state) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('[data-room="%d"]').dataset.state === %q`, room, s))
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
	two.shows(`[data-room="101"] .guest`, "Ada Lovelace")
	two.press(101)
	one.is(101, occupied)
	one.press(101)
	two.is(101, uncleaned)
	two.press(101)
	one.is(101, free)
	if got := evaluate[string](one, `[...document.querySelectorAll("#log .name")].map((name) => name.textContent).join(" ")`); got != "RoomCleaned GuestCheckedOut GuestCheckedIn RoomBooked" {
		t.Errorf("the page lists %s", got)
	}

	// A refusal is told to who sent the command, and to nobody else.
	a.do("POST", "/commands/BookRoom", `{"room":102,"guest":"Grace"}`)
	one.is(102, booked)
	evaluate[bool](one, `send("BookRoom", { room: 102, guest: "Mallory" }), true`)
	one.shows("#toast", "room 102 is booked")
	two.shows("#log", "room 102 is booked")
	if !evaluate[bool](two, `document.getElementById("toast").hidden`) {
		t.Error("the other page is told too")
	}

	// Answers are lost, the event is published again, and both pages have it once.
	one.do(chromedp.Click(chromedp.CSS("#lose")))
	one.until(`document.getElementById("lose").disabled`)
	two.press(102)
	one.is(102, occupied)
	one.shows("#log .tries", "sent 3 times, here once")
	for _, b := range []*tab{one, two} {
		b.shows("#log", "GuestCheckedIn")
		if n := evaluate[int](b, `document.querySelectorAll("#log [data-kind=GuestCheckedIn]").length`); n != 2 {
			t.Errorf("the page has %d arrivals, want one for each room", n)
		}
	}

	// No name of a guest becomes markup.
	const payload = `<img src=x onerror="window.pwned=1">`
	one.book(103, payload)
	for _, b := range []*tab{one, two} {
		b.shows(`[data-room="103"] .guest`, payload)
		b.shows("#log", payload)
		if !evaluate[bool](b, `window.pwned === undefined && !document.querySelector("main img")`) {
			t.Error("the payload became an element")
		}
	}
}

// TestPageAfterRestart: the rooms are gone with the process. The page says so and shows what there is, and what the new desk does.
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
	b.shows("#log .note", "loaded anew")
	renewed.do("POST", "/commands/CheckIn", `{"room":304}`)
	b.is(304, occupied)
}

// TestPageWithAnotherDesk: over a backend that outlives the process the feed goes on, and the first event of the new desk makes the page load.
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
	b.shows("#log", "all rooms are free")
	another.accept(t, "/commands/BookRoom", `{"room":102,"guest":"Mallory"}`, "")
	b.shows("#log", "Mallory")
	a.do("POST", "/commands/CheckIn", `{"room":101}`)
	b.is(101, occupied)
	b.is(102, free) // of its own desk
	if err := another.buses.close(t.Context()); err != nil {
		t.Error(err)
	}
}
