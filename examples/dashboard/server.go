package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// drainWindow is what the ends of streams are spread over when the server stops.
const drainWindow = time.Second

// server is the application: the HTTP server and what is behind it.
type server struct {
	*http.Server
	hub   *hub.Hub
	drain *feed.Drain
}

// newServer puts the application together; limits bound its streams. stop releases it, with the
// hub.
func newServer(h *hub.Hub, limits *feed.Limits) (*server, error) {
	s := &server{hub: h, drain: &feed.Drain{Window: drainWindow}}
	router, err := newRouter(&controller{hub: h, drain: s.drain, limits: limits})
	if err != nil {
		return nil, err
	}
	s.Server = &http.Server{
		// A page of another site must not sign somebody in here.
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
	s.RegisterOnShutdown(s.drain.Begin)
	return s, nil
}

// newRouter has no logger: what belongs into a log of requests is the application's decision.
func newRouter(d *controller) (*gin.Engine, error) {
	router := gin.New()
	router.HandleMethodNotAllowed = true
	if err := router.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	router.Use(gin.Recovery(), secure, authenticate)
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

func fail(c *gin.Context, code int, text string) {
	c.AbortWithStatusJSON(code, gin.H{"error": text})
}

// stop stops the server, which has the streams end and waits for them, and then the hub, which has
// no readers left.
func (s *server) stop(ctx context.Context) error {
	// The server does not wait for streams whose connections were taken over from it; the drain
	// waits for all.
	err := errors.Join(s.Shutdown(ctx), s.drain.Wait(ctx))
	if err != nil {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, s.hub.Shutdown(ctx))
}
