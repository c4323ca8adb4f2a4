package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

// States of an EventSource.
const (
	connecting = 0
	opened     = 1
	closed     = 2
)

// connections waits until the page's stream, and that of the dashboard, are in these states.
func (b *tab) connections(desk, dashboard int) {
	b.t.Helper()
	b.until(fmt.Sprintf(`desk.source.readyState === %d && dashboard?.readyState === %d`, desk, dashboard))
}

const isVisitor = `!document.getElementById("sign-in").hidden && document.getElementById("who").hidden`

// TestPageSignOutEverywhere: a tab at one instance signs the agent out at all. Browsers come back by themselves, to the open stream as visitors; they give up at the guard.
func TestPageSignOutEverywhere(t *testing.T) {
	testenv.Long(t)
	url := "redis://" + miniredis.RunT(t).Addr()
	apps := []*app{serveOver(t, url, nil), serveOver(t, url, nil)}
	browsers := []func(string) *tab{browse(t), browse(t)} // two, because cookies are the same for all ports of an address
	var tabs []*tab
	for i, a := range apps {
		b := browsers[i](a.url)
		b.signIn("Ada")
		b.click("#dashboard")
		b.shows("#dashboard-text", "Welcome, Ada")
		b.connections(opened, opened)
		b.do(evaluateVoid(`window.before = desk.source`))
		tabs = append(tabs, b)
	}
	tabs[0].click("#sign-out")
	for i, b := range tabs {
		b.until(isVisitor)
		b.shows("#dashboard-text", "401")
		b.connections(opened, closed)
		if !evaluate[bool](b, `window.before === desk.source`) {
			t.Errorf("tab %d: it was the page that opened the stream again, not the browser", i)
		}
		b.until(`document.getElementById("state").dataset.state === "live" && document.getElementById("dashboard-state").textContent === "refused"`)
		b.until(`document.getElementById("counts").hidden`)
	}
	apps[0].create("after it all")
	for _, b := range tabs {
		b.shows("#tickets", "after it all")
	}
}

// TestPageSessionExpires: the same at the time that a session ends, without anybody doing anything.
func TestPageSessionExpires(t *testing.T) {
	testenv.Long(t)
	o := ordinary()
	o.session = 4 * time.Second
	a := serveWith(t, "memory://", nil, o)
	b := browse(t)(a.url)
	b.signIn("Ada")
	b.click("#dashboard")
	b.shows("#dashboard-text", "Welcome, Ada")
	b.connections(opened, opened)
	b.do(evaluateVoid(`window.before = desk.source`))
	b.until(isVisitor)
	b.shows("#dashboard-text", "401")
	b.connections(opened, closed)
	if !evaluate[bool](b, `window.before === desk.source`) {
		t.Error("it was the page that opened the stream again, not the browser")
	}
	if n := evaluate[int](b, `document.querySelectorAll("#log [data-note=gap]").length`); n > 0 {
		t.Errorf("%d gaps", n)
	}
}

// TestPageClosedTicket: the page stops at the close event. An EventSource that knows nothing of it waits for long, and stops when it is
// answered 204.
func TestPageClosedTicket(t *testing.T) {
	testenv.Long(t)
	var finished atomic.Int32
	a := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&statusWriter{ResponseWriter: w, told: func(code int) {
				if code == http.StatusNoContent && strings.HasSuffix(r.URL.Path, "/events") {
					finished.Add(1)
				}
			}}, r)
		})
	})
	b := browse(t)(a.url)
	made := a.create("Printer on fire")
	b.click("#tickets button")
	b.shows("#thread-state", "live")
	b.do(evaluateVoid(fmt.Sprintf(`window.opened = 0; window.plain = new EventSource("/tickets/%s/events?round=1"); plain.onopen = () => opened++; plain.addEventListener("close", (event) => end = event.lastEventId)`, made.ID)))
	b.until(`plain.readyState === 1`)
	a.must("PATCH", "/tickets/"+made.ID, `{"status":"closed"}`)
	b.shows("#thread-state", "finished")
	// The page closes its stream at the event; one that does not is asked to wait before it comes back.
	b.until(fmt.Sprintf(`thread.source.readyState === %d && plain.readyState === %d`, closed, connecting))
	if n, opened := finished.Load(), evaluate[int](b, `opened`); n != 0 || opened != 1 {
		t.Errorf("204 was answered %d times and the plain stream opened %d times, want 0 and 1", n, opened)
	}
	b.do(evaluateVoid(fmt.Sprintf(`plain = new EventSource("/tickets/%s/events?round=1&lastEventId=" + encodeURIComponent(end))`, made.ID)))
	b.until(fmt.Sprintf(`plain.readyState === %d`, closed))
	if n := finished.Load(); n != 1 {
		t.Errorf("204 was answered %d times, want once", n)
	}
	b.connectionsOfDesk(opened)
	a.must("PATCH", "/tickets/"+made.ID, `{"status":"open"}`)
	b.shows("#thread-state", "live")
	a.must("POST", "/tickets/"+made.ID+"/comments", `{"text":"in the second round"}`)
	b.shows("#comments", "in the second round")
}

func (b *tab) connectionsOfDesk(state int) {
	b.t.Helper()
	b.until(fmt.Sprintf(`desk.source.readyState === %d`, state))
}

// statusWriter tells the status of a response.
type statusWriter struct {
	http.ResponseWriter
	told func(code int)
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(code int) {
	w.told(code)
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestPageLimit: a stream that is one too many stays away and tries again; when there is room it is there.
func TestPageLimit(t *testing.T) {
	testenv.Long(t)
	o := ordinary()
	o.limits = &feed.Limits{PerKey: 1, Retry: 100 * time.Millisecond}
	a := serveWith(t, "memory://", nil, o)
	b := browse(t)(a.url)
	b.signIn("Ada")
	b.click("#dashboard")
	b.shows("#dashboard-state", "reconnecting")
	b.do(evaluateVoid(`window.tries = 0; dashboard.addEventListener("error", () => tries++)`))
	b.until(`tries >= 3`)
	// Between two tries it is connecting; it never is closed.
	if state := evaluate[int](b, `dashboard.readyState`); state == closed {
		t.Errorf("the EventSource has given up")
	}
	b.connectionsOfDesk(opened)
	if b.text("#dashboard-text") != "" || !evaluate[bool](b, `document.getElementById("counts").hidden`) {
		t.Errorf("a dashboard that was refused shows %q", b.text(".dashboard"))
	}
	b.do(evaluateVoid(`desk.stop()`))
	b.shows("#dashboard-text", "Welcome, Ada")
	b.until(fmt.Sprintf(`dashboard.readyState === %d`, opened))
}
