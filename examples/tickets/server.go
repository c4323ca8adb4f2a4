package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/hub"
)

// outboxTimeout is how long a stopping server goes on publishing.
const outboxTimeout = 3 * time.Second

// server is the application: the HTTP server and what is behind it.
type server struct {
	*http.Server
	hub     *hub.Hub
	tickets store
}

// newServer puts the application together. stop releases it, with the hub and the store.
func newServer(h *hub.Hub, tickets store) (*server, error) {
	s := &server{hub: h, tickets: tickets}
	router, err := newRouter(newTicketController(h, tickets))
	if err != nil {
		return nil, errors.Join(err, s.stop(context.Background()))
	}
	s.Server = &http.Server{
		// Pages of other sites can make a browser send requests here; those that change something are refused.
		Handler: http.NewCrossOriginProtection().Handler(router),
		// Against clients that take their time or send without end. Streams outlive WriteTimeout: they set a deadline for each write.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return s, nil
}

// newRouter has no logger: what belongs into a log of requests, and what in a query must stay out of it, is the application's decision.
func newRouter(tickets *ticketController) (*gin.Engine, error) {
	router := gin.New()
	router.HandleMethodNotAllowed = true
	if err := router.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	router.Use(gin.Recovery(), secure)
	router.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "there is nothing here") })
	router.NoMethod(func(c *gin.Context) { fail(c, http.StatusMethodNotAllowed, "this method is not for this path") })
	router.GET("/", showPage)
	return router, tickets.Routes(router)
}

// secure sets the headers that do no response harm.
func secure(c *gin.Context) {
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
}

// stop ends everything, in the order in which nothing is lost: the changes that were accepted are published, while there is a hub to publish to; the hub ends the streams, whose
// clients are told when to come back and ask then for what they have not got; the server, which would wait for the streams, waits for what is left. What is not done when ctx ends
// is cut off and reported.
func (s *server) stop(ctx context.Context) error {
	// A backend that is away must not use up the time of the streams.
	publishing, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	err := errors.Join(s.tickets.close(publishing), s.hub.Shutdown(ctx))
	if s.Server == nil {
		return err
	}
	if shutdown := s.Shutdown(ctx); shutdown != nil {
		err = errors.Join(err, shutdown, s.Close())
	}
	return err
}
