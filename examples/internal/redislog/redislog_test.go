package redislog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

func TestUseSlog(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	defer logging.Enable() // go-redis' own logger
	UseSlog()
	for level, want := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: false} {
		var out bytes.Buffer
		slog.SetDefault(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
		client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0", MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second})
		if err := client.Ping(t.Context()).Err(); err == nil {
			t.Error("somebody listens at port 0")
		}
		_ = client.Close()
		if got := strings.Contains(out.String(), "msg=go-redis text="); got != want {
			t.Errorf("at level %v: %q", level, out.String())
		}
	}
}
