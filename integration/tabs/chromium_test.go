package tabs

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

// chromium starts Chromium, and returns what opens tabs in it.
func chromium(t *testing.T) func(url string) (tab, error) {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Need(t, "chromium")),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("no-sandbox", true), // it refuses to start as root otherwise, and it sees nothing here but the test's servers
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-gpu", true),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
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
	return func(url string) (tab, error) {
		ctx, cancel := chromedp.NewContext(browser)
		t.Cleanup(cancel)
		// Before a deadline is set: a tab lives as long as the context it was opened with.
		if err := chromedp.Do(ctx); err != nil {
			return nil, err
		}
		c := &chromiumTab{ctx}
		return c, c.visit(url)
	}
}

type chromiumTab struct{ ctx context.Context }

func (c *chromiumTab) visit(url string) error {
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, chromedp.Navigate(url))
}

func (c *chromiumTab) eval(expression string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[json.RawMessage](expression))
}

func (c *chromiumTab) close() error { return chromedp.Cancel(c.ctx) }

// lifecycle freezes the page, or has it go on.
func (c *chromiumTab) lifecycle(state page.SetWebLifecycleStateState) error {
	_, err := chromedp.Call(c.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
	return err
}

// crash ends the process that shows the page.
func (c *chromiumTab) crash() {
	ctx, cancel := context.WithTimeout(c.ctx, second) // nobody is left to answer
	defer cancel()
	_, _ = chromedp.Call(ctx, page.Crash, struct{}{})
}
