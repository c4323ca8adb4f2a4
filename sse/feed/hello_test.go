package feed

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

// TestConformanceHello: the event comes before all others, however a connection begins.
func TestConformanceHello(t *testing.T) {
	const hello = "event: hello\ndata: x\n\n"
	for name, snapshot := range map[string]bool{"plain": false, "with a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			onEachWay(t, testenv.Sized(2, len(shapes)), func(f *Feed, _ *Options) {
				f.Hello = func(context.Context) (sse.Event, error) { return sse.Event{Type: "hello", Data: "x", ID: "mine"}, nil }
				if snapshot {
					f.Snapshot = func(context.Context) (any, error) { return "state", nil }
				}
			}, func(t *testing.T, l *lab) {
				ids := publish(t, l.hub, "t", "a", "b")
				begins := func(what, begin string, header ...string) {
					t.Helper()
					c := l.open(header...)
					equal(t, what, c.block(t), prelude+hello)
					if b := c.block(t); !strings.HasPrefix(b, begin) {
						t.Errorf("%s: behind the hello %q, want %q", what, b, begin)
					}
					c.leave()
					<-l.end
					if err := <-l.unwound; err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				}
				first, behindGap := "event: checkpoint\n", "event: gap\n"
				if snapshot {
					first = "event: snapshot\n"
				}
				begins("without a cursor", first)
				begins("resumed", "data: b\n", "Last-Event-ID", ids[0])
				begins("unknown cursor", behindGap, "Last-Event-ID", "of-another-life")
				begins("malformed cursor", behindGap, "Last-Event-ID", "not an id")

				c := l.open("Cache-Control", "no-cache", "User-Agent", "Safari/605.1.15", "Last-Event-ID", ids[0])
				equal(t, "torn", strings.HasPrefix(c.block(t), "!\nevent: torn\n"), true)
				equal(t, "behind torn", c.block(t), prelude+hello)
				equal(t, "then", c.block(t), event(ids[1], "b"))
				c.leave()
				<-l.end

				l.finish()
				if !snapshot {
					begins("end, without a cursor", "retry: N\nevent: close\n")
				}
				begins("end", "data: b\n", "Last-Event-ID", ids[0])
				begins("end, next", "retry: N\nevent: close\n", "Last-Event-ID", ids[1])
			})
		})
	}
}
