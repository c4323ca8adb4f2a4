package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
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
		b.until(`document.getElementById("till").dataset.cents && document.querySelector("#place option")`)
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

// press presses a button of an order, once it is there.
func (b *tab) press(order, action string) {
	b.t.Helper()
	b.click(fmt.Sprintf(`[data-order=%q] [data-action=%q]:not(:disabled)`, order, action))
}

// has waits until the list and, if the order is selected, the details have a version of an order.
func (b *tab) has(order string, version int) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector('[data-order=%q]')?.dataset.version === %q`, order, strconv.Itoa(version)))
	b.until(fmt.Sprintf(`document.getElementById("order-id").textContent !== %q || document.getElementById("version").textContent === %q`, order, strconv.Itoa(version)))
}

// agrees compares what the page shows with the server's state.
func (b *tab) agrees(a *app) {
	b.t.Helper()
	shop, _ := state[Shop](a, "/orders")
	for _, o := range shop.Orders {
		b.has(o.ID, o.Version)
	}
	if n := evaluate[int](b, `document.querySelectorAll("#orders li").length`); n != len(shop.Orders) {
		b.t.Errorf("the page has %d orders, want %d", n, len(shop.Orders))
	}
	if got := evaluate[string](b, `document.getElementById("till").dataset.cents`); got != strconv.FormatInt(shop.TillCents, 10) {
		b.t.Errorf("the page has %s in the till, want %d", got, shop.TillCents)
	}
	selected := evaluate[string](b, `document.getElementById("order-id").textContent`)
	if selected == "" {
		return
	}
	o, _ := state[Order](a, "/orders/"+selected)
	want := ""
	for _, step := range o.History {
		want += fmt.Sprintf("%s v%d ", step.State, step.Version)
	}
	if got := evaluate[string](b, `[...document.querySelectorAll("#timeline [data-version]")].map((step) => step.children[0].textContent + " " + step.children[1].textContent + " ").join("")`); got != want {
		b.t.Errorf("the page has the history %q, want %q", got, want)
	}
}

// quick are options with which a browser is soon back.
func quick(lifetime time.Duration) ginsse.Options {
	return ginsse.Options{Retry: 10 * time.Millisecond, MaxLifetime: lifetime}
}

const live = `document.getElementById("state").dataset.state === "live" && document.getElementById("order-state").dataset.state === "live"`

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
	b.do(chromedp.SendKeys(chromedp.CSS("#place [name=customer]"), payload))
	b.click("#place button")
	b.shows("#customer", payload)
	shop, _ := state[Shop](a, "/orders")
	id := shop.Orders[1].ID
	other.has(id, 1)
	for _, tab := range []*tab{b, other} {
		tab.shows(fmt.Sprintf("[data-order=%q]", id), payload)
		if !evaluate[bool](tab, `window.pwned === undefined && !document.querySelector("main img")`) {
			t.Error("the payload became an element")
		}
	}

	b.press(id, "pay")
	b.has(id, 2)
	other.press(id, "pack") // which selects it there too
	b.has(id, 3)
	b.until(live)

	// Both streams are cut, and the order goes on without the page.
	restore := n.cut()
	defer restore()
	b.until(`document.getElementById("state").dataset.state === "reconnecting" && document.getElementById("order-state").dataset.state === "reconnecting"`)
	a.must("/orders/"+id+"/ship", "")
	a.must("/orders/"+lost.ID+"/pay", "")
	if got := evaluate[string](b, `document.getElementById("version").textContent + document.getElementById("till").dataset.cents`); got != "31290" {
		t.Errorf("without a connection the page has %s", got)
	}
	restore()
	b.until(live)
	b.has(id, 4)
	b.agrees(a)

	b.press(id, "deliver")
	for _, tab := range []*tab{b, other} {
		tab.until(`document.getElementById("order-state").dataset.state === "finished"`)
		tab.agrees(a)
	}
	if got, _ := state[Order](a, "/orders/"+id); got.Version != 5 || got.State != Delivered {
		t.Errorf("the order is %+v", got)
	}

	// The other order is refunded, and over too.
	b.click(fmt.Sprintf(`[data-order=%q] .customer`, lost.ID))
	b.shows("#customer", "Ada")
	b.press(lost.ID, "cancel")
	b.has(lost.ID, 3)
	b.press(lost.ID, "refund")
	b.until(`document.getElementById("order-state").dataset.state === "finished"`)
	b.shows("#items", "Refunded")
	for _, tab := range []*tab{b, other} {
		tab.agrees(a)
	}

	// A refusal is told, and changes nothing.
	evaluate[bool](b, fmt.Sprintf(`post("/orders/%s/pay"), true`, id))
	b.shows("#toast", "cannot pay an order that is delivered")

	// Who looks at a finished order gets its state, and 204 from the stream.
	if before := n.answered(204); before != 0 {
		t.Errorf("a page that was told of the end came back %d times", before)
	}
	b.click(fmt.Sprintf(`[data-order=%q] .customer`, id))
	b.has(id, 5)
	b.until(`document.getElementById("order-state").dataset.state === "finished"`)
	if got := n.answered(204); got != 1 {
		t.Errorf("%d streams were answered 204, want 1", got)
	}
	b.agrees(a)
}

// TestPageWithShortStreams: streams end all the time, and the page has everything nevertheless.
func TestPageWithShortStreams(t *testing.T) {
	testenv.Long(t)
	n := newNetwork()
	a := serve(t, setup{stream: quick(100 * time.Millisecond), wrap: n.wrap})
	o := a.place()
	b := browse(t)(a.url)
	for i, action := range []string{"pay", "pack", "ship", "deliver"} {
		// At least one more connection of each stream for each step.
		streams := n.answered(200)
		b.press(o.ID, action)
		b.has(o.ID, i+2)
		if i < 3 {
			for n.answered(200) < streams+4 {
				b.until(`document.getElementById("state").dataset.state !== ""`)
			}
		}
	}
	b.until(`document.getElementById("order-state").dataset.state === "finished"`)
	b.agrees(a)
}

// TestPageHeals: what a page missed is no longer retained. It has no code for that: the server sends a fresh snapshot.
func TestPageHeals(t *testing.T) {
	testenv.Long(t)
	n := newNetwork()
	a := serve(t, setup{backend: "memory://?messages=2", hub: hub.Options{Window: 1}, stream: quick(0), wrap: n.wrap})
	first, second := a.place(), a.place()
	b := browse(t)(a.url)
	b.press(first.ID, "pay")
	b.has(first.ID, 2)
	b.until(live)
	restore := n.cut()
	defer restore()
	b.until(`document.getElementById("order-state").dataset.state === "reconnecting"`)
	for _, change := range []string{first.ID + "/pack", first.ID + "/ship", first.ID + "/refund", second.ID + "/pay", second.ID + "/pack", second.ID + "/ship"} {
		a.must("/orders/"+change, "")
	}
	third := a.place()
	restore()
	b.has(third.ID, 1)
	b.agrees(a)
	b.until(`document.getElementById("state").dataset.state === "live"`)
	b.press(second.ID, "deliver")
	b.has(second.ID, 5)
	b.agrees(a)
	if gaps := a.hub.Stats().ReaderGaps; gaps < 2 {
		t.Errorf("%d gaps, want one of each stream: the test is about nothing", gaps)
	}
	if bytes.Contains(page, []byte(`"gap"`)) {
		t.Error("the page listens for gaps")
	}
}

// TestPageAfterRestart: the orders are gone with the process. The page shows those of the next one, also when the messages of the first are still there.
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
			b.until(live)
			restore := n.cut()
			defer restore()
			other := renewed.must("/orders", strings.Replace(mug, "Ada", "Grace", 1))
			current.Store(renewed)
			restore()
			b.has(other.ID, 1)
			b.until(`document.getElementById("detail").hidden`)
			if got := evaluate[string](b, `document.querySelectorAll("#orders li").length + " " + document.getElementById("till").dataset.cents`); got != "1 0" {
				t.Errorf("the page has %s, want one order and nothing in the till", got)
			}
			renewed.must("/orders/"+other.ID+"/pay", "")
			b.has(other.ID, 2)
		})
	}
}
