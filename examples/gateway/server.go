package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
)

// newServer returns the HTTP server of a hub; o are the options of its streams.
func newServer(h *hub.Hub, o ginsse.Options) (*http.Server, error) {
	// No logger: what of a request may be logged is for whoever runs this to decide.
	router := gin.New()
	router.HandleMethodNotAllowed = true
	// A slash more or less is another topic.
	router.RedirectTrailingSlash = false
	if err := router.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	router.Use(gin.Recovery())
	router.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "there is nothing here") })
	router.NoMethod(func(c *gin.Context) { fail(c, http.StatusMethodNotAllowed, "this method is not for this path") })
	router.GET("/", func(c *gin.Context) {
		c.Header("X-Content-Type-Options", "nosniff")
		c.String(http.StatusOK, "%s", usage("http://"+c.Request.Host))
	})
	if err := ginsse.Mount(router, &gateway{hub: h, options: o}); err != nil {
		return nil, err
	}
	return &http.Server{
		// A page of another site must not publish through the browser of somebody inside.
		Handler: http.NewCrossOriginProtection().Handler(router),
		// Against clients that take their time or send without end. Streams outlive WriteTimeout:
		// they set a deadline for each write.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}, nil
}

// stop ends the streams first, because the server would wait for them, and then the server.
func stop(ctx context.Context, h *hub.Hub, s *http.Server) error {
	err := h.Shutdown(ctx)
	if shutdown := s.Shutdown(ctx); shutdown != nil {
		err = errors.Join(err, shutdown, s.Close())
	}
	return err
}

// usage is a short introduction by examples.
func usage(base string) string {
	return fmt.Sprintf(`gateway: %[1]s/

  follow     curl -N %[1]s/topics/news
  publish    curl -d 'hello' '%[1]s/topics/news?type=greeting'
  only once  curl -d 'paid' -H 'Idempotency-Key: invoice-7' %[1]s/topics/invoices/7
  resume     curl -N -H 'Last-Event-ID: ID' %[1]s/topics/news
  bytes      curl --data-binary @photo.jpg -H 'Content-Type: application/octet-stream' %[1]s/topics/photos
`, base)
}
