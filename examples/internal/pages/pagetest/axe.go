package pagetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

// screenshots is the environment variable that names a folder for pictures of what Accessible looks
// at.
const screenshots = "HEADRACE_SCREENSHOTS"

// finding is a violation that axe reports.
type finding struct {
	ID    string
	Help  string
	Nodes []struct{ Target, Summary string }
}

// Accessible fails the test at what axe finds in the page as it is, light and dark, 1,280 and 390
// pixels wide, and where the page is wider than the window. It needs the npm package axe-core,
// which make deps installs.
func Accessible(b *Tab, name string) {
	b.t.Helper()
	// The tests run in the folder of their example.
	axe, err := os.ReadFile(filepath.Join("..", "..", "integration", "clients", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		testenv.Lacks(b.t, "node", "the npm package axe-core is not installed")
	}
	b.Script(string(axe) + `;undefined`)
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			b.look(width, scheme)
			variant := fmt.Sprintf("%s-%d-%s", name, width, scheme)
			if dir := os.Getenv(screenshots); dir != "" {
				b.picture(filepath.Join(dir, variant+".png"))
			}
			if wide := Evaluate[int64](b, `document.documentElement.scrollWidth`); wide > width {
				b.t.Errorf("%s: the page is %d pixels wide", variant, wide)
			}
			b.Script(`window.found = undefined; axe.run().then(({ violations }) => { window.found = violations.map(({ id, help, nodes }) =>
				({ id, help, nodes: nodes.map((node) => ({ target: node.target.join(" "), summary: node.failureSummary })) })); }); undefined`)
			b.Until(`window.found`)
			for _, f := range Evaluate[[]finding](b, `window.found`) {
				for _, n := range f.Nodes {
					b.t.Errorf("%s: %s: %s: %s: %s", variant, f.ID, f.Help, n.Target, strings.ReplaceAll(n.Summary, "\n", " "))
				}
			}
		}
	}
}

// look shows the page in a window of a width, and without motion: what fades in has no contrast of
// its own yet.
func (b *Tab) look(width int64, scheme string) {
	b.t.Helper()
	b.Do(chromedp.EmulateViewport(width, 800), func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		return cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
	})
	b.Until(fmt.Sprintf(`innerWidth === %d && matchMedia("(prefers-color-scheme: %s)").matches`, width, scheme))
}

func (b *Tab) picture(file string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(file, png, 0o600) //nolint:gosec // whoever runs the test names the folder
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
