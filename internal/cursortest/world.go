// Package cursortest asks a feed what it makes of the cursors that clients state, and holds the
// answers against the table of DESIGN.md: for each state of a cursor, each start, with a snapshot
// and without, for one topic and several, as a stream and as pages. Only tests import it.
package cursortest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed"
)

// World is a store with two instances over it, and another store of the same kind.
type World struct {
	// Writer and Reader are hubs over the same store. Clients are served by Reader, which follows
	// no topic before they come.
	Writer, Reader *hub.Hub
	// Other is over another store: its IDs are unknown here.
	Other *hub.Hub
	// Trim leaves the newest Kept messages of a topic, for good. Nil where the store does so by
	// itself.
	Trim func(topic string)
}

const (
	// Kept is how many messages of a topic are retained.
	Kept = 5
	// published is how many messages each topic has got, and known the one that clients know.
	published, known = 8, 5
	// trimmed is a message that is gone, as is the one after it.
	trimmed = 1
	// share is how many messages of a topic are replayed to a client whose position is unknown.
	share = 3
	// patience only ends what would hang.
	patience = 30 * time.Second
)

var quiet = slog.New(slog.DiscardHandler)

// cell is one cell of the table.
type cell struct {
	t        *testing.T
	world    World
	topics   []string
	options  feed.Options
	snapshot bool
	cursor   string
	server   *httptest.Server
}

// want is what a client gets.
type want struct {
	gap      bool
	snapshot bool
	// after is the number of the message behind which each topic begins.
	after []int
	// newest is the number of each topic's newest message.
	newest int
	mark   int // the number of marks that were published
}

// filled is what fill has published, as clients may state it.
type filled struct {
	// cursors are those of before and after each message of the last topics that were filled, and
	// fewer those without the last topic.
	cursors, fewer []string
	since          time.Time // between known and the next
}

// fill publishes to the topics of a hub, to some before the others.
func fill(t *testing.T, h *hub.Hub, topics, before []string) (f filled) {
	t.Helper()
	all := clientOf(t, h, topics)
	var fewer *client
	if len(topics) > 1 {
		fewer = clientOf(t, h, topics[:len(topics)-1])
	}
	for n := 1; n <= published; n++ {
		for _, topic := range before {
			publish(t, h, topic, n)
			all.read(topic, n)
			if fewer != nil {
				fewer.read(topic, n)
			}
		}
	}
	note := func() {
		f.cursors = append(f.cursors, all.cursor)
		if fewer != nil {
			f.fewer = append(f.fewer, fewer.cursor)
		}
	}
	note()
	for n := 1; n <= published; n++ {
		for _, topic := range topics {
			if slices.Contains(before, topic) {
				continue
			}
			publish(t, h, topic, n)
			all.read(topic, n)
			if fewer != nil {
				fewer.read(topic, n)
			}
		}
		note()
		if n == known {
			pass()
			f.since = time.Now()
			pass()
		}
	}
	return f
}

// pass lets time pass: stores know milliseconds.
func pass() {
	for begun := time.Now(); time.Since(begun) < 2*time.Millisecond; {
		runtime.Gosched()
	}
}

// client reads what is published, as it comes.
type client struct {
	t       *testing.T
	handler http.Handler
	topics  []string
	cursor  string
}

// clientOf returns a client that has read all that was published to topics before, if it was
// published long ago.
func clientOf(t *testing.T, h *hub.Hub, topics []string) *client {
	t.Helper()
	c := &client{t: t, topics: topics}
	c.handler = feed.Handler(feed.Of(h, topics...), feed.Options{History: &feed.History{}, Logger: quiet})
	c.cursor = get(t, c.handler, url.Values{"limit": {"1"}}).Next
	return c
}

// read reads the next message, which is the n-th of a topic; of a topic that is not its own it
// reads nothing.
func (c *client) read(topic string, n int) {
	c.t.Helper()
	if !slices.Contains(c.topics, topic) {
		return
	}
	for {
		p := get(c.t, c.handler, url.Values{"after": {c.cursor}, "limit": {"1"}, "wait": {"20s"}})
		c.cursor = p.Next
		if len(p.Messages) > 0 {
			if got, m := split(c.t, p.Messages[0].Data); got != topic || m != n || p.Gap {
				c.t.Fatalf("a client that reads what is published: %+v, want message %d of %s", p, n, topic)
			}
			return
		}
	}
}

func publish(t *testing.T, h *hub.Hub, topic string, n int) {
	t.Helper()
	if _, err := h.Publish(t.Context(), topic, hub.Message{Data: fmt.Append(nil, topic, " ", n)}); err != nil {
		t.Fatal(err)
	}
}

// page is the document of a page.
type page struct {
	Messages []struct{ ID, Event, Data string }
	Next     string
	Gap, End bool
}

func get(t *testing.T, handler http.Handler, query url.Values) (p page) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := httptest.NewRequest(http.MethodGet, "/?"+query.Encode(), nil).WithContext(ctx)
	r.Header.Set("Accept", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusOK {
		t.Fatalf("page of %v: status %d, %q: %v", query, w.Code, w.Body.String(), err)
	}
	return p
}

// handler returns what is asked.
func (c *cell) handler() http.Handler {
	f := feed.Of(c.world.Reader, c.topics...)
	if c.snapshot {
		f.Snapshot = func(context.Context) (any, error) { return "state", nil }
	}
	return feed.Handler(f, c.options)
}

// stream is one connection.
type stream struct {
	t        *testing.T
	decoder  *sse.Decoder
	cancel   context.CancelFunc
	body     io.Closer
	got      map[string][]int // by topic
	ids      []string         // of gaps and messages that have one
	gaps     int
	early    int // messages before the first gap
	snapshot int
	primed   bool
	count    int
}

func (c *cell) open(cursor string) *stream {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.URL, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	if cursor != "" {
		r.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := c.server.Client().Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("stream with the cursor %q: %v, %v", cursor, resp, err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	c.t.Cleanup(cancel)
	return &stream{t: c.t, decoder: sse.NewDecoder(resp.Body), cancel: cancel, body: resp.Body, got: make(map[string][]int)}
}

func (s *stream) leave() {
	s.cancel()
	_ = s.body.Close()
}

// until reads events until there is enough.
func (s *stream) until(enough func() bool) {
	s.t.Helper()
	last := s.decoder.LastEventID()
	for !enough() {
		e, err := s.decoder.Decode()
		if err != nil {
			s.t.Fatalf("after %d gaps and %v: %v", s.gaps, s.got, err)
		}
		switch e.Type {
		case "gap":
			s.gaps++
		case "snapshot":
			s.snapshot++
		case "checkpoint":
			s.primed = true
			continue
		case "":
			topic, n := split(s.t, e.Text())
			s.got[topic] = append(s.got[topic], n)
			s.count++
			if s.gaps == 0 {
				s.early++
			}
		default:
			s.t.Fatalf("an event %q", e.Type)
		}
		if e.ID != last {
			s.ids = append(s.ids, e.ID)
			last = e.ID
		}
	}
}

func split(t *testing.T, text string) (topic string, n int) {
	t.Helper()
	topic, number, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("a message %q", text)
	}
	return topic, n
}
