package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/examples/internal/pages"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

const (
	// drainWindow is what the ends of streams are spread over when the server stops. It could be
	// longer if nobody waited for it at a terminal.
	drainWindow = 2 * time.Second
	// serverTimeout is how long a stopping server waits for its streams, and for requests. The
	// backend being away must not matter then, nor slow clients afterwards. It is more than the six
	// seconds for which http.Server.Shutdown waits for connections that browsers have opened ahead
	// of any request.
	serverTimeout = 7 * time.Second
	// outboxTimeout is how long a stopping server goes on publishing.
	outboxTimeout = 3 * time.Second
)

// server is the application: the HTTP server and what is behind it.
type server struct {
	*http.Server
	hub     *hub.Hub
	tickets store
	drain   *feed.Drain
}

// newServer puts the application together. stop releases it, with the hub and the store.
func newServer(h *hub.Hub, tickets store, agents sessions, o settings) (*server, error) {
	s := &server{hub: h, tickets: tickets, drain: &feed.Drain{Window: drainWindow}}
	router, err := newRouter(newTicketController(h, tickets, agents, s.drain, o))
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
	s.RegisterOnShutdown(s.drain.Begin)
	return s, nil
}

// newRouter has no logger: what belongs into a log of requests, and what in a query must stay out
// of it, is the application's decision.
func newRouter(tickets *ticketController) (*gin.Engine, error) {
	router := gin.New()
	router.HandleMethodNotAllowed = true
	if err := router.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	router.Use(gin.Recovery(), secure)
	router.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "there is nothing here") })
	router.NoMethod(func(c *gin.Context) { fail(c, http.StatusMethodNotAllowed, "this method is not for this path") })
	pages.Serve(router, page)
	// What there is to follow, for people and for generators of clients.
	router.GET("/routes", func(c *gin.Context) { c.JSON(http.StatusOK, ginsse.Describe(router)) })
	return router, tickets.Routes(router)
}

// secure sets the headers that do no response harm.
func secure(c *gin.Context) {
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
}

// stop ends everything, in the order in which nothing is lost: the server takes no more requests
// and ends its streams one after the other, whose clients come back to another instance and ask
// there for what they have not got; when no change can be made any more, those that were accepted
// are published; then nobody needs the hub. What is not done when its time is over, or ctx ends, is
// cut off and reported.
func (s *server) stop(ctx context.Context) error {
	var err error
	if s.Server != nil {
		ending, cancel := context.WithTimeout(ctx, serverTimeout)
		defer cancel()
		// The server does not wait for streams whose connections were taken over from it; the drain
		// waits for all.
		if err = errors.Join(s.Shutdown(ending), s.drain.Wait(ending)); err != nil {
			err = errors.Join(err, s.Close())
		}
	}
	publishing, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	return errors.Join(err, s.tickets.close(publishing), s.hub.Shutdown(ctx))
}
