package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// commandsTimeout is how long a stopping server goes on with the commands that it has accepted.
const commandsTimeout = 3 * time.Second

// server is the application: the HTTP server and what is behind it.
type server struct {
	*http.Server
	hub   *hub.Hub
	buses *buses
}

// newServer puts the application together, with its handlers running; limits bound its streams.
// stop releases it, with the hub; so does newServer when it fails.
func newServer(ctx context.Context, h *hub.Hub, limits *feed.Limits) (*server, error) {
	// What Watermill says of every message is more than an operator wants to read.
	levels := map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug}
	b, err := newBuses(h, wm.NewSlogLoggerWithLevelMapping(slog.Default(), levels))
	if err == nil {
		err = b.run(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, h.Shutdown(ctx))
	}
	s := &server{hub: h, buses: b}
	router, err := newRouter(&controller{hub: h, buses: b, limits: limits})
	if err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	s.Server = &http.Server{
		// Pages of other sites can make a browser send requests here; those that change something
		// are refused.
		Handler: http.NewCrossOriginProtection().Handler(router),
		// Against clients that take their time or send without end. Streams outlive WriteTimeout:
		// they set a deadline for each write.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       pages.WithConnection,
	}
	return s, nil
}

// newRouter has no logger: what belongs into a log of requests is the application's decision.
func newRouter(d *controller) (*gin.Engine, error) {
	router := gin.New()
	router.HandleMethodNotAllowed = true
	if err := router.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	router.Use(gin.Recovery(), secure)
	router.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "there is nothing here") })
	router.NoMethod(func(c *gin.Context) { fail(c, http.StatusMethodNotAllowed, "this method is not for this path") })
	pages.Serve(router, page)
	return router, d.Routes(router)
}

// secure sets the headers that do no response harm.
func secure(c *gin.Context) {
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
}

// stop ends everything, in the order in which nothing is lost: the commands that were accepted are
// decided and their events published, while there is a hub to publish to; the hub ends the streams;
// the server, which would wait for the streams, waits for what is left. What is not done when ctx
// ends is cut off and reported.
func (s *server) stop(ctx context.Context) error {
	// A backend that is away must not use up the time of the streams.
	deciding, cancel := context.WithTimeout(ctx, commandsTimeout)
	defer cancel()
	err := errors.Join(s.buses.close(deciding), s.hub.Shutdown(ctx))
	if s.Server == nil {
		return err
	}
	if shutdown := s.Shutdown(ctx); shutdown != nil {
		err = errors.Join(err, shutdown, s.Close())
	}
	return err
}
