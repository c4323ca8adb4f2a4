package feed

import (
	"io"
	"testing"

	"github.com/headrace/headrace/sse"
)

// TestConformanceTorn: on each way a stream begins with the block for torn frames, with the cursor
// that the client has stated, where the client may hold one. It does not count as written.
func TestConformanceTorn(t *testing.T) {
	onWays(t, []string{"t"}, func(*lab, *Feed, *Options) {}, func(t *testing.T, l *lab) {
		c := l.open("Cache-Control", "no-cache", "User-Agent", "Safari/605.1.15")
		equal(t, "block", c.block(t), "!\nevent: torn\nid: \n\n")
		id := c.primed(t)
		c.leave()
		l.ended(ErrClientGone)

		c = l.open("Last-Event-ID", id, "Cache-Control", "no-cache", "User-Agent", "Safari/605.1.15")
		equal(t, "block", c.block(t), "!\nevent: torn\nid: "+id+"\n\n")
		l.finish()
		rest, err := io.ReadAll(c.r)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "bytes", l.ended(ErrFinished).Bytes, int64(len(rest)))

		c = l.open("Last-Event-ID", id)
		equal(t, "without it", c.block(t)[:len(prelude)], prelude)
	})
}

// TestTornOfRefusals: a refusal that is a stream begins with it, too.
func TestTornOfRefusals(t *testing.T) {
	w := newRecorder()
	r := get("/?lastEventId=7", "Accept", streamType, "Cache-Control", "no-cache")
	Refuse(w, r, 503, "later", Options{})
	equal(t, "body", retryLine.ReplaceAllString(w.Body.String(), "retry: N\n"), string(sse.AppendTorn(nil, r))+prelude)
}
