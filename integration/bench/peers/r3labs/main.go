// Command r3labs is r3labs/sse.
package main

import (
	"github.com/r3labs/sse/v2"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

const stream = "load"

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	server := sse.New()
	// It replays everything there ever was, to each client that states no other wish, or nothing at all.
	server.AutoReplay = o.Retain > 0
	server.CreateStream(stream)
	return &peer.Server{
		Handler: server,
		Path:    "/events?stream=" + stream,
		Publish: func(data []byte) (string, error) {
			server.Publish(stream, &sse.Event{Data: data})
			return "", nil
		},
	}, nil
}
