// Command ginstream is what Gin itself offers: c.Stream and c.SSEvent, with a channel for each
// client.
package main

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/integration/bench/internal/peer"
	"github.com/headrace/headrace/integration/bench/internal/wrap"
)

// queued is how many messages a client may lag behind before the publisher waits for it.
const queued = 256

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	if o.Wrapped {
		router.Use(wrap.Gin)
	}
	b := &broker{options: o, topics: make(map[string]clients)}
	router.GET(strings.ReplaceAll(o.Path(), peer.Number, ":n"), b.serve)
	return &peer.Server{Handler: router, Path: o.Path(), Publish: b.publish}, nil
}

type clients map[chan string]struct{}

type broker struct {
	options peer.Options

	mu     sync.RWMutex
	topics map[string]clients
}

func (b *broker) serve(c *gin.Context) {
	messages := make(chan string, queued)
	topics := b.options.Follows(peer.Connection(c.Request.URL.Path))
	b.join(topics, messages)
	defer func() {
		// A publisher that waits for this client holds the lock.
		go func() {
			for range messages {
			}
		}()
		b.leave(topics, messages)
		close(messages)
	}()
	// A page sees at once that the stream is open.
	c.Header("Content-Type", "text/event-stream")
	c.Status(http.StatusOK)
	c.Writer.Flush()
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

func (b *broker) join(topics []string, messages chan string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range topics {
		if b.topics[topic] == nil {
			b.topics[topic] = make(clients)
		}
		b.topics[topic][messages] = struct{}{}
	}
}

func (b *broker) leave(topics []string, messages chan string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range topics {
		delete(b.topics[topic], messages)
		if len(b.topics[topic]) == 0 {
			delete(b.topics, topic)
		}
	}
}

func (b *broker) publish(topic string, data []byte) (string, error) {
	m := string(data)
	b.mu.RLock()
	defer b.mu.RUnlock()
	for client := range b.topics[topic] {
		client <- m
	}
	return "", nil
}
