// Package pagetest has the pages of the examples tested in a browser.
package pagetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

// patience is how long the browser may take for one step before the test gives up.
const patience = time.Minute

// Tab is one page in a browser. Its methods fail the test at what goes wrong. They are for the
// test's goroutine.
type Tab struct {
	t   *testing.T
	ctx context.Context
}

// Browse starts a browser that ends with the test, and returns a function that opens tabs in it. A
// tab has loaded the page when ready, an expression, is true; what page.js exports is in
// window.page. An exception in the page fails the test.
func Browse(t *testing.T) func(url, ready string) *Tab {
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
	return func(url, ready string) *Tab {
		t.Helper()
		ctx, cancel := chromedp.NewContext(browser)
		t.Cleanup(cancel)
		// Before a deadline is set: a tab lives as long as the context it was opened with.
		if err := chromedp.Do(ctx); err != nil {
			t.Fatal(err)
		}
		b := &Tab{t: t, ctx: ctx}
		b.watch()
		b.Do(chromedp.Navigate(url))
		b.load()
		b.Until(ready)
		return b
	}
}

// watch fails the test at an exception in the page.
func (b *Tab) watch() {
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

func (b *Tab) load() {
	b.t.Helper()
	b.Script(`import("/page.js").then((module) => { window.page = module; })`)
	b.Until(`window.page`)
}

// Do does something with the page.
func (b *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v\n%s", err, b.Text("body"))
	}
}

// Script runs a script in the page.
func (b *Tab) Script(script string) {
	b.t.Helper()
	b.Do(chromedp.Evaluate[chromedp.Void](script))
}

// Until waits for an expression to become true.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(20*time.Millisecond))); err != nil {
		b.t.Fatalf("waiting for %s: %v\n%s", expression, err, b.Text("body"))
	}
}

// Shows waits until an element has a text.
func (b *Tab) Shows(selector, text string) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`document.querySelector(%q)?.textContent.includes(%q)`, selector, text))
}

// Text returns the text that an element shows.
func (b *Tab) Text(selector string) string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector)))
	return text
}

// Click clicks on an element.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	b.Do(chromedp.Click(chromedp.CSS(selector)))
}

// Write types a text into a field that is emptied before.
func (b *Tab) Write(selector, text string) {
	b.t.Helper()
	b.Script(fmt.Sprintf(`document.querySelector(%q).value = ""`, selector))
	b.Do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Evaluate returns the value of an expression.
func Evaluate[T any](b *Tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// LeavesConnections has three tabs opened in one browser, and fails the test unless two more
// connections to their server can be open at the same time: a browser opens six to an HTTP/1.1
// origin, for all tabs together. feed is the path of a stream.
func LeavesConnections(t *testing.T, feed string, open func() *Tab) {
	t.Helper()
	var last *Tab
	for range 3 {
		last = open()
	}
	last.Script(fmt.Sprintf("window.more = [1, 2].map((n) => new EventSource(%q + n))", feed+"?more="))
	last.Until(`more.every((source) => source.readyState === EventSource.OPEN)`)
}
