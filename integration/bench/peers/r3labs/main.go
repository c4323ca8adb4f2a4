// Command r3labs is r3labs/sse. A connection of it has one stream, so there is nothing for several
// topics on one connection.
package main

import (
	"net/http"
	"net/url"

	"github.com/r3labs/sse/v2"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	server := sse.New()
	// It replays everything there ever was, to each client that states no other wish, or nothing at
	// all.
	server.AutoReplay = o.Retain > 0
	for _, topic := range o.Topics() {
		server.CreateStream(topic)
	}
	return &peer.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.RawQuery = url.Values{"stream": o.Follows(peer.Connection(r.URL.Path))}.Encode()
			server.ServeHTTP(w, r)
		}),
		Path: o.Path(),
		Publish: func(topic string, data []byte) (string, error) {
			server.Publish(topic, &sse.Event{Data: data})
			return "", nil
		},
	}, nil
}
