package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/examples/internal/pages/pagetest"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
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
		return &tab{open(url, `document.getElementById("till").dataset.cents && document.querySelector("#place option").value`), t}
	}
}

// press presses a button of an order, once it is there.
func (b *tab) press(order, action string) {
	b.t.Helper()
	b.Click(fmt.Sprintf(`[data-order=%q] [data-action=%q]:not(:disabled)`, order, action))
}

// has waits until the list and, if the order is selected, the details have a version of an order.
func (b *tab) has(order string, version int) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`document.querySelector('[data-order=%q]')?.dataset.version === %q`, order, strconv.Itoa(version)))
	b.Until(fmt.Sprintf(`document.getElementById("order-id").textContent !== %q || document.getElementById("version").textContent === %q`, order, strconv.Itoa(version)))
}

// agrees compares what the page shows with the server's state.
func (b *tab) agrees(a *app) {
	b.t.Helper()
	shop, _ := state[Shop](a, "/orders")
	for _, o := range shop.Orders {
		b.has(o.ID, o.Version)
	}
	if n := pagetest.Evaluate[int](b.Tab, `document.querySelectorAll("#orders > li").length`); n != len(shop.Orders) {
		b.t.Errorf("the page has %d orders, want %d", n, len(shop.Orders))
	}
	if got := pagetest.Evaluate[string](b.Tab, `document.getElementById("till").dataset.cents`); got != strconv.FormatInt(shop.TillCents, 10) {
		b.t.Errorf("the page has %s in the till, want %d", got, shop.TillCents)
	}
	selected := pagetest.Evaluate[string](b.Tab, `document.getElementById("order-id").textContent`)
	if selected == "" {
		return
	}
	o, _ := state[Order](a, "/orders/"+selected)
	want := ""
	for _, step := range o.History {
		want += fmt.Sprintf("%s v%d ", step.State, step.Version)
	}
	if got := pagetest.Evaluate[string](b.Tab, `[...document.querySelectorAll("#timeline [data-version]")].map((step) => step.children[0].textContent + " " + step.children[1].textContent + " ").join("")`); got != want {
		b.t.Errorf("the page has the history %q, want %q", got, want)
	}
}

// quick are options with which a browser is soon back.
func quick(lifetime time.Duration) ginsse.Options {
	return ginsse.Options{Retry: 10 * time.Millisecond, MaxLifetime: lifetime}
}

const live = `document.getElementById("state").dataset.state === "live"`

// TestPage takes an order through its whole life by hand, with the connection cut in the middle.
func TestPage(t *testing.T) {
	testenv.Long(t)
	n := newNetwork()
	a := serve(t, setup{stream: quick(0), wrap: n.wrap})
	lost := a.place()
	open := browse(t)
	b, other := open(a.url), open(a.url)

	// A customer's name is text, whatever it looks like.
	const payload = `<img src=x onerror="window.pwned=1">`
	b.Do(chromedp.SendKeys(chromedp.CSS("#place [name=customer]"), payload))
	b.Click("#place button")
	b.Shows("#customer", payload)
	shop, _ := state[Shop](a, "/orders")
	id := shop.Orders[1].ID
	other.has(id, 1)
	for _, tab := range []*tab{b, other} {
		tab.Shows(fmt.Sprintf("[data-order=%q]", id), payload)
		if !pagetest.Evaluate[bool](tab.Tab, `window.pwned === undefined && !document.querySelector("main img")`) {
			t.Error("the payload became an element")
		}
	}

	b.press(id, "pay")
	b.has(id, 2)
	other.press(id, "pack") // which selects it there too
	b.has(id, 3)
	b.Until(live)

	// The stream is cut, and the order goes on without the page.
	restore := n.cut()
	defer restore()
	b.Until(`document.getElementById("state").dataset.state === "reconnecting"`)
	a.must("/orders/"+id+"/ship", "")
	a.must("/orders/"+lost.ID+"/pay", "")
	if got := pagetest.Evaluate[string](b.Tab, `document.getElementById("version").textContent + document.getElementById("till").dataset.cents`); got != "31290" {
		t.Errorf("without a connection the page has %s", got)
	}
	restore()
	b.Until(live)
	b.has(id, 4)
	b.agrees(a)

	b.press(id, "deliver")
	for _, tab := range []*tab{b, other} {
		tab.Until(`document.getElementById("order-state").textContent === "delivered"`)
		tab.agrees(a)
	}
	if got, _ := state[Order](a, "/orders/"+id); got.Version != 5 || got.State != Delivered {
		t.Errorf("the order is %+v", got)
	}

	// The other order is refunded, and over too.
	b.Click(fmt.Sprintf(`[data-order=%q] .customer`, lost.ID))
	b.Shows("#customer", "Ada")
	b.press(lost.ID, "cancel")
	b.has(lost.ID, 3)
	b.press(lost.ID, "refund")
	b.has(lost.ID, 4)
	b.Shows("#items", "Refunded")
	for _, tab := range []*tab{b, other} {
		tab.agrees(a)
	}

	// A refusal is told, and changes nothing.
	b.Script(fmt.Sprintf(`page.change(%q, "pay").catch((error) => { document.getElementById("toast").textContent = error.message; })`, id))
	b.Shows("#toast", "cannot pay an order that is delivered")
}

// TestPageWithShortStreams: streams end all the time, and the page has everything nevertheless.
func TestPageWithShortStreams(t *testing.T) {
	testenv.Long(t)
	n := newNetwork()
	a := serve(t, setup{stream: quick(100 * time.Millisecond), wrap: n.wrap})
	o := a.place()
	b := browse(t)(a.url)
	for i, action := range []string{"pay", "pack", "ship", "deliver"} {
		// At least one more connection for each step.
		streams := n.answered(200)
		b.press(o.ID, action)
		b.has(o.ID, i+2)
		if i < 3 {
			for n.answered(200) < streams+2 {
				b.Until(`document.getElementById("state").dataset.state !== ""`)
			}
		}
	}
	b.agrees(a)
}

// TestPageHeals: what a page missed is no longer retained. It has no code for that: the server
// sends a fresh snapshot.
func TestPageHeals(t *testing.T) {
	testenv.Long(t)
	n := newNetwork()
	a := serve(t, setup{backend: "memory://?messages=2", hub: hub.Options{Window: 1}, stream: quick(0), wrap: n.wrap})
	first, second := a.place(), a.place()
	b := browse(t)(a.url)
	b.press(first.ID, "pay")
	b.has(first.ID, 2)
	b.Until(live)
	restore := n.cut()
	defer restore()
	b.Until(`document.getElementById("state").dataset.state === "reconnecting"`)
	for _, change := range []string{first.ID + "/pack", first.ID + "/ship", first.ID + "/refund", second.ID + "/pay", second.ID + "/pack", second.ID + "/ship"} {
		a.must("/orders/"+change, "")
	}
	third := a.place()
	restore()
	b.has(third.ID, 1)
	b.agrees(a)
	b.Until(`document.getElementById("state").dataset.state === "live"`)
	b.press(second.ID, "deliver")
	b.has(second.ID, 5)
	b.agrees(a)
	if gaps := a.hub.Stats().ReaderGaps; gaps == 0 {
		t.Errorf("%d gaps: the test is about nothing", gaps)
	}
}

// TestPageAfterRestart: the orders are gone with the process. The page shows those of the next one,
// also when the messages of the first are still there.
func TestPageAfterRestart(t *testing.T) {
	testenv.Long(t)
	for _, backend := range []string{"memory://", "miniredis://restart"} {
		t.Run(backend, func(t *testing.T) {
			n := newNetwork()
			var current atomic.Pointer[app]
			renewed := serve(t, setup{backend: backend, stream: quick(0)})
			a := serve(t, setup{backend: backend, stream: quick(0), wrap: func(own http.Handler) http.Handler {
				return n.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					handler := own
					if a := current.Load(); a != nil {
						handler = a.Handler
					}
					handler.ServeHTTP(w, r)
				}))
			}})
			o := a.place()
			b := browse(t)(a.url)
			b.press(o.ID, "pay")
			b.has(o.ID, 2)
			b.Until(live)
			restore := n.cut()
			defer restore()
			other := renewed.must("/orders", strings.Replace(mug, "Ada", "Grace", 1))
			current.Store(renewed)
			restore()
			b.has(other.ID, 1)
			b.Until(`document.getElementById("detail").hidden`)
			if got := pagetest.Evaluate[string](b.Tab, `document.querySelectorAll("#orders > li").length + " " + document.getElementById("till").dataset.cents`); got != "1 0" {
				t.Errorf("the page has %s, want one order and nothing in the till", got)
			}
			renewed.must("/orders/"+other.ID+"/pay", "")
			b.has(other.ID, 2)
		})
	}
}

// TestThreeTabs: three pages leave connections of the six that a browser opens, so that a fourth
// one loads.
func TestThreeTabs(t *testing.T) {
	testenv.Long(t)
	a := serve(t, setup{stream: quick(0)})
	o := a.place()
	open := browse(t)
	pagetest.LeavesConnections(t, "/orders/events", func() *pagetest.Tab {
		b := open(a.url)
		b.Click(fmt.Sprintf("[data-order=%q] .customer", o.ID))
		b.Shows("#customer", "Ada")
		return b.Tab
	})
}

// TestPageIsAccessible looks at the page in each of its states.
func TestPageIsAccessible(t *testing.T) {
	testenv.Long(t)
	a := serve(t, setup{stream: quick(0)})
	b := browse(t)(a.url)
	pagetest.Accessible(b.Tab, "orders-empty")
	for i, actions := range [][]string{{"pay", "pack", "ship", "deliver"}, {"pay", "pack", "ship"}, {"pay", "refund"}, {"cancel"}, {"pay", "pack"}, {"pay"}, nil} {
		o := a.place()
		for _, action := range actions {
			a.do("POST", "/orders/"+o.ID+"/"+action, "")
		}
		if i == 4 {
			b.Click(fmt.Sprintf("[data-order=%q] .customer", o.ID))
		}
	}
	b.Until(`document.querySelectorAll("#orders > li").length === 7 && document.querySelector("#timeline li")`)
	pagetest.Accessible(b.Tab, "orders")
}
