// Command watermill is the SSERouter of watermill-http, fed by Watermill's Pub/Sub in memory.
package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/ThreeDotsLabs/watermill"
	watermillhttp "github.com/ThreeDotsLabs/watermill-http/v2/pkg/http"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/headrace/headrace/integration/bench/internal/peer"
)

const topic = "load"

func main() { peer.Main(open) }

func open(peer.Options) (*peer.Server, error) {
	logger := watermill.NopLogger{}
	// Without the wait for Acks a publisher would fill memory with a goroutine for each message on
	// its way.
	upstream := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, logger)
	router, err := watermillhttp.NewSSERouter(watermillhttp.SSERouterConfig{
		UpstreamSubscriber: upstream,
		// The cheaper one of the two that it brings.
		Marshaler: watermillhttp.StringSSEMarshaler{},
	}, logger)
	if err != nil {
		return nil, err
	}
	handler := router.AddHandler(topic, adapter{})
	failed := make(chan error, 1)
	go func() { failed <- router.Run(context.Background()) }()
	select {
	case <-router.Running():
	case err := <-failed:
		return nil, fmt.Errorf("watermill: the router ended: %w", err)
	}
	return &peer.Server{
		Handler: handler,
		Path:    "/events",
		Publish: func(_ string, data []byte) (string, error) {
			return "", upstream.Publish(topic, message.NewMessage(watermill.NewUUID(), data))
		},
		Close: func() { _ = router.Close() },
	}, nil
}

// adapter sends each message as it is.
type adapter struct{}

func (adapter) InitialStreamResponse(http.ResponseWriter, *http.Request) (any, bool) {
	return "{}", true
}

func (adapter) NextStreamResponse(_ *http.Request, m *message.Message) (any, bool) {
	return string(m.Payload), true
}
