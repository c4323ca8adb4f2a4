package main

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
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
		return &tab{open(url, `document.getElementById("state").dataset.state === "live" && page.me !== null`), t}
	}
}

// inPage makes an expression of the tests one that the page can evaluate: it may use what page.js
// exports, and some helpers.
func inPage(expression string) string {
	return `(() => { const { lanes, openSensors, me, connections } = page, ` +
		`state = () => document.getElementById("state").dataset.state, ` +
		`seqs = (sensor, test) => lanes.get(sensor)?.points.filter((p) => p.test === test).map((p) => p.seq) ?? [], ` +
		`drawn = (sensor, line) => document.querySelector("[data-sensor=" + sensor + "] ." + line)?.getAttribute("d") ?? "", ` +
		`notes = () => document.querySelectorAll("#alarms [data-kind=note]").length; return ` + expression + `; })()`
}

func (b *tab) until(expression string) {
	b.t.Helper()
	b.Until(inPage(expression))
}

func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	return pagetest.Evaluate[T](b.Tab, inPage(expression))
}

// as signs somebody in with the page's own buttons.
func (b *tab) as(name string) {
	b.t.Helper()
	b.Do(chromedp.Click(chromedp.CSS(fmt.Sprintf(`[data-name=%q]`, name))))
	b.until(fmt.Sprintf(`me?.name === %q && state() === "live" && document.querySelector("[data-name=%s]").getAttribute("aria-pressed") === "true"`, name, name))
}

// consecutive fails unless the points of a sensor, calibrations among them, are 1, 2, 3, … without
// one missing or there twice, and returns how many there are.
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

// TestPageMoves: points appear for each sensor, they are drawn, and the chart moves between them,
// too. The other site has its own.
func TestPageMoves(t *testing.T) {
	testenv.Long(t)
	a := serve(t, newHub(t, "memory://"), nil)
	b := browse(t)(a.url)
	stop := startMachines(t.Context(), a.hub, 10, 1, 0)
	defer stop()
	for _, s := range sensors {
		b.until(fmt.Sprintf(`seqs(%q, false).length > 3 && drawn(%q, "line").split("L").length > 3`, s.Name, s.Name))
	}
	before := evaluate[string](b, `lanes.get("load").moving.getAttribute("transform")`)
	shown := evaluate[int](b, `drawn("load", "line").length`)
	b.until(fmt.Sprintf(`lanes.get("load").moving.getAttribute("transform") !== %q && drawn("load", "line").length > %d`, before, shown))

	b.Do(chromedp.Click(chromedp.CSS(`[data-site="turin"]`)))
	b.until(`me?.site === "turin" && seqs("load", false).length > 3`)
	stop()
	a.publish(metricsTopic("oslo", "load"), reading{Seq: 999999, Raw: 1})
	a.publish(metricsTopic("turin", "load"), reading{Seq: 1000000, At: time.Now().UnixMilli(), Raw: 1})
	b.until(`seqs("load", false).includes(1000000)`)
	if evaluate[bool](b, `seqs("load", false).includes(999999)`) {
		t.Error("a point of the other site is there")
	}
}

// TestPageRoles: the role decides what a page gets, of the past as well, and another tab's sign-in
// counts when the stream comes back.
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
		t.Errorf("the viewer sees maintenance:\n%s", b.Text("body"))
	}

	b.as("Otto")
	b.until(`seqs("load", false).join() === "1,4" && seqs("load", true).join() === "2,3" && drawn("load", "test") !== "" && notes() === 1 && openSensors.size === 1`)
	if !evaluate[bool](b, `window.pwned === undefined && !document.querySelector("main img") && document.querySelector("#alarms").textContent.includes("<img")`) {
		t.Errorf("the note is not shown as text:\n%s", b.Text("body"))
	}
	a.publish(alarmsTopic("oslo"), alarm{Sensor: "load", At: at + 7000})
	b.until(`openSensors.size === 0 && document.querySelector("#alarms").textContent.includes("over after 7 s")`)
	b.Shows("#news", "load: the alarm is over") // for those who hear the page

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

// TestPageResumes: connections are cut while the machines go on, and in the end each point is there
// once.
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
	stop := startMachines(t.Context(), a.hub, 20, 1, 0)
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
		t.Errorf("the page does not say that it resumed:\n%s", b.Text("body"))
	}
	// A page that is opened now has the same points: what it begins with is what is retained.
	late := browse(t)(a.url)
	late.as("Otto")
	late.until(fmt.Sprintf(`lanes.get("load").points.length === %d`, b.consecutive("load")))
	late.consecutive("load")
}

// TestPageAfterRestart: what was in memory is gone with the process. The page says nothing of it
// that is not so any more, and goes on with what there is.
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

// TestPageIsAccessible looks at the page in each of its states.
func TestPageIsAccessible(t *testing.T) {
	testenv.Long(t)
	a := serve(t, newHub(t, "memory://"), nil)
	b := browse(t)(a.url)
	pagetest.Accessible(b.Tab, "dashboard-empty")
	b.as("Otto")
	defer startMachines(t.Context(), a.hub, 2, 1, chartWindow)()
	b.until(`notes() > 2 && seqs("load", false).length > 200 && document.querySelectorAll("#alarms .mark").length > 4`)
	b.Script(`document.getElementById("values").open = true`)
	b.until(`document.querySelectorAll("#rows tr").length === 3`)
	pagetest.Accessible(b.Tab, "dashboard")
}
