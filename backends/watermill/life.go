package watermill

import (
	"context"
	"fmt"

	"github.com/headrace/headrace/hub"
)

// positionless is what a backend over a Pub/Sub cannot do: brokers have no positions that Watermill
// knows, and take nothing back. Hubs do not ask, by the traits; whoever does gets
// hub.ErrUnsupported.
type positionless struct{}

// PublishAll implements hub.Backend.
func (positionless) PublishAll(_ context.Context, topic string, _ []hub.Message) ([]hub.ID, error) {
	return nil, opError("publish", topic, fmt.Errorf("%w: %w", hub.ErrRejected, hub.ErrUnsupported))
}

// Seek implements hub.Backend.
func (positionless) Seek(_ context.Context, topic string, _ hub.Seek) (hub.ID, error) {
	return "", unsupported("seek", topic)
}

// Info implements hub.Backend.
func (positionless) Info(_ context.Context, topic string) (hub.Info, error) {
	return hub.Info{}, unsupported("info", topic)
}

// Delete implements hub.Backend.
func (positionless) Delete(_ context.Context, topic string) error {
	return unsupported("delete", topic)
}

// Erase implements hub.Backend.
func (positionless) Erase(_ context.Context, topic string, _ hub.ID) error {
	return unsupported("erase", topic)
}

// IsID implements hub.Backend. Any valid ID may be one: Options.Decode chooses those of foreign
// messages.
func (positionless) IsID(id hub.ID) bool { return id.Valid() }

func unsupported(op, topic string) error { return opError(op, topic, hub.ErrUnsupported) }
