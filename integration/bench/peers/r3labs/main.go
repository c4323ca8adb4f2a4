// Command r3labs is r3labs/sse. A connection of it has one stream, so there is nothing for several
// topics on one connection.
package main

import (
	"github.com/r3labs/sse/v2"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	server := sse.New()
	// It replays everything there ever was, to each client that states no other wish, or nothing at
	// all.
	server.AutoReplay = o.Retain > 0
	topics := o.Topics()
	for _, topic := range topics {
		server.CreateStream(topic)
	}
	path := "/events?stream=" + topics[0]
	if o.Spread > 0 {
		path = "/events?stream=load/" + peer.Number
	}
	return &peer.Server{
		Handler: server,
		Path:    path,
		Publish: func(topic string, data []byte) (string, error) {
			server.Publish(topic, &sse.Event{Data: data})
			return "", nil
		},
	}, nil
}
