// Package dial hands redisstream.Open a way to connect, from packages of this module that have a
// server of their own.
package dial

import (
	"context"
	"net"
)

// Func makes a connection, whatever the address.
type Func func(ctx context.Context, network, addr string) (net.Conn, error)

type key struct{}

// With returns a context under which Open makes connections by f.
func With(ctx context.Context, f Func) context.Context { return context.WithValue(ctx, key{}, f) }

// From returns what With was given, nil for none.
func From(ctx context.Context) Func {
	f, _ := ctx.Value(key{}).(Func)
	return f
}
