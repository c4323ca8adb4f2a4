package integration

import (
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/cursortest"
)

// TestCursorsRedis: each cell of the table of cursors, with two instances over one Redis.
func TestCursorsRedis(t *testing.T) {
	s, other := startSingle(t), startSingle(t)
	cursortest.Run(t, cursortest.World{
		Writer: newHubOver(t, s.newBackend(t), hub.Options{}),
		Reader: newHubOver(t, s.newBackend(t), hub.Options{}),
		Other:  newHubOver(t, other.newBackend(t), hub.Options{}),
		Trim: func(topic string) {
			if err := s[0].XTrimMaxLen(t.Context(), "headrace:{"+topic+"}", cursortest.Kept).Err(); err != nil {
				t.Fatal(err)
			}
		},
	})
}
