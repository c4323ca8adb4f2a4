package pages

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"
)

// connectionKey is where the context of a request has the connection that it came on.
type connectionKey struct{}

// WithConnection is the ConnContext of a server that uses Connections.
func WithConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// Connections are the open streams by client, so that a page can have its own broken off and show
// what follows. They are for demonstrations: a network that fails when asked to is hard to come by.
// Its methods are safe for concurrent use. The zero value is ready.
type Connections struct {
	mu       sync.Mutex
	byClient map[string]map[*stream]struct{}
}

type stream struct {
	drop func()
	gone chan struct{} // closed when the handler has returned
}

// Track is middleware of routes that stream. A client names itself by the query parameter client,
// at random; without one it is not tracked.
func (s *Connections) Track(c *gin.Context) {
	client := c.Query("client")
	if client == "" {
		return
	}
	// Ending the context would end the response as if all had been said. This is what a cut cable
	// does.
	conn, ok := c.Request.Context().Value(connectionKey{}).(net.Conn)
	if !ok {
		return
	}
	remove := s.add(client, &stream{drop: func() { _ = conn.Close() }, gone: make(chan struct{})})
	defer remove()
	c.Next()
}

func (s *Connections) add(client string, st *stream) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byClient == nil {
		s.byClient = make(map[string]map[*stream]struct{})
	}
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

// Drop is a handler: it breaks off all streams of the client that the query names, and answers when
// they are gone.
func (s *Connections) Drop(c *gin.Context) {
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
