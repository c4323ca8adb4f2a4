package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// drainWindow is how long the ends of the streams are spread over when the server stops.
const drainWindow = time.Second

// server is the application: the HTTP server and what is behind it.
type server struct {
	*http.Server
	hub       *hub.Hub
	store     *store
	publisher *publisher
	drain     *feed.Drain
}

// newServer puts the application together; o are the options of its streams. stop releases it, with
// the hub.
func newServer(h *hub.Hub, orders *store, o ginsse.Options) (*server, error) {
	if o.Drain == nil {
		o.Drain = &feed.Drain{Window: drainWindow}
	}
	// The orders end with the process, the topics perhaps not. A page that comes back from the
	// process before has a cursor that this topic does not know, and gets a snapshot.
	all := hub.JoinTopic("shop", rand.Text())
	s := &server{hub: h, store: orders, publisher: newPublisher(h, orders, all), drain: o.Drain}
	router, err := newRouter(&controller{hub: h, store: orders, publisher: s.publisher, options: o})
	if err != nil {
		return nil, errors.Join(err, s.stop(context.Background()))
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
	s.RegisterOnShutdown(o.Drain.Begin)
	return s, nil
}

// newRouter has no logger: what belongs into a log of requests is the application's decision.
func newRouter(c *controller) (*gin.Engine, error) {
	router := gin.New()
	router.HandleMethodNotAllowed = true
	if err := router.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	router.Use(gin.Recovery(), secure)
	router.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "there is nothing here") })
	router.NoMethod(func(c *gin.Context) { fail(c, http.StatusMethodNotAllowed, "this method is not for this path") })
	pages.Serve(router, page)
	return router, c.Routes(router)
}

// secure sets the headers that do no response harm.
func secure(c *gin.Context) {
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
}

// stop ends everything: the server drains its streams and finishes its requests, which may still
// publish; then nothing is tried again; then the hub has no readers left. What is not done when ctx
// ends is cut off and reported.
func (s *server) stop(ctx context.Context) (err error) {
	if s.Server != nil {
		// The server does not wait for streams whose connections were taken over from it; the drain
		// waits for all.
		if err = errors.Join(s.Shutdown(ctx), s.drain.Wait(ctx)); err != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return errors.Join(err, s.publisher.close(), s.hub.Shutdown(ctx))
}
