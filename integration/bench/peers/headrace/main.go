// Command headrace is this module: a feed as a Gin route, or as a handler of net/http.
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
	"github.com/headrace/headrace/integration/bench/internal/wrap"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// plenty is more bytes than any measurement keeps.
const plenty = 4 << 30

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
		for _, topic := range o.Topics() {
			if _, err := h.Subscribe(ctx, topic, hub.Latest()); err != nil {
				return nil, err
			}
		}
	}
	serve := route[struct{}]
	switch {
	case o.Plain:
		serve = plain
	case strings.Contains(o.Path(), peer.Number):
		serve = route[struct{ N int }]
	}
	handler, err := serve(h, o)
	if err != nil {
		return nil, err
	}
	return &peer.Server{
		Handler: handler,
		Path:    o.Path(),
		Publish: func(topic string, data []byte) (string, error) {
			id, err := h.Publish(ctx, topic, hub.Message{Data: data})
			return string(id), err
		},
	}, nil
}

// route returns a Gin router with a feed, on a path with the parameters P.
func route[P any](h *hub.Hub, o peer.Options) (http.Handler, error) {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	if o.Wrapped {
		router.Use(wrap.Gin)
	}
	r := ginsse.SSE[P](strings.ReplaceAll(o.Path(), peer.Number, ":n")).Options(ginsse.Options{Detach: o.Detached})
	if o.Width == 1 && o.Spread == 0 {
		r.Topic(h, o.Topics()[0])
	} else {
		r.TopicsFunc(h, func(c *ginsse.Context[P]) ([]string, error) {
			return o.Follows(peer.Connection(c.Request().URL.Path)), nil
		})
	}
	if o.Filter {
		r.Filter(func(_ *ginsse.Context[P], topic string, m *hub.Message) bool { return keep(topic, m) })
	}
	if o.Map {
		r.Map(func(_ *ginsse.Context[P], topic string, m *hub.Message) []sse.Event { return same(topic, m) })
	}
	return router, ginsse.Mount(router, r)
}

// plain returns the same feed as a handler of net/http.
func plain(h *hub.Hub, o peer.Options) (http.Handler, error) {
	handler := feed.HandlerFunc(func(r *http.Request) (feed.Feed, error) {
		f := feed.Feed{Hub: h, Topics: o.Follows(peer.Connection(r.URL.Path))}
		if o.Filter {
			f.Filter = keep
		}
		if o.Map {
			f.Map = same
		}
		return f, nil
	}, feed.Options{Detach: o.Detached})
	if o.Wrapped {
		handler = wrap.Handler(handler)
	}
	return handler, nil
}

// keep and same let each message pass but an empty one, which is never measured.

func keep(_ string, m *hub.Message) bool { return len(m.Data) > 0 }

func same(_ string, m *hub.Message) []sse.Event {
	if len(m.Data) == 0 {
		return nil
	}
	return []sse.Event{{Type: m.Type, Data: m.Data}}
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
