package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse"
)

// replica is a client's copy of the model, made of snapshots and messages. It trusts nothing else.
type replica struct {
	model *model
	state counters
	whole bool // a snapshot has come since the last gap
	last  int  // the version of the message before; 0 if none came since the snapshot

	snapshots, gaps, again, applied int
}

// take takes an event over and compares the replica with the model as it was at that version.
func (r *replica) take(e sse.Event) error {
	switch e.Type {
	case "snapshot":
		return r.load([]byte(e.Text()))
	case "gap":
		r.gaps++
		r.whole = false
		return nil
	case "":
	default:
		return fmt.Errorf("an event of type %q", e.Type)
	}
	var c change
	if err := json.Unmarshal([]byte(e.Text()), &c); err != nil {
		return err
	}
	switch {
	case !r.whole:
		return fmt.Errorf("message %d between gap and snapshot", c.Version)
	case r.last > 0 && c.Version != r.last+1:
		return fmt.Errorf("message %d after message %d", c.Version, r.last)
	case c.Version > r.state.Version+1:
		return fmt.Errorf("message %d after a snapshot of version %d", c.Version, r.state.Version)
	}
	r.last = c.Version
	if c.Version <= r.state.Version {
		r.again++
	} else {
		r.applied++
		r.state.apply(c)
	}
	return r.compare()
}

func (r *replica) load(document []byte) error {
	var state counters
	if err := json.Unmarshal(document, &state); err != nil {
		return err
	}
	if state.Version < r.state.Version {
		return fmt.Errorf("a snapshot of version %d for a client that has %d", state.Version, r.state.Version)
	}
	r.state, r.whole, r.last = state, true, 0
	r.snapshots++
	return r.compare()
}

func (r *replica) compare() error {
	if want, ok := r.model.at(r.state.Version); !ok || r.state != want {
		return fmt.Errorf("the state is %v, the model's was %v", r.state, want)
	}
	return nil
}

// race is a model, a server with its feed, and clients.
type race struct {
	t      *testing.T
	model  *model
	server *httptest.Server
	buffer int // of each side of a connection, in bytes; 0: as the system has it

	mu     sync.Mutex
	total  replica // the sums of all clients
	open   map[*stream]bool
	failed bool
}

// newRace starts the server. With a buffer, connections hold little, so that a client that does not
// read is soon behind.
func newRace(t *testing.T, retain memory.Options, window, buffer int) *race {
	t.Helper()
	h := newHub(t, retain, hub.Options{Window: window})
	r := &race{t: t, model: newModel(h), buffer: buffer, open: make(map[*stream]bool)}
	router := gin.New()
	// Clients that do not read are part of the test, however slow the machine is.
	options := ginsse.Options{WriteTimeout: time.Hour, Logger: quiet}
	route := ginsse.SSE[struct{}]("/model").Options(options).Topic(h, modelTopic).Snapshot(r.model.snapshot)
	if err := ginsse.Mount(router, route); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(router)
	if buffer > 0 {
		r.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			_ = c.(*net.TCPConn).SetWriteBuffer(buffer)
			return ctx
		}
	}
	r.server.Start()
	t.Cleanup(r.server.Close)
	return r
}

// run has the clients run while the model changes. It is over when all clients are.
func (r *race) run(clients int, client func(i int, rng *rand.Rand, replica *replica) error) {
	r.t.Helper()
	seed := rand.Uint64()
	r.t.Logf("seed %d", seed)
	var writer, readers sync.WaitGroup
	writer.Go(func() { r.model.run(r.t) })
	for i := range clients {
		readers.Go(func() {
			own := replica{model: r.model}
			if err := client(i, rand.New(rand.NewPCG(seed, uint64(i))), &own); err != nil && !errors.Is(err, errFailed) {
				r.t.Errorf("client %d: %v", i, err)
				r.fail()
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.total.snapshots += own.snapshots
			r.total.gaps += own.gaps
			r.total.again += own.again
			r.total.applied += own.applied
		})
	}
	readers.Wait()
	r.model.change(func() { r.model.done = true })
	writer.Wait()
	r.t.Logf("%d clients, %d versions: %d snapshots, %d gaps, %d messages applied, %d known already",
		clients, r.model.published, r.total.snapshots, r.total.gaps, r.total.applied, r.total.again)
}

var errFailed = errors.New("another client has failed")

// fail ends what the other clients do: nothing more will come for them.
func (r *race) fail() {
	r.model.change(func() { r.model.done = true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	for s := range r.open {
		s.drop()
	}
}

// connect opens the feed, has a client read it, and drops it.
func (r *race) connect(path, cursor string, read func(*stream) error) error {
	s, err := open(r.server, path, cursor, r.buffer)
	if err != nil {
		return err
	}
	defer s.drop()
	r.mu.Lock()
	failed := r.failed
	r.open[s] = true
	r.mu.Unlock()
	if failed {
		return errFailed
	}
	err = read(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, s)
	if r.failed && err != nil {
		err = errFailed
	}
	return err
}

// document begins with the state as JSON and returns the cursor for the stream.
func (r *race) document(replica *replica) (cursor string, err error) {
	req, err := http.NewRequest(http.MethodGet, r.server.URL+"/model", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := r.server.Client().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	return resp.Header.Get("Last-Event-ID"), replica.load(body)
}

// TestSnapshotRace: the state that a client makes of a snapshot and the messages after it is the
// model's at every event, at whatever moment the client comes, comes back or leaves.
func TestSnapshotRace(t *testing.T) {
	const ahead, each = 20_000, 100
	clients, versions := testenv.Sized(10, 500), testenv.Sized(1000, 20_000) // that they are spread over
	r := newRace(t, roomy(3*ahead), 64, 0)
	m := r.model
	// Retained is more than the model is ahead of the slowest client, so there are no gaps.
	seen := make([]int, clients) // 0: is not there
	m.hold = func() bool {
		if len(m.history)%64 > 0 {
			return false
		}
		for _, version := range seen {
			if version > 0 && len(m.history)-version > ahead {
				return true
			}
		}
		return false
	}
	r.run(clients, func(i int, rng *rand.Rand, replica *replica) error {
		m.wait(0, rng.IntN(versions), false)
		m.change(func() { seen[i] = max(1, m.published) })
		defer m.change(func() { seen[i] = 0 })
		cursor, path := "", "/model"
		if i%3 == 0 {
			var err error
			if cursor, err = r.document(replica); err != nil {
				return err
			}
			cursor, path = "", "/model?lastEventId="+cursor
		}
		for left := each; left > 0; path = "/model" {
			err := r.connect(path, cursor, func(s *stream) error {
				for reads := 1 + rng.IntN(each); reads > 0 && left > 0; reads-- {
					e, err := s.Decode()
					if err == nil {
						err = replica.take(e)
					}
					if err != nil {
						return err
					}
					cursor = e.ID
					m.change(func() { seen[i] = max(1, replica.last, seen[i]) })
					left--
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if replica.snapshots != 1 || replica.gaps > 0 {
			return fmt.Errorf("%d snapshots, %d gaps; want one and none", replica.snapshots, replica.gaps)
		}
		if replica.again == 0 {
			return errors.New("no message was in the snapshot already: the place was not fixed before it")
		}
		return nil
	})
}

// TestSnapshotRaceGaps: the same where messages are lost: all that a client needs is in the gap and
// the snapshot that follows.
func TestSnapshotRaceGaps(t *testing.T) {
	const retained, burst, stall, rounds = 200, 500, 2000, 3
	clients, versions := testenv.Sized(10, 500), testenv.Sized(1000, 20_000) // that they are spread over
	r := newRace(t, memory.Options{MaxMessages: retained}, 50, 64<<10)
	m := r.model
	// The model changes in bursts, with a pause for somebody to come close: so some clients keep up
	// for a while, and others do not.
	reading, newest, pause := 0, 0, 0
	m.hold = func() bool {
		if len(m.history) < pause {
			return false
		}
		if reading > 0 && newest < pause-50 {
			return true
		}
		pause = len(m.history) + 1 + rand.IntN(burst)
		return false
	}
	r.run(clients, func(i int, rng *rand.Rand, replica *replica) error {
		cursor := ""
		// read reads until the client has all that it needs, and enough.
		read := func(s *stream, enough func() bool) error {
			m.change(func() { reading++ })
			defer m.change(func() { reading-- })
			for !replica.whole || !enough() {
				e, err := s.Decode()
				if err == nil {
					err = replica.take(e)
				}
				if err != nil {
					return err
				}
				if e.Type == "gap" && e.ID != cursor && e.ID != "" {
					return fmt.Errorf("a gap moved the cursor from %s to %s: a client that drops before the snapshot would never get it", cursor, e.ID)
				}
				if e.ID != "" {
					cursor = e.ID
				}
				m.change(func() { newest = max(newest, replica.state.Version) })
			}
			return nil
		}
		further := func(more int) func() bool {
			version := replica.state.Version + more
			return func() bool { return replica.state.Version >= version }
		}
		m.wait(0, rng.IntN(versions), false)
		if i%3 == 0 {
			var err error
			if cursor, err = r.document(replica); err != nil {
				return err
			}
		}
		for range rounds {
			err := r.connect("/model", cursor, func(s *stream) error {
				err := read(s, further(1+rng.IntN(50)))
				if err == nil && rng.IntN(3) == 0 {
					// Stop reading, until far more was published than the connection and the
					// backend hold.
					m.wait(-1, stall, false)
					err = read(s, further(stall))
				}
				return err
			})
			if err != nil {
				return err
			}
			if rng.IntN(2) == 0 {
				// Come back when the backend has dropped what comes after the cursor. The hub may
				// have it still, for a moment.
				m.wait(-1, 5*retained, false)
			}
		}
		// How many gaps and messages that makes depends on how fast everything is. Each client has
		// one of both, however long it takes.
		for replica.gaps == 0 || replica.applied == 0 {
			if replica.gaps == 0 {
				m.wait(-1, 5*retained, false)
			}
			// One event at least, which may be a gap.
			began := false
			enough := func() bool {
				defer func() { began = true }()
				return began && (replica.gaps == 0 || replica.applied > 0)
			}
			if err := r.connect("/model", cursor, func(s *stream) error { return read(s, enough) }); err != nil {
				return err
			}
		}
		return nil
	})
	if r.total.gaps < clients || r.total.applied < clients {
		t.Errorf("%d gaps and %d messages applied for %d clients prove little", r.total.gaps, r.total.applied, clients)
	}
}
