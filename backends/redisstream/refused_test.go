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
			calls := map[string]func() error{
				"Publish": func() error { _, err := r.Publish(t.Context(), "t", hub.Message{}); return err },
				"Read":    func() error { _, err := r.Read(t.Context(), "t", "", 1); return err },
				"Follow":  func() error { _, _, err := r.Follow(t.Context(), "t", &recorder{}); return err },
				"Ping":    func() error { return r.Ping(t.Context()) },
			}
			for name, call := range calls {
				// Where the command arrives behind the refusal, the system resets the connection, and
				// the reason may be lost with that.
				waitFor(t, name+" that says why", func() bool {
					err := call()
					if !errors.Is(err, test.kind) || name == "Publish" && !errors.Is(err, hub.ErrRejected) {
						t.Fatalf("%s: %v, want %v", name, err, test.kind)
					}
					return strings.Contains(err.Error(), test.text)
				})
			}
		}
	})
}
