package feed

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// TestConformanceEnding: on each way the connection is broken off at the ends for which that is
// wanted, and at no other, behind all that was to be said. It is no failure.
func TestConformanceEnding(t *testing.T) {
	rotate := func(o *Options) { o.MaxLifetime = 20 * time.Millisecond }
	expire := func(o *Options) { o.ExpireAt = time.Now().Add(100 * time.Millisecond) }
	for _, tc := range []struct {
		name   string
		ending Ending
		change func(*Options)
		finish bool
		rest   string
		cause  error
		broken bool
	}{
		{"rotation", CleanEnds, rotate, false, "", ErrRotated, false},
		{"rotation", BreakRotations, rotate, false, "", ErrRotated, true},
		{"rotation", BreakEnds, rotate, false, "", ErrRotated, true},
		{"expiry", BreakRotations, expire, false, "retry: N\n", ErrExpired, false},
		{"expiry", BreakEnds, expire, false, "retry: N\n", ErrExpired, true},
		{"close", BreakEnds, func(*Options) {}, true, "retry: N\nevent: close\ndata: \nid: ID\n\n", ErrFinished, false},
	} {
		name := tc.name + []string{" by default", " where rotations break off", " where all break off"}[tc.ending]
		t.Run(name, func(t *testing.T) {
			onWays(t, []string{"t"}, func(_ *lab, _ *Feed, o *Options) { o.Ending = tc.ending }, func(t *testing.T, l *lab) {
				logger, logged := logged()
				each := func(_ *http.Request, o *Options) {
					tc.change(o)
					o.Logger = logger
				}
				l.each.Store(&each)
				c := l.open()
				at := c.primed(t)
				if tc.finish {
					at = finish(t, l.hub, "t")
				}
				b, err := io.ReadAll(c.r)
				equal(t, "broken off", err != nil, tc.broken)
				if l.proto != "HTTP/1.0" || !tc.broken { // a reset may overtake it
					equal(t, "rest", strings.Replace(retryLine.ReplaceAllString(string(b), "retry: N\n"), at, "ID", 1), tc.rest)
				}
				isCause(t, (<-l.end).Cause, tc.cause)
				t.Log("the context of the request, behind the handler:", <-l.unwound)
				if text := logged(); strings.Contains(text, "level=WARN") {
					t.Errorf("log: %s", text)
				}
			})
		})
	}
}

// TestConformanceDeadline: a deadline of the request's context is a rotation: no error, and the
// client is told how far it got.
func TestConformanceDeadline(t *testing.T) {
	onWays(t, []string{"t"}, func(l *lab, f *Feed, o *Options) {
		l.blocked = make(chan struct{})
		f.Filter = func(string, *hub.Message) bool { close(l.blocked); return false }
		o.Heartbeat = time.Hour
	}, func(t *testing.T, l *lab) {
		deadlines := make(chan context.CancelCauseFunc, 1)
		change := func(ctx context.Context) context.Context {
			ctx, end := context.WithCancelCause(ctx)
			deadlines <- end
			return limited{ctx}
		}
		l.context.Store(&change)
		c := l.open()
		c.primed(t)
		id := publish(t, l.hub, "t", "x")[0]
		<-l.blocked
		(<-deadlines)(context.DeadlineExceeded)
		equal(t, "rest", c.rest(t), checkpointEvent(id))
		isCause(t, l.ended(ErrRotated).Cause, context.DeadlineExceeded)
	})
}

// TestServeDeadline: Serve returns no error at a deadline.
func TestServeDeadline(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	f := Of(newHub(t, nil, hub.Options{}), "t")
	f.Hello = func(context.Context) (sse.Event, error) {
		end(context.DeadlineExceeded)
		return sse.Event{Data: "late"}, nil
	}
	w := newRecorder()
	if err := Serve(w, get("/").WithContext(limited{ctx}), f, Options{Logger: quiet(), Ending: BreakRotations}); err != nil {
		t.Errorf("error %v after %q", err, w.Body)
	}
}
