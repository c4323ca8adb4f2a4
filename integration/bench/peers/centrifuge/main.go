// Command centrifuge is the library of Centrifugo: its SSE handler with a subscription that the server makes, so that the client has
// nothing to send. The broker is the one in memory.
package main

import (
	"context"
	"net/url"

	"github.com/centrifugal/centrifuge"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

const channel = "load"

func main() { peer.Main(open) }

func open(peer.Options) (*peer.Server, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{},
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {}},
		}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	// A client that only reads cannot answer a ping.
	handler := centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1},
	})
	return &peer.Server{
		Handler: handler,
		Path:    "/events?cf_connect=" + url.QueryEscape(`{"id":1,"connect":{}}`),
		Publish: func(data []byte) (string, error) {
			_, err := node.Publish(channel, data)
			return "", err
		},
	}, nil
}
