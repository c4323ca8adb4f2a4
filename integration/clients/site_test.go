package clients

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testenv.Main(m)
}

// patience is how long a test waits for what must happen. It is generous: it only matters when a
// test fails.
const patience = 30 * time.Second

const (
	topic    = "lines"
	feedPath = "/feed"
)

// published is a message as a client must get it.
type published struct{ Type, Data, ID string }

// report is what a client says. Its Kind is event (the client handed one over), shown (the text of
// a node that the page has got), read (a part of the stream) or end (the client has stopped for
// good).
type report struct {
	Kind, Type, Data, ID, State string
}

// text is what a page shows of a message.
func text(p published) string {
	return strings.TrimSuffix(strings.TrimPrefix(p.Data, "<li>"), "</li>")
}

// visit is one request to the feed.
type visit struct {
	cursor string
	status int
}

// setup is how a site differs from others.
type setup struct {
	start     hub.Position
	lifetime  time.Duration
	heartbeat time.Duration
	ending    feed.Ending
	retain    int                       // how many messages a client can catch up on
	fault     func(frame []byte) []byte // what becomes of each frame on its way to the client
	request   func(*http.Request)       // what becomes of each request on its way to the feed
}

// site is a server with one feed, with the pages of the clients, and with what they reported. It
// notices a message that a client got out of order, twice, changed or not at all as soon as the
// report of another one comes in.
type site struct {
	t     testing.TB
	hub   *hub.Hub
	url   string
	fault func([]byte) []byte
	asked func(*http.Request)
	shows bool // the client reports what it shows, too

	mu         sync.Mutex
	changed    chan struct{} // closed when anything below changes
	published  []published
	reports    []report // but for messages and nodes
	got        int      // so many of the published messages were reported,
	shown      int      // and so many nodes
	read       string   // what was read of streams, of a client that reports it
	wrong      error    // what should not have been reported
	visits     []visit
	loads      int // requests for /state
	open       map[*wire]bool
	rotations  int
	heartbeats int
	held       chan struct{} // requests to the feed wait for it; nil: none do
	tear       tear
	refuse     int // the status that answers the next request that states a cursor; 0: it is served
}

// newSite starts a server that is closed with the test.
func newSite(t testing.TB, o setup) *site {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	backend := memory.New(memory.Options{MaxMessages: o.retain})
	h, err := hub.New(backend, hub.Options{Window: o.retain, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, hub: h, fault: o.fault, asked: o.request, changed: make(chan struct{}), open: make(map[*wire]bool)}

	r := gin.New()
	options := ginsse.Options{
		Start:       o.start,
		MaxLifetime: o.lifetime,
		Heartbeat:   o.heartbeat,
		Ending:      o.ending,
		Retry:       10 * time.Millisecond,
		Logger:      quiet,
		OnEnd:       s.ended,
	}
	if err := ginsse.Mount(r, ginsse.SSE[struct{}](feedPath).Options(options).Topic(h, topic)); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(feedPath, s.watch(r))
	mux.HandleFunc("POST /report", s.collect)
	mux.HandleFunc("/state", func(http.ResponseWriter, *http.Request) { s.change(func() { s.loads++ }) })
	mux.Handle("/pages/", http.FileServer(http.Dir(".")))
	mux.HandleFunc("/node_modules/", func(w http.ResponseWriter, r *http.Request) {
		file := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		if path.Ext(file) == "" {
			file += ".js" // modules that were written for a bundler name each other without it
		}
		http.ServeFile(w, r, file)
	})

	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	server.Start()
	s.url = server.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.release()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		server.CloseClientConnections()
		server.Close()
		_ = backend.Close()
	})
	return s
}

// change makes a change and wakes those who wait.
func (s *site) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits until a condition, which is asked under the lock, holds. It ends early when a client
// reported what it should not have got.
func (s *site) wait(what string, condition func() bool) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		s.mu.Lock()
		err, done, changed := s.wrong, condition(), s.changed
		state := fmt.Sprintf("%d of %d messages, visits %v, reports %+v", s.got, len(s.published), tail(s.visits), tail(s.reports))
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("waited in vain until %s: %s", what, state)
		}
	}
}

// tail returns the last few.
func tail[E any](all []E) []E { return all[max(0, len(all)-8):] }

// publish publishes the next messages.
func (s *site) publish(n int) error {
	var err error
	s.change(func() {
		for range n {
			// Types alternate, and the data is what htmx can show: an element, over two lines.
			i := len(s.published)
			p := published{Type: []string{"message", "moved"}[i%2], Data: fmt.Sprintf("<li>%d\n§</li>", i)}
			m := hub.Message{Data: []byte(p.Data)}
			if p.Type != "message" {
				m.Type = p.Type
			}
			// The lock is held, so that the report of a message cannot come before it is known
			// here.
			var id hub.ID
			if id, err = s.hub.Publish(context.Background(), topic, m); err != nil {
				return
			}
			p.ID = string(id)
			s.published = append(s.published, p)
		}
	})
	return err
}

// collect takes reports, in the order of the client.
func (s *site) collect(w http.ResponseWriter, r *http.Request) {
	var reports []report
	if err := json.NewDecoder(r.Body).Decode(&reports); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.change(func() {
		for _, r := range reports {
			if err := s.take(r); err != nil && s.wrong == nil {
				s.wrong = err
			}
		}
	})
}

func (s *site) take(r report) error {
	switch {
	case r.Kind == "shown":
		if s.shown >= len(s.published) || text(s.published[s.shown]) != r.Data {
			return fmt.Errorf("the page shows %q as number %d", r.Data, s.shown)
		}
		s.shown++
		return nil
	case r.Kind == "read":
		s.read += r.Data
		return nil
	case r.Kind != "event", r.Type == "checkpoint", r.Type == "close":
		s.reports = append(s.reports, r)
		return nil
	case r.Type == "gap":
		s.reports = append(s.reports, r)
		// Older messages than those retained are gone, and that was said.
		s.got = max(s.got, len(s.published)-retained)
		s.shown = s.got
		return nil
	}
	p := published{r.Type, r.Data, r.ID}
	if s.got >= len(s.published) {
		return fmt.Errorf("got %+v after all %d messages", p, s.got)
	}
	if want := s.published[s.got]; p != want {
		return fmt.Errorf("got %+v as message %d, want %+v", p, s.got, want)
	}
	s.got++
	return nil
}

// all waits until the client has got all that was published.
func (s *site) all() error {
	return s.wait("all messages were got", func() bool { return s.got == len(s.published) && (!s.shows || s.shown == s.got) })
}

// has waits for a report.
func (s *site) has(r report) error {
	return s.wait(fmt.Sprintf("%+v was reported", r), func() bool { return s.count(r) > 0 })
}

// count counts the reports of a kind, a type and a state. The lock must be held.
func (s *site) count(r report) int {
	n := 0
	for _, got := range s.reports {
		if got.Kind == r.Kind && got.Type == r.Type && got.State == r.State {
			n++
		}
	}
	return n
}

// ended is told of each end of a stream.
func (s *site) ended(e feed.End) {
	if !errors.Is(e.Cause, feed.ErrRotated) {
		return
	}
	// One message at least falls between two streams of a client.
	if err := s.publish(1); err != nil && !errors.Is(err, hub.ErrClosed) {
		s.t.Errorf("Publish: %v", err)
	}
	s.change(func() { s.rotations++ })
}

// hold keeps clients away from the feed, until release.
func (s *site) hold() {
	s.change(func() { s.held = make(chan struct{}) })
}

func (s *site) release() {
	s.change(func() {
		if s.held != nil {
			close(s.held)
			s.held = nil
		}
	})
}

// away waits until no client has a stream.
func (s *site) away() error {
	return s.wait("the stream was over", func() bool { return len(s.open) == 0 })
}
