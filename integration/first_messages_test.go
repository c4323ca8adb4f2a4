package integration

import (
	"testing"
	"time"
)

// TestCursorOfFirstMessages: nine topics that have had one message each, at different times:
// nothing here waits for anything else.
func TestCursorOfFirstMessages(t *testing.T) {
	s := startSingle(t)
	i := startInstance(t, s, feeds{"/nine": nine()})
	for n, topic := range nine() {
		send(t, i.hub, topic, topic, n)
		time.Sleep(20 * time.Millisecond)
	}
	w := &wanderer{got: make(logs)}
	if err := w.read(i, "/nine", 1, func() bool { return false }, func() {}); err != nil {
		t.Fatal(err)
	}
	if w.longest > longestCursor {
		t.Errorf("%d bytes: %s", w.longest, w.cursor)
	}
}
