package main

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"
)

// connectionKey is where the context of a request has the connection that it came on.
type connectionKey struct{}

// withConnection is the server's ConnContext.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

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
	// Ending the context would end the response as if all had been said. This is what a cut cable does.
	conn, ok := c.Request.Context().Value(connectionKey{}).(net.Conn)
	if !ok {
		return
	}
	remove := s.add(client, &stream{drop: func() { _ = conn.Close() }, gone: make(chan struct{})})
	defer remove()
	c.Next()
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
