package redisstream

import (
	"context"

	"github.com/headrace/headrace/hub"
)

// Seek implements hub.Backend.
func (b *Backend) Seek(context.Context, string, hub.Seek) (hub.ID, error) {
	return "", hub.ErrUnsupported
}

// Info implements hub.Backend.
func (b *Backend) Info(context.Context, string) (hub.Info, error) {
	return hub.Info{}, hub.ErrUnsupported
}

// Delete implements hub.Backend.
func (b *Backend) Delete(context.Context, string) error { return hub.ErrUnsupported }

// Erase implements hub.Backend.
func (b *Backend) Erase(context.Context, string, hub.ID) error { return hub.ErrUnsupported }

// Ping implements hub.Backend.
func (b *Backend) Ping(context.Context) error { return nil }

// IsID implements hub.Backend.
func (b *Backend) IsID(hub.ID) bool { return true }
