package redisstream_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// redisLog is a logger for go-redis.
type redisLog struct{}

func (redisLog) Printf(ctx context.Context, format string, args ...any) {
	slog.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, args...))
}

// What go-redis logs by itself goes to the standard error output, for the whole process. A program
// sends it to slog, here at a level that is not shown unless somebody asks for it.
func Example_goRedisLog() {
	redis.SetLogger(redisLog{})
}
