package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/headrace/headrace/examples/internal/pages/pagetest"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

// feeds waits until the page's stream, and that of the dashboard, are in these states.
func (b *tab) feeds(desk, dashboard string) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`page.desk.state === %q && page.dashboard?.state === %q`, desk, dashboard))
}

const isVisitor = `!document.getElementById("sign-in").hidden && document.getElementById("who").hidden`

// TestPageSignOutEverywhere: a tab at one instance signs the agent out at all. Browsers come back
// by themselves, to the open stream as visitors; they give up at the guard.
func TestPageSignOutEverywhere(t *testing.T) {
	testenv.Long(t)
	url := "redis://" + miniredis.RunT(t).Addr()
	apps := []*app{serveOver(t, url, nil), serveOver(t, url, nil)}
	browsers := []func(string) *tab{browse(t), browse(t)} // two, because cookies are the same for all ports of an address
	var tabs []*tab
	for i, a := range apps {
		b := browsers[i](a.url)
		b.signIn("Ada")
		b.Click("#dashboard")
		b.Shows("#dashboard-text", "Welcome, Ada")
		b.feeds("live", "live")
		tabs = append(tabs, b)
	}
	tabs[0].Click("#sign-out")
	for _, b := range tabs {
		b.Until(isVisitor)
		b.Shows("#dashboard-text", "401")
		b.feeds("live", "ended")
		b.Until(`document.getElementById("state").dataset.state === "live" && document.getElementById("dashboard-state").textContent === "refused"`)
		b.Until(`document.getElementById("counts").hidden`)
	}
	apps[0].create("after it all")
	for _, b := range tabs {
		b.Shows("#tickets", "after it all")
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
	b.Click("#dashboard")
	b.Shows("#dashboard-text", "Welcome, Ada")
	b.feeds("live", "live")
	b.Until(isVisitor)
	b.Shows("#dashboard-text", "401")
	b.feeds("live", "ended")
	if n := pagetest.Evaluate[int](b.Tab, `document.querySelectorAll("#log [data-note=gap]").length`); n > 0 {
		t.Errorf("%d gaps", n)
	}
}

// TestPageClosedTicket: an EventSource that knows nothing of the close event waits for long, and
// stops when it is answered 204. The page, which follows the desk, sees the ticket closed and
// opened again.
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
	b.Click("#tickets button")
	b.Shows("#no-comments", "No comments yet")
	b.Script(fmt.Sprintf(`window.opened = 0; window.plain = new EventSource("/tickets/%s/events?round=1"); plain.onopen = () => opened++; plain.addEventListener("close", (event) => window.end = event.lastEventId)`, made.ID))
	b.Until(`plain.readyState === EventSource.OPEN`)
	a.must("PATCH", "/tickets/"+made.ID, `{"status":"closed"}`)
	b.Until(`document.getElementById("text").disabled`)
	b.Until(`plain.readyState === EventSource.CONNECTING`)
	if n, opened := finished.Load(), pagetest.Evaluate[int](b.Tab, `opened`); n != 0 || opened != 1 {
		t.Errorf("204 was answered %d times and the plain stream opened %d times, want 0 and 1", n, opened)
	}
	b.Script(fmt.Sprintf(`plain = new EventSource("/tickets/%s/events?round=1&lastEventId=" + encodeURIComponent(end))`, made.ID))
	b.Until(`plain.readyState === EventSource.CLOSED`)
	if n := finished.Load(); n != 1 {
		t.Errorf("204 was answered %d times, want once", n)
	}
	a.must("PATCH", "/tickets/"+made.ID, `{"status":"open"}`)
	b.Until(`!document.getElementById("text").disabled`)
	a.must("POST", "/tickets/"+made.ID+"/comments", `{"text":"in the second round"}`)
	b.Shows("#comments", "in the second round")
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

// TestPageLimit: a stream that is one too many stays away and tries again; when there is room it is
// there.
func TestPageLimit(t *testing.T) {
	testenv.Long(t)
	o := ordinary()
	o.limits = &feed.Limits{PerKey: 1, Retry: 100 * time.Millisecond}
	a := serveWith(t, "memory://", nil, o)
	b := browse(t)(a.url)
	b.signIn("Ada")
	b.Click("#dashboard")
	b.Shows("#dashboard-state", "reconnecting")
	b.Until(`page.desk.state === "live"`)
	if b.Text("#dashboard-text") != "" || !pagetest.Evaluate[bool](b.Tab, `document.getElementById("counts").hidden`) {
		t.Errorf("a dashboard that was refused shows %q", b.Text(".dashboard"))
	}
	b.Script(`page.desk.close()`)
	b.Shows("#dashboard-text", "Welcome, Ada")
	b.Until(`page.dashboard.state === "live"`)
}
