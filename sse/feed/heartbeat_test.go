package feed

import (
	"context"
	"net/http"
	"testing"
	"time"
)

const visibleHeartbeat = "event: heartbeat\ndata: {}\n\n"

// TestConformanceVisibleHeartbeats: on each way the first one comes at once, and one in each
// interval then, without an id.
func TestConformanceVisibleHeartbeats(t *testing.T) {
	onWays(t, []string{"t"}, func(_ *lab, _ *Feed, o *Options) {
		o.Heartbeat, o.VisibleHeartbeats = 5*time.Millisecond, true
	}, func(t *testing.T, l *lab) {
		c := l.open()
		c.primed(t)
		for range 5 {
			equal(t, "heartbeat", c.block(t), visibleHeartbeat)
		}
		id := publish(t, l.hub, "t", "a")[0]
		for b := ""; b != event(id, "a"); {
			if b = c.block(t); b != event(id, "a") {
				equal(t, "heartbeat", b, visibleHeartbeat)
			}
		}
		equal(t, "behind a message", c.block(t), visibleHeartbeat)
		c.leave()
		equal(t, "events", l.ended(ErrClientGone).Events, 1)
	})
}

// TestHeartbeatParameter: what a request chooses is clamped, stated, and sent.
func TestHeartbeatParameter(t *testing.T) {
	for _, tc := range []struct {
		query   string
		o       Options
		seconds string
		visible bool
	}{
		{"", Options{}, "15", false},
		{"?heartbeat=20", Options{}, "20", true},
		{"?heartbeat=7.5", Options{}, "7.5", true},
		{"?heartbeat=0", Options{}, "5", true},
		{"?heartbeat=-3", Options{}, "5", true},
		{"?heartbeat=4.999", Options{}, "5", true},
		{"?heartbeat=61", Options{}, "60", true},
		{"?heartbeat=1e300", Options{}, "60", true},
		{"?heartbeat=1e999", Options{}, "60", true},
		{"?heartbeat=Inf", Options{}, "60", true},
		{"?heartbeat=NaN", Options{}, "15", true},
		{"?heartbeat", Options{}, "15", true},
		{"?heartbeat=", Options{Heartbeat: 20 * time.Second}, "20", true},
		{"?heartbeat=soon", Options{Heartbeat: 2 * time.Minute}, "60", true},
		{"?heartbeat=%zz", Options{}, "15", true},
		{"?heartbeats=7", Options{}, "15", false},
		{"", Options{Heartbeat: time.Second, VisibleHeartbeats: true}, "1", true},
		{"?heartbeat=20", Options{MessagesOnly: true}, "20", false},
		{"", Options{MessagesOnly: true, VisibleHeartbeats: true}, "15", false},
	} {
		want := prelude
		if tc.visible {
			want += visibleHeartbeat
		}
		h := generator(tc.o, nil, func(context.Context, yieldFunc) {})
		w := record(h, get("/"+tc.query))
		equal(t, tc.query+" body", retryLine.ReplaceAllString(w.Body.String(), "retry: N\n"), want)
		equal(t, tc.query+" stated", w.Header().Get("Heartbeat-Interval"), tc.seconds)

		r := get("/" + tc.query)
		r.Method = http.MethodHead
		equal(t, tc.query+" HEAD", record(h, r).Header().Get("Heartbeat-Interval"), tc.seconds)
	}
}
