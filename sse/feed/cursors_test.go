package feed_test

import (
	"context"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/cursortest"
)

// hubOver returns a hub over a backend, shut down with the test.
func hubOver(t testing.TB, b hub.Backend) *hub.Hub {
	t.Helper()
	h, err := hub.New(b, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestCursors: each cell of the table of cursors, on the backend in memory.
func TestCursors(t *testing.T) {
	backend := memory.New(memory.Options{MaxMessages: cursortest.Kept})
	other := memory.New(memory.Options{})
	t.Cleanup(func() {
		backend.Close()
		other.Close()
	})
	cursortest.Run(t, cursortest.World{Writer: hubOver(t, backend), Reader: hubOver(t, backend), Other: hubOver(t, other)})
}
