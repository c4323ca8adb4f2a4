// Command headrace is this module: a feed of one topic as a Gin route.
package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/memory"
	_ "github.com/headrace/headrace/backends/redisstream" // redis://
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/integration/bench/internal/peer"
)

const (
	topic = "load"
	// plenty is more bytes than any measurement keeps.
	plenty = 4 << 30
)

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	ctx := context.Background()
	backend, err := openBackend(ctx, o)
	if err != nil {
		return nil, err
	}
	h, err := hub.New(backend, hubOptions(o))
	if err != nil {
		return nil, err
	}
	if o.Retain > 0 && !o.Paged {
		// A topic has a window from its first reader on.
		if _, err := h.Subscribe(ctx, topic, hub.Latest()); err != nil {
			return nil, err
		}
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	if o.Ordinary {
		router.Use(wrap)
	}
	options := ginsse.Options{Detach: o.Detached}
	if err := ginsse.Mount(router, ginsse.SSE[struct{}]("/events").Options(options).Topic(h, topic)); err != nil {
		return nil, err
	}
	return &peer.Server{
		Handler: router,
		Path:    "/events",
		Publish: func(data []byte) (string, error) {
			id, err := h.Publish(ctx, topic, hub.Message{Data: data})
			return string(id), err
		},
	}, nil
}

func openBackend(ctx context.Context, o peer.Options) (hub.Backend, error) {
	if o.Retain > 0 && strings.HasPrefix(o.Backend, "memory:") {
		return memory.New(memory.Options{MaxMessages: o.Retain + 1, MaxBytes: plenty, MaxTotalBytes: plenty}), nil
	}
	return backends.Open(ctx, o.Backend)
}

func hubOptions(o peer.Options) hub.Options {
	if o.Retain == 0 || o.Paged {
		return hub.Options{}
	}
	return hub.Options{Window: o.Retain + 1, WindowBytes: plenty, TotalBytes: plenty}
}

// wrap is the least that a middleware with a response writer of its own does. A connection under it is not known to be what it seems,
// and takes the path that works for all.
func wrap(c *gin.Context) { c.Writer = writer{c.Writer} }

type writer struct{ gin.ResponseWriter }

func (w writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
