package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

// smallBuffer is little enough to be full soon, and enough for TCP to go on at once when the client
// reads.
const smallBuffer = 4 << 10

// departures are the ways a client leaves in the middle of what the server writes. reads says that
// it has read on before; the others' connections are full.
var departures = []struct {
	name  string
	reads bool
	leave func(*raw)
}{
	{"reset", false, (*raw).reset},
	{"unread", false, func(c *raw) { _ = c.Close() }}, // which resets too, because there is data that nobody will read
	{"half", false, func(c *raw) { _ = c.CloseWrite() }},
	{"close", true, func(c *raw) { _ = c.Close() }},
	{"half-reading", true, func(c *raw) { _ = c.CloseWrite() }},
}

// TestResetsMidWrite: clients that leave in every way, most of them while a write to them is stuck,
// leave nothing behind and hold nobody up.
func TestResetsMidWrite(t *testing.T) {
	clients := testenv.Sized(60, 300)
	// Much more than a connection holds, and then messages during which the clients leave.
	const fill, leaving, size = 48, 48, 8 << 10
	// No heartbeat, rotation or timeout comes to the help of a stream that does not notice: what it
	// waits for is the end of the client, or the end of the test.
	o := feed.Options{Heartbeat: time.Hour, NoRotation: true, WriteTimeout: time.Hour}
	onEachWay(t, o, memory.Options{}, hub.Options{}, func(t *testing.T, l *lab) {
		before := l.holding(t)
		g := l.follow(t, 4)
		all := make([]*raw, clients)
		names := make([]string, clients)
		inParallel(t, clients, func(i int) (err error) {
			names[i] = fmt.Sprint(departures[i%len(departures)].name, "-", i)
			if all[i], err = openRaw(l.address(), "/clients/"+names[i], smallBuffer, 0); err == nil {
				_, err = io.CopyN(io.Discard, all[i].body, rand.Int64N(60)) // not beyond the checkpoint, which nothing need follow
			}
			return err
		})
		g.publish(t, fill, size)
		for _, name := range names {
			if e := l.ends(name); len(e) > 0 {
				t.Errorf("%s has ended before its client left: %v", name, e[0].Cause)
			}
		}

		var gone sync.WaitGroup
		leaveAt := rand.Perm(clients)
		for i := range leaving {
			g.publish(t, 1, size)
			for client := range clients {
				if leaveAt[client]%leaving != i {
					continue
				}
				gone.Go(func() {
					departure, c := departures[client%len(departures)], all[client]
					if departure.reads {
						if _, err := io.CopyN(io.Discard, c.body, rand.Int64N(fill*size)); err != nil {
							t.Errorf("%s: %v", names[client], err)
						}
					}
					departure.leave(c)
				})
			}
		}
		gone.Wait()
		if l.way.direct {
			// A client that has closed its side is gone, though its connection takes the server's
			// word that it is not.
			l.allEnded(t, names)
		}
		for _, c := range all {
			_ = c.Close() // the ordinary way looks for the client's end between writes only
		}
		g.leave(t)
		l.settled(t, append(names, g.names...), before, feed.ErrClientGone, feed.ErrWriteFailed)
		for i, name := range names {
			if e := l.ends(name)[0]; !departures[i%len(departures)].reads && e.Events >= fill {
				t.Errorf("%s: its connection took %d of %d messages, so it was not full", name, e.Events, fill)
			}
		}
	})
}
