package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

// client is one that people use.
type client struct {
	name string
	page string // the page or the program in folder pages
	node bool   // it is a program
	// packages are what the page or the program is made of.
	packages []string
	// shows says that it reports what the page shows, too.
	shows bool
}

var (
	browsers = client{name: "Chromium", page: "eventsource.html"}
	npm      = client{name: "npm eventsource", page: "node.js", node: true, packages: []string{"eventsource", "eventsource-parser"}}
	fetching = client{name: "fetch-event-source", page: "fetch.html", packages: []string{"@microsoft/fetch-event-source"}}
	htmx     = client{name: "htmx", page: "htmx.html", packages: []string{"htmx.org", "htmx-ext-sse"}, shows: true}
	all      = []client{browsers, npm, fetching, htmx}
)

// start starts the client for the site's feed. The options, in pairs, are those of its page. The
// client ends with the test.
func (c client) start(s *site, b *browser, options ...string) {
	s.t.Helper()
	query := url.Values{"feed": {feedPath}}
	for i := 0; i+1 < len(options); i += 2 {
		query.Set(options[i], options[i+1])
	}
	page := s.url + "/pages/" + c.page + "?" + query.Encode()
	needPackages(s.t, c.packages)
	s.shows = c.shows
	if c.node {
		runNode(s.t, c.page, page)
	} else {
		b.open(s.t, page)
	}
}

// needPackages wants packages installed in the version that the lock file names.
func needPackages(t testing.TB, names []string) {
	t.Helper()
	type lock struct {
		Packages map[string]struct{ Version string }
	}
	var want, have lock
	read := func(file string, l *lock) error {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return json.Unmarshal(content, l)
	}
	if err := read("package-lock.json", &want); err != nil {
		t.Fatal(err)
	}
	// npm writes down what it has installed in the format of the lock file.
	_ = read(filepath.Join("node_modules", ".package-lock.json"), &have)
	for _, name := range names {
		key := "node_modules/" + name
		if v := want.Packages[key].Version; v == "" || have.Packages[key].Version != v {
			testenv.Lacks(t, "node", "the npm package "+name+" "+v+" is not installed")
		}
	}
}

// runNode runs a program, which ends with the test.
func runNode(t testing.TB, program, argument string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, testenv.Need(t, "node"), filepath.Join("pages", program), argument)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", program, output.String())
		}
	})
}

// browser is a Chromium that starts when the first page is opened.
type browser struct {
	owner *testing.T
	tools func(tab context.Context) error // what its developer tools do to each tab; nil: nothing
	mu    sync.Mutex
	ctx   context.Context
}

// newBrowser returns a browser that ends with a test.
func newBrowser(owner *testing.T) *browser { return &browser{owner: owner} }

// started returns the browser's context.
func (b *browser) started(t testing.TB, path string) context.Context {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx != nil {
		return b.ctx
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(b.owner.TempDir()),
		chromedp.Flag("no-sandbox", true), // it refuses to start as root otherwise, and it sees nothing here but the test's servers
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-gpu", true),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	b.owner.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	b.owner.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			b.owner.Logf("closing the browser: %v", err)
		}
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	b.ctx = ctx
	return ctx
}

// open opens a page in a tab that is closed with the test. An exception in the page fails the test.
func (b *browser) open(t testing.TB, page string) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.started(t, testenv.Need(t, "chromium")))
	t.Cleanup(cancel)
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
			t.Errorf("exception in the page: %s, line %d: %+v", e.ExceptionDetails.Text, e.ExceptionDetails.LineNumber, e.ExceptionDetails.Exception)
		}
	}()
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		<-done
	})
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if b.tools != nil {
		if err := b.tools(limited); err != nil {
			t.Fatal(err)
		}
	}
	if err := chromedp.Do(limited, chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}
}
