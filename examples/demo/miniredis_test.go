package main

import (
	"context"
	"testing"

	"github.com/headrace/headrace/backends"
	_ "github.com/headrace/headrace/backends/redisstream/embedded"
	"github.com/headrace/headrace/hub"
)

// TestMiniredis: what redis:// does for several processes, miniredis:// does for several hubs in
// one, without a server.
func TestMiniredis(t *testing.T) {
	var hubs []*hub.Hub
	for range 2 {
		backend, err := backends.Open(t.Context(), "miniredis://demo")
		if err != nil {
			t.Fatal(err)
		}
		h, err := hub.New(backend, hub.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			if err := backend.Close(); err != nil {
				t.Error(err)
			}
		})
		hubs = append(hubs, h)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i, from := range hubs {
		sub, err := hubs[1-i].Subscribe(ctx, "news", hub.Latest())
		if err != nil {
			t.Fatal(err)
		}
		id, err := from.Publish(ctx, "news", hub.Message{Data: []byte("hello")})
		if err != nil {
			t.Fatal(err)
		}
		for m, err := range sub.All() {
			if err != nil || m.ID != id || string(m.Data) != "hello" {
				t.Errorf("published %s on hub %d, followed on the other: %+v, %v", id, i, m, err)
			}
			break
		}
	}
}
