// Package redislog sends what go-redis logs to slog. Without it that goes to the standard error
// output, past the program's logger, and names the addresses of servers.
package redislog

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// UseSlog is for the whole process: go-redis has one logger. The lines have the level Debug, for
// there is one for each connection that fails; what an operator should know is logged by the
// backend.
func UseSlog() { redis.SetLogger(logger{}) }

type logger struct{}

// Printf implements the logger of go-redis.
func (logger) Printf(ctx context.Context, format string, args ...any) {
	if l := slog.Default(); l.Enabled(ctx, slog.LevelDebug) {
		l.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, args...))
	}
}
