// Command centrifuge is the library of Centrifugo: its SSE handler with subscriptions that the
// server makes, so that the client has nothing to send. The broker is the one in memory.
package main

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/centrifugal/centrifuge"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

func main() { peer.Main(open) }

func open(o peer.Options) (*peer.Server, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		// The client's data are its number.
		number, err := strconv.Atoi(string(e.Data))
		if err != nil {
			return centrifuge.ConnectReply{}, err
		}
		subscriptions := make(map[string]centrifuge.SubscribeOptions)
		for _, topic := range o.Follows(number) {
			subscriptions[topic] = centrifuge.SubscribeOptions{}
		}
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}, Subscriptions: subscriptions}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	// A client that only reads cannot answer a ping.
	handler := centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1},
	})
	const stand = "42"
	query := url.QueryEscape(`{"id":1,"connect":{"data":` + stand + `}}`)
	return &peer.Server{
		Handler: handler,
		Path:    "/events?cf_connect=" + strings.ReplaceAll(query, stand, peer.Number),
		Publish: func(topic string, data []byte) (string, error) {
			_, err := node.Publish(topic, data)
			return "", err
		},
	}, nil
}
