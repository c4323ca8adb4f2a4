package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// TestConformanceMessagesOnly: on each way nothing but messages comes, whatever the cursor, and
// what ends the stream says nothing.
func TestConformanceMessagesOnly(t *testing.T) {
	onWays(t, []string{"t"}, func(_ *lab, _ *Feed, o *Options) { o.MessagesOnly = true }, func(t *testing.T, l *lab) {
		old := publish(t, l.hub, "t", "old")[0]
		for i := range 20 {
			publish(t, l.hub, "t", fmt.Sprint(i))
		}
		c := l.open("Last-Event-ID", old)
		equal(t, "behind a gap", c.block(t)[:len(prelude)+len("data: 12\n")], prelude+"data: 12\n")
		c.leave()
		l.ended(ErrClientGone)

		for _, header := range [][]string{nil, {"Last-Event-ID", "no cursor"}} {
			c := l.open(header...)
			id := publish(t, l.hub, "t", "a")[0]
			equal(t, "first", c.block(t), prelude+event(id, "a"))
			c.leave()
			l.ended(ErrClientGone)
		}

		c = l.open()
		l.finish()
		b, err := io.ReadAll(c.r)
		equal(t, "error at the end", err, nil)
		// A stream through middleware begins with a comment.
		equal(t, "end", strings.TrimPrefix(retryLine.ReplaceAllString(string(b), "retry: N\n"), ":\n"), prelude+"retry: N\n")
		l.ended(ErrFinished)
	})
}

// TestMessagesOnlyFailures: a stream that fails is aborted without a word, and a state that was to
// be had again comes without its gap.
func TestMessagesOnlyFailures(t *testing.T) {
	onWays(t, []string{"t"}, func(_ *lab, f *Feed, o *Options) {
		o.MessagesOnly = true
		f.Snapshot = func(context.Context) (any, error) { return "state", nil }
		f.Map = func(_ string, m *hub.Message) []sse.Event {
			if string(m.Data) == "fail" {
				return []sse.Event{{Type: "gap"}} // which fails the stream
			}
			return []sse.Event{{Data: m.Data}}
		}
	}, func(t *testing.T, l *lab) {
		first := publish(t, l.hub, "t", "a")[0]
		c := l.open("Last-Event-ID", "of-another-life")
		equal(t, "state", c.block(t), prelude+snapshotEvent(first, "state"))
		publish(t, l.hub, "t", "fail")
		b, err := io.ReadAll(c.r)
		equal(t, "aborted", err != nil, true)
		equal(t, "behind it", string(b), "")
		isCause(t, (<-l.end).Cause, ErrFailed)
	})

	h := generator(Options{MessagesOnly: true}, nil, func(_ context.Context, yield yieldFunc) {
		yield(sse.Event{}, errors.New("as the test wants it"))
	})
	client, stop := memServer(h, false, nil)
	defer stop()
	c := connect(t, client, "http://memory/", "")
	b, err := io.ReadAll(c.r)
	equal(t, "aborted", err != nil, true)
	equal(t, "rest", retryLine.ReplaceAllString(string(b), "retry: N\n"), prelude)
}

// TestMessagesOnlyElsewhere: pages of JSON say their gaps all the same, and who has read all of a
// topic that is deleted is answered 204.
func TestMessagesOnlyElsewhere(t *testing.T) {
	h := newHub(t, memory.New(memory.Options{MaxMessages: 2}), hub.Options{})
	ids := publish(t, h, "t", "1", "2", "3", "4", "5", "6")
	handler := Handler(Of(h, "t"), Options{MessagesOnly: true, EndDeleted: true, History: &History{}, Logger: quiet()})
	if w := record(handler, get("/?after="+ids[0], "Accept", "application/json")); !strings.Contains(w.Body.String(), `"gap":true`) {
		t.Errorf("the page is %s", w.Body)
	}
	if err := h.Delete(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	equal(t, "status", record(handler, get("/", "Last-Event-ID", ids[5])).Code, 204)
}
