package redisstream

import (
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// TestServerRefusesEverybody: calls fail with the reason where connections are taken and then
// refused, those without a deadline too.
func TestServerRefusesEverybody(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		secured, full := startServer(t, "--requirepass", "secret"), startServer(t, "--maxclients", "2")
		hold := redis.NewClient(&redis.Options{Addr: full.addr})
		defer hold.Close()
		taken := []*redis.Conn{hold.Conn(), hold.Conn()}
		for _, conn := range taken {
			defer conn.Close()
		}
		_ = full.Close() // it has one of the two
		waitFor(t, "all connections taken", func() bool {
			return taken[0].Ping(t.Context()).Err() == nil && taken[1].Ping(t.Context()).Err() == nil
		})
		for _, test := range []struct {
			addr string
			kind error
			text string
		}{{secured.addr, ErrDenied, ""}, {full.addr, ErrUnreachable, "too many clients"}} {
			r := newRig(t, test.addr, o)
			_, published := r.Publish(t.Context(), "t", hub.Message{})
			_, read := r.Read(t.Context(), "t", "", 1)
			_, _, followed := r.Follow(t.Context(), "t", &recorder{})
			for _, err := range []error{published, read, followed, r.Ping(t.Context())} {
				if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.text) {
					t.Errorf("%v, want %v %s", err, test.kind, test.text)
				}
			}
			if !errors.Is(published, hub.ErrRejected) {
				t.Errorf("%v, want ErrRejected", published)
			}
		}
	})
}
