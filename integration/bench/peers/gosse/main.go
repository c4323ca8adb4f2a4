// Command gosse is tmaxmax/go-sse: its Server with Joe, the provider that it brings.
package main

import (
	"github.com/tmaxmax/go-sse"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	joe := &sse.Joe{}
	cursor := ""
	if o.Retain > 0 {
		// The cursor's own message is kept too, and is the first.
		replayer, err := sse.NewFiniteReplayer(o.Retain+1, true)
		if err != nil {
			return nil, err
		}
		joe.Replayer, cursor = replayer, "0"
	}
	server := &sse.Server{Provider: joe}
	return &peer.Server{
		Handler: server,
		Path:    "/events",
		Publish: func(data []byte) (string, error) {
			m := &sse.Message{}
			m.AppendData(string(data))
			return cursor, server.Publish(m)
		},
	}, nil
}
