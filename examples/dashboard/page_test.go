package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/headrace/headrace/internal/testenv"
)

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
		b.until(`state() === "live" && me !== null`)
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
		b.t.Fatalf("%v\n%s", err, b.text())
	}
}

// helpers are what expressions of the tests may use beside what the page has.
const helpers = `const state = () => document.getElementById("state").dataset.state, seqs = (sensor, test) => lanes.get(sensor)?.points.filter((p) => p.test === test).map((p) => p.seq) ?? [], ` +
	`drawn = (sensor, line) => document.querySelector("[data-sensor=" + sensor + "] ." + line)?.getAttribute("d") ?? "", ` +
	`notes = () => document.querySelectorAll("#alarms [data-kind=note]").length; `

// until waits for an expression to become true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	poll := fmt.Sprintf(`(() => { if (typeof lanes === "undefined") return false; %s return %s; })()`, helpers, expression)
	if _, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](poll, chromedp.WithPollingInterval(20*time.Millisecond))); err != nil {
		b.t.Fatalf("waiting for %s: %v\n%s", expression, err, b.text())
	}
}

func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	return text
}

func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](fmt.Sprintf(`(() => { %s return %s; })()`, helpers, expression)))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// as signs somebody in with the page's own buttons.
func (b *tab) as(name string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(fmt.Sprintf(`[data-name=%q]`, name))))
	b.until(fmt.Sprintf(`me?.name === %q && state() === "live" && document.querySelector("[data-name=%s]").getAttribute("aria-pressed") === "true"`, name, name))
}

// consecutive fails unless the points of a sensor, calibrations among them, are 1, 2, 3, … without one missing or there twice, and returns how many there are.
func (b *tab) consecutive(sensor string) int {
	b.t.Helper()
	seqs := evaluate[[]int](b, fmt.Sprintf(`lanes.get(%q).points.map((p) => p.seq)`, sensor))
	for i, seq := range seqs {
		if seq != i+1 {
			b.t.Fatalf("%s: point %d has the number %d: %v", sensor, i+1, seq, seqs)
		}
	}
	return len(seqs)
}

// TestPageMoves: points appear for each sensor, they are drawn, and the chart moves between them, too. The other site has its own.
func TestPageMoves(t *testing.T) {
	testenv.Long(t)
	a := serve(t, newHub(t, "memory://"), nil)
	b := browse(t)(a.url)
	stop := startMachines(t.Context(), a.hub, 10, 1)
	defer stop()
	for _, s := range sensors {
		b.until(fmt.Sprintf(`seqs(%q, false).length > 3 && drawn(%q, "line").split("L").length > 3`, s.Name, s.Name))
	}
	before := evaluate[string](b, `lanes.get("load").moving.getAttribute("transform")`)
	shown := evaluate[int](b, `drawn("load", "line").length`)
	b.until(fmt.Sprintf(`lanes.get("load").moving.getAttribute("transform") !== %q && drawn("load", "line").length > %d`, before, shown))

	b.do(chromedp.Click(chromedp.CSS(`[data-site="turin"]`)))
	b.until(`me?.site === "turin" && seqs("load", false).length > 3`)
	stop()
	a.publish(metricsTopic("oslo", "load"), reading{Seq: 999999, Raw: 1})
	a.publish(metricsTopic("turin", "load"), reading{Seq: 1000000, At: time.Now().UnixMilli(), Raw: 1})
	b.until(`seqs("load", false).includes(1000000)`)
	if evaluate[bool](b, `seqs("load", false).includes(999999)`) {
		t.Error("a point of the other site is there")
	}
}

// TestPageRoles: the role decides what a page gets, of the past as well, and another tab's sign-in counts when the stream comes back.
func TestPageRoles(t *testing.T) {
	testenv.Long(t)
	a := serve(t, newHub(t, "memory://"), nil)
	open := browse(t)
	b := open(a.url)
	if name := evaluate[string](b, `me.name`); name != "Vera" {
		t.Errorf("a new page is %s's", name)
	}
	const payload = `<img src=x onerror="window.pwned=1">`
	at := time.Now().UnixMilli()
	point := func(seq int64, calibration bool) reading {
		return reading{Seq: seq, At: at + seq, Raw: 1000, Calibration: calibration}
	}
	a.publish(alarmsTopic("oslo"), note{Sensor: payload, At: at, Text: payload}, alarm{Sensor: "load", At: at, Raised: true})
	a.publish(metricsTopic("oslo", "load"), point(1, false), point(2, true), point(3, true), point(4, false))
	b.until(`seqs("load", false).join() === "1,4" && drawn("load", "line").split("M").length === 3 && openSensors.size === 1`)
	if evaluate[bool](b, `notes() > 0 || seqs("load", true).length > 0 || document.body.textContent.includes("pwned")`) {
		t.Errorf("the viewer sees maintenance:\n%s", b.text())
	}

	b.as("Otto")
	b.until(`seqs("load", false).join() === "1,4" && seqs("load", true).join() === "2,3" && drawn("load", "test") !== "" && notes() === 1 && openSensors.size === 1`)
	if !evaluate[bool](b, `window.pwned === undefined && !document.querySelector("main img") && document.querySelector("#alarms").textContent.includes("<img")`) {
		t.Errorf("the note is not shown as text:\n%s", b.text())
	}
	a.publish(alarmsTopic("oslo"), alarm{Sensor: "load", At: at + 7000})
	b.until(`openSensors.size === 0 && document.querySelector("#alarms").textContent.includes("over after 7 s")`)

	// The other tab has the same cookie. This one is told at its next connection, and begins anew.
	open(a.url).as("Vera")
	if name := evaluate[string](b, `me.name`); name != "Otto" {
		t.Errorf("the stream changed hands to %s while it was open", name)
	}
	a.conns.cut()
	b.until(`me?.name === "Vera" && seqs("load", false).join() === "1,4" && drawn("load", "test") === "" && notes() === 0`)
	if evaluate[bool](b, `seqs("load", true).length > 0`) {
		t.Error("what the operator saw is still there")
	}
}

// TestPageResumes: connections are cut while the machines go on, and in the end each point is there once.
func TestPageResumes(t *testing.T) {
	testenv.Long(t)
	var refuse atomic.Bool
	a := serve(t, newHub(t, "memory://"), func(own http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if refuse.Load() {
				panic(http.ErrAbortHandler) // as when nobody is there
			}
			own.ServeHTTP(w, r)
		})
	})
	b := browse(t)(a.url)
	b.as("Otto")
	stop := startMachines(t.Context(), a.hub, 20, 1)
	defer stop()
	for cut := 1; cut <= 3; cut++ {
		seen := evaluate[int](b, `Math.max(0, ...seqs("load", false))`)
		b.until(fmt.Sprintf(`seqs("load", false).some((seq) => seq > %d)`, seen+10))
		refuse.Store(true)
		a.conns.cut()
		b.until(`state() === "reconnecting"`)
		refuse.Store(false)
		b.until(fmt.Sprintf(`state() === "live" && connections === %d`, cut+1))
	}
	last := evaluate[int](b, `Math.max(...seqs("load", false))`)
	b.until(fmt.Sprintf(`["temperature", "load", "throughput"].every((sensor) => lanes.get(sensor).points.some((p) => p.seq > %d))`, last+20))
	stop()
	for _, s := range sensors {
		if n := b.consecutive(s.Name); n <= last {
			t.Errorf("%s: %d points", s.Name, n)
		}
	}
	if !evaluate[bool](b, `document.getElementById("resumed").textContent === "resumed 3 times"`) {
		t.Errorf("the page does not say that it resumed:\n%s", b.text())
	}
	// A page that is opened now has the same points: what it begins with is what is retained.
	late := browse(t)(a.url)
	late.as("Otto")
	late.until(fmt.Sprintf(`lanes.get("load").points.length === %d`, b.consecutive("load")))
	late.consecutive("load")
}

// TestPageAfterRestart: what was in memory is gone with the process. The page says nothing of it that is not so any more, and goes on with what there is.
func TestPageAfterRestart(t *testing.T) {
	testenv.Long(t)
	var handler atomic.Pointer[http.Handler]
	old := serve(t, newHub(t, "memory://"), func(own http.Handler) http.Handler {
		handler.Store(&own)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) })
	})
	b := browse(t)(old.url)
	at := time.Now().UnixMilli()
	old.publish(metricsTopic("oslo", "load"), reading{Seq: 41, At: at, Raw: 1000}, reading{Seq: 42, At: at, Raw: 1000})
	old.publish(alarmsTopic("oslo"), alarm{Sensor: "temperature", At: at, Raised: true})
	b.until(`seqs("load", false).join() === "41,42" && openSensors.size === 1`)

	renewed := serve(t, newHub(t, "memory://"), nil)
	renewed.publish(metricsTopic("oslo", "load"), reading{Seq: 1, At: at, Raw: 1000}, reading{Seq: 2, At: at, Raw: 1000})
	handler.Store(&renewed.server.Handler)
	old.conns.cut()
	b.until(`seqs("load", false).join() === "1,2" && openSensors.size === 0 && state() === "live"`)
	renewed.publish(metricsTopic("oslo", "load"), reading{Seq: 3, At: at, Raw: 1000})
	b.until(`seqs("load", false).length > 2`)
	if got := evaluate[[]int](b, `seqs("load", false)`); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("the page has the points %v", got)
	}
}
