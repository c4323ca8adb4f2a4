// Command ginstream is what Gin itself offers: c.Stream and c.SSEvent, with a channel for each client.
package main

import (
	"io"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

// queued is how many messages a client may lag behind before the publisher waits for it.
const queued = 256

func main() { peer.Main(open) }

func open(peer.Options) (*peer.Server, error) {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	b := &broker{clients: make(map[chan string]struct{})}
	router.GET("/events", b.serve)
	return &peer.Server{Handler: router, Path: "/events", Publish: b.publish}, nil
}

type broker struct {
	mu      sync.RWMutex
	clients map[chan string]struct{}
}

func (b *broker) serve(c *gin.Context) {
	messages := make(chan string, queued)
	b.mu.Lock()
	b.clients[messages] = struct{}{}
	b.mu.Unlock()
	defer func() {
		// A publisher that waits for this client holds the lock.
		go func() {
			for range messages {
			}
		}()
		b.mu.Lock()
		delete(b.clients, messages)
		b.mu.Unlock()
		close(messages)
	}()
	gone := c.Request.Context().Done()
	c.Stream(func(io.Writer) bool {
		select {
		case m := <-messages:
			c.SSEvent("message", m)
			return true
		case <-gone:
			return false
		}
	})
}

func (b *broker) publish(data []byte) (string, error) {
	m := string(data)
	b.mu.RLock()
	defer b.mu.RUnlock()
	for client := range b.clients {
		client <- m
	}
	return "", nil
}
