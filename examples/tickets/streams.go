package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// errDropped is why the context of a stream ends that was dropped.
var errDropped = errors.New("tickets: the connection was dropped on request")

// streams are the open streams by client, so that a page can have its own broken off and show what follows. It is for this demonstration: closing an
// EventSource in the page would make it forget its last event ID, and a network that fails when asked to is hard to come by.
type streams struct {
	mu       sync.Mutex
	byClient map[string]map[*stream]struct{}
}

type stream struct {
	drop func()
	gone chan struct{} // closed when the handler has returned
}

func newStreams() *streams { return &streams{byClient: make(map[string]map[*stream]struct{})} }

// track is middleware of routes that stream. The page names itself by the query parameter client, at random.
func (s *streams) track(c *gin.Context) {
	client := c.Query("client")
	if client == "" {
		return
	}
	ctx, cancel := context.WithCancelCause(c.Request.Context())
	defer cancel(nil)
	c.Request = c.Request.WithContext(ctx)
	remove := s.add(client, &stream{drop: func() { cancel(errDropped) }, gone: make(chan struct{})})
	defer remove()
	c.Next()
	if errors.Is(context.Cause(ctx), errDropped) {
		// The server would end the response as if all had been said. With this it cannot, and closes the connection, as a cut cable does.
		_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Unix(1, 0))
	}
}

func (s *streams) add(client string, st *stream) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byClient[client] == nil {
		s.byClient[client] = make(map[*stream]struct{})
	}
	s.byClient[client][st] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byClient[client], st)
		if len(s.byClient[client]) == 0 {
			delete(s.byClient, client)
		}
		close(st.gone)
	}
}

// drop breaks off all streams of a client, and answers when they are gone.
func (s *streams) drop(c *gin.Context) {
	s.mu.Lock()
	var dropped []*stream
	for st := range s.byClient[c.Query("client")] {
		dropped = append(dropped, st)
	}
	s.mu.Unlock()
	for _, st := range dropped {
		st.drop()
	}
	for _, st := range dropped {
		select {
		case <-st.gone:
		case <-c.Request.Context().Done():
			return
		}
	}
	c.JSON(http.StatusOK, gin.H{"dropped": len(dropped)})
}
