package table

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// patience is how long a client may take for one step. One that does not need so long ends the
// wait early; it only matters for those that never do.
const patience = 20 * time.Second

// message is one as a client must get it.
type message struct {
	Type, Data, ID string
	topic          int
	got            bool
}

// report is what a client says: an event that it handed over, or its end.
type report struct {
	Kind, Type, Data, ID string
	// NoID and NoType are for clients that do not hand them over.
	NoID, NoType bool
}

// setup is how a site differs from others.
type setup struct {
	feed   feed.Options
	retain int
	topics []string
	across bool // the page is of another origin than the feed
	bytely bool // each byte is flushed
	bare   bool // streams have no block for torn frames
	chunks bool // messages are the AI SDK's chunks, and answer a POST
	soon   bool // who is told to come back after a minute or more is told to do so at once
}

// visit is one request for the feed.
type visit struct {
	cursor string
	status int // 0 as long as the header was not written
}

// site is a server with a feed, what was published to it, and what its client reported.
type site struct {
	t      *testing.T
	setup  setup
	hub    *hub.Hub
	addr   string // of the feed
	pages  string // of the pages, which is another one where the setup says so
	client client
	cors   feed.CORS

	mu      sync.Mutex
	changed chan struct{} // closed when anything below changes
	server  *http.Server
	sent    []message
	next    int // the first of sent that was not reported
	gaps    int
	events  map[string]int // of control types
	ended   bool           // the client has said so
	wrong   *verdict       // what the client has done wrong
	visits  []visit
	open    map[*wire]bool
	begun   int // streams whose beginning is written
	held    chan struct{}
	cutAt   *int // of the next message's frame, nil for none
	clean   bool // a cut ends the response as if it were whole
	refuse  int  // the status that answers every request; 0: they are served
	times   int  // how often it does; 0: always
}

func newSite(t *testing.T, o setup) *site {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	backend := memory.New(memory.Options{MaxMessages: o.retain})
	h, err := hub.New(backend, hub.Options{Window: o.retain, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if o.topics == nil {
		o.topics = []string{"lines"}
	}
	o.feed.Logger = quiet
	o.feed.MessagesOnly, o.feed.Post = o.chunks, o.chunks
	if o.feed.Retry == 0 {
		o.feed.Retry = 10 * time.Millisecond
	}
	s := &site{
		t: t, setup: o, hub: h, changed: make(chan struct{}),
		events: make(map[string]int), open: make(map[*wire]bool),
	}
	if o.across {
		s.pages = serve(t, s.assets())
		s.cors = feed.CORS{Origins: []string{"http://" + s.pages}, Credentials: true, Headers: hxHeaders}
	}
	s.listen()
	if !o.across {
		s.pages = s.addr
	}
	t.Cleanup(func() {
		s.release()
		s.kill()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		_ = backend.Close()
	})
	return s
}

// serve serves until the test ends, and returns the address.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return listener.Addr().String()
}

// assets are the pages of the clients and what these load.
func (s *site) assets() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/drivers/", http.FileServer(http.Dir(".")))
	// The recipe that docs/clients.md has for fetch-event-source.
	mux.HandleFunc("/drivers/follow.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join("..", "pages", "follow.js"))
	})
	mux.HandleFunc("/node_modules/", func(w http.ResponseWriter, r *http.Request) {
		file := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		if path.Ext(file) == "" {
			file += ".js" // modules that were written for a bundler name each other without it
		}
		http.ServeFile(w, r, file)
	})
	return mux
}

// hxHeaders are what htmx 4 states, which another origin has to allow.
var hxHeaders = []string{
	"HX-Request", "HX-Request-Type", "HX-Source", "HX-Target", "HX-Current-URL", "HX-Boosted",
}

// listen starts the server, again after kill, at the same address.
func (s *site) listen() {
	s.t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/feed", s.watch(s.cors.Handler(feed.Handler(feed.Of(s.hub, s.setup.topics...), s.setup.feed))))
	mux.Handle("/", s.assets())
	address := s.addr
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = listener.Addr().String()
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: patience, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	s.change(func() { s.server = server })
	go func() { _ = server.Serve(listener) }()
}

// kill ends the server, and its connections without a word.
func (s *site) kill() {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	_ = server.Close()
}

// feedURL is where the client finds the feed.
func (s *site) feedURL() string { return "http://" + s.addr + "/feed" }

// change makes a change and wakes those who wait.
func (s *site) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits until a condition, which is asked under the lock, holds. It returns what the client
// did instead.
func (s *site) wait(what string, limit time.Duration, condition func() bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mu.Lock()
		wrong, done, ended, changed := s.wrong, condition(), s.ended, s.changed
		state := fmt.Sprintf("%d of %d messages, visits %v, events %v", s.next, len(s.sent), s.visits, s.events)
		s.mu.Unlock()
		switch {
		case wrong != nil:
			return wrong
		case done:
			return nil
		case ended:
			return &verdict{stops, "it said that it had ended, before " + what + ": " + state}
		}
		select {
		case <-changed:
		case <-timer.C:
			return &verdict{s.missed(), "waited in vain until " + what + ": " + state}
		}
	}
}

// missed returns stops unless a later message than one that is missing was got: then told where a
// gap was, else loses.
func (s *site) missed() outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := false
	for _, m := range s.sent {
		switch {
		case !m.got:
			missing = true
		case missing && s.gaps > 0:
			return told
		case missing:
			return loses
		}
	}
	return stops
}

// publish publishes a message to one of the topics in turn.
func (s *site) publish(data string) error {
	var err error
	// The lock is held, so that a report cannot come before the message is known here.
	s.change(func() {
		n := len(s.sent)
		m := hub.Message{Data: []byte(data), Binary: !utf8.ValidString(data)}
		if s.setup.chunks {
			m.Data, err = json.Marshal(map[string]string{"type": "text-delta", "id": "0", "delta": data})
			if err != nil {
				return
			}
		}
		want := message{Type: "message", Data: data, topic: n % len(s.setup.topics)}
		if n%2 == 1 {
			m.Type, want.Type = "moved", "moved"
		}
		if m.Binary {
			want.Type += ";base64"
			want.Data = base64.StdEncoding.EncodeToString(m.Data)
		}
		var id hub.ID
		if id, err = s.hub.Publish(context.Background(), s.setup.topics[want.topic], m); err != nil {
			return
		}
		if len(s.setup.topics) == 1 {
			want.ID = string(id)
		}
		s.sent = append(s.sent, want)
	})
	return err
}

// some publishes so many messages.
func (s *site) some(n int) error {
	for range n {
		s.mu.Lock()
		data := fmt.Sprintf("line %d\n§ of it", len(s.sent))
		s.mu.Unlock()
		if err := s.publish(data); err != nil {
			return err
		}
	}
	return nil
}

// got waits until all that was published has been reported.
func (s *site) got() error {
	return s.wait("all messages were got", patience, func() bool { return s.next == len(s.sent) })
}

// take takes what the client says.
func (s *site) take(r report) {
	s.change(func() {
		if wrong := s.judge(r); wrong != nil && s.wrong == nil {
			s.wrong = wrong
		}
	})
}

func (s *site) judge(r report) *verdict {
	if r.Kind == "end" {
		s.ended = true
		return nil
	}
	switch r.Type {
	case "gap":
		s.gaps++
		fallthrough
	case "checkpoint", "close", "heartbeat", "stream-error":
		s.events[r.Type]++
		return nil
	}
	is := func(m message) bool {
		return m.Data == r.Data && (r.NoType || m.Type == r.Type) && (r.NoID || m.ID == "" || m.ID == r.ID)
	}
	again := -1
	for i := range s.sent {
		m := &s.sent[i]
		switch {
		case !is(*m):
		case m.got:
			again = i
		default:
			// Topics have no order among them.
			for k := range i {
				if !s.sent[k].got && s.sent[k].topic == m.topic {
					if s.gaps == 0 {
						return &verdict{loses, fmt.Sprintf("message %d came when %d was due", i, k)}
					}
					s.sent[k].got = true
					s.next++
				}
			}
			m.got = true
			s.next++
			return nil
		}
	}
	if again >= 0 {
		return &verdict{repeats, fmt.Sprintf("message %d came again", again)}
	}
	return &verdict{corrupts, fmt.Sprintf("nobody sent %.120q", fmt.Sprint(r))}
}

// hold keeps clients away from the feed, until release.
func (s *site) hold() { s.change(func() { s.held = make(chan struct{}) }) }

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
	return s.wait("the stream was over", patience, func() bool { return len(s.open) == 0 })
}

// outcome is what a client does.
type outcome string

const (
	fine     outcome = "ok"
	told     outcome = "told"     // it said that messages are missing
	stops    outcome = "stops"    // it does not go on
	loses    outcome = "loses"    // a message is missing, in silence
	repeats  outcome = "repeats"  // a message came again
	corrupts outcome = "corrupts" // an event came that nobody sent
	returns  outcome = "returns"  // it comes back again and again
	unaware  outcome = "unaware"  // it does not notice
)

// verdict is what a client does that does not simply follow.
type verdict struct {
	outcome outcome
	why     string
}

func (v *verdict) Error() string { return string(v.outcome) + ": " + v.why }

// verdictOf returns the outcome that an error stands for.
func verdictOf(err error) (outcome, bool) {
	if err == nil {
		return fine, true
	}
	v, ok := errors.AsType[*verdict](err)
	if !ok {
		return "", false
	}
	return v.outcome, true
}
