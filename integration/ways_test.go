package integration

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse/feed"
)

// way is one of the ways on which the feed of one topic reaches a client over plain HTTP/1.1.
type way struct {
	name   string
	direct bool // a few goroutines write to all connections
	detach bool // and the handler has returned
}

var ways = []way{{"parked", true, false}, {"detached", true, true}, {"ordinary", false, false}}

// wrapped is the writer of a middleware: what it does with what is written nobody but itself knows,
// so a stream behind it is served on the ordinary way.
type wrapped struct{ gin.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// middleware puts streams on the way.
func (w way) middleware(c *gin.Context) {
	if !w.direct {
		c.Writer = wrapped{c.Writer}
	}
}

// check compares what the end of a stream says with the way it was to be on.
func (w way) check(t testing.TB, e feed.End) {
	if e.Direct != w.direct {
		t.Errorf("%s: served directly: %v", w.name, e.Direct)
	}
}

// tight is a listener whose connections hold little on their way to the client, so that a client
// that does not read is noticed after a few messages.
type tight struct{ net.Listener }

// tightBytes is no less than what loopback puts into one segment: below, TCP waits for delayed
// acknowledgements, which has nothing to do with who reads.
const tightBytes = 64 << 10

func (l tight) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(tightBytes) // a system that refuses it holds more
	}
	return conn, err
}

// lab is a server with the topic "load" at /clients/:name. It knows how the streams of each name
// have ended.
type lab struct {
	way    way
	hub    *hub.Hub
	server *httptest.Server
	inside atomic.Int64 // handlers that have not returned

	mu    sync.Mutex
	ended map[string][]feed.End
}

// onEachWay runs a test on each way, one after the other because tests count what the process
// holds.
func onEachWay(t *testing.T, o feed.Options, retain memory.Options, window hub.Options, test func(t *testing.T, l *lab)) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) { test(t, newLab(t, way, o, newHub(t, retain, window), nil)) })
	}
}

// newLab starts a server. Without a listener its own is a tight one.
func newLab(t testing.TB, way way, o feed.Options, h *hub.Hub, listener net.Listener) *lab {
	t.Helper()
	l := &lab{way: way, hub: h, ended: make(map[string][]feed.End)}
	o.Detach, o.Logger = way.detach, quiet
	r := gin.New()
	r.Use(way.middleware)
	r.GET("/clients/:name", func(c *gin.Context) {
		l.inside.Add(1)
		defer l.inside.Add(-1)
		name, o := c.Param("name"), o
		o.OnEnd = func(e feed.End) {
			way.check(t, e)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.ended[name] = append(l.ended[name], e)
		}
		_ = feed.Serve(c.Writer, c.Request, feed.Of(h, "load"), o)
	})
	l.server = httptest.NewUnstartedServer(r)
	if listener == nil {
		l.server.Listener = tight{l.server.Listener}
	} else {
		_ = l.server.Listener.Close()
		l.server.Listener = listener
	}
	l.server.Start()
	t.Cleanup(func() {
		l.server.CloseClientConnections() // a test that fails has left some open
		l.server.Close()
	})
	return l
}

func (l *lab) address() string { return l.server.Listener.Addr().String() }

// ends returns how the streams of a name have ended.
func (l *lab) ends(name string) []feed.End {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended[name]
}

// allEnded waits until a stream of each name has ended.
func (l *lab) allEnded(t *testing.T, names []string) {
	t.Helper()
	eventually(t, "the streams have ended", func() error {
		for _, name := range names {
			if len(l.ends(name)) == 0 {
				return fmt.Errorf("%s has not", name)
			}
		}
		return nil
	})
}

// settled waits until nothing of a test's streams is left, and checks that each name's has ended
// once, by one of the causes.
func (l *lab) settled(t *testing.T, names []string, before held, causes ...error) {
	t.Helper()
	l.allEnded(t, names)
	settle(t, l.hub)
	before.back(t)
	for _, name := range names {
		ends := l.ends(name)
		if len(ends) != 1 {
			t.Errorf("%s: OnEnd was called %d times", name, len(ends))
		}
		if !slices.ContainsFunc(causes, func(cause error) bool { return errors.Is(ends[0].Cause, cause) }) {
			t.Errorf("%s: ended by %v", name, ends[0].Cause)
		}
	}
}

// held is what the process holds that streams leave behind when they leak.
type held struct{ goroutines, files int }

// holding counts what is held once a first stream has come and gone, because that leaves pools and
// a followed topic.
func (l *lab) holding(t *testing.T) held {
	t.Helper()
	s, err := open(l.server, "/clients/first", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	s.drop()
	l.allEnded(t, []string{"first"})
	settle(t, l.hub)
	return holding(t)
}

// holding counts what is held when it changes no more.
func holding(t *testing.T) (now held) {
	t.Helper()
	eventually(t, "goroutines of streams before are gone", func() error {
		last := now
		if now = (held{runtime.NumGoroutine(), openFiles(t)}); now != last {
			return errors.New("the numbers still change")
		}
		return nil
	})
	return now
}

// back waits until the process holds no more than it did.
func (h held) back(t *testing.T) {
	t.Helper()
	eventually(t, "goroutines and files are back", func() error {
		if now := (held{runtime.NumGoroutine(), openFiles(t)}); now.goroutines > h.goroutines || now.files > h.files {
			return fmt.Errorf("%+v, before %+v", now, h)
		}
		return nil
	})
}

// group is healthy readers of a lab: each gets the messages "load 1", "load 2" and so on, one by
// one and in order.
type group struct {
	lab     *lab
	names   []string
	streams []*stream
	pacer   *pacer
	running sync.WaitGroup
}

// follow has n healthy readers begin to read; from the next message on. None else may be connected
// yet.
func (l *lab) follow(t *testing.T, n int) *group {
	t.Helper()
	g := &group{lab: l, pacer: newPacer(n)}
	for i := range n {
		name := fmt.Sprint("healthy-", i)
		s, err := open(l.server, "/clients/"+name, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		g.names, g.streams = append(g.names, name), append(g.streams, s)
		g.running.Go(func() {
			if err := g.read(i, s); err != nil {
				t.Errorf("%s: %v", name, err)
				g.pacer.stop()
			}
		})
	}
	handlers := int64(n)
	if l.way.detach {
		handlers = 0
	}
	eventually(t, "handlers have returned, or wait, as they should", func() error {
		if now := l.inside.Load(); now != handlers {
			return fmt.Errorf("%d have not returned, want %d", now, handlers)
		}
		return nil
	})
	return g
}

// read reads until the topic is finished, or a message with the number 0 comes.
func (g *group) read(i int, s *stream) error {
	for next := 1; ; {
		e, err := s.Decode()
		if err != nil {
			return fmt.Errorf("waiting for message %d: %w", next, err)
		}
		if e.Type == "checkpoint" {
			continue
		}
		if e.Type == "close" && next > g.sent() {
			return nil
		}
		_, n, err := numbered(e)
		if n == 0 && err == nil && e.Type == "" {
			return nil
		}
		if err != nil || e.Type != "" || n != next {
			return fmt.Errorf("an event of type %q with number %d, want message %d (%v)", e.Type, n, next, err)
		}
		g.pacer.took(i, next)
		next++
	}
}

// publish publishes messages of about a size, each when all healthy readers have all but a few of
// those before. It returns the last one.
func (g *group) publish(t *testing.T, messages, size int) (id hub.ID, data []byte) {
	t.Helper()
	padding := strings.Repeat("x", size)
	for range messages {
		if !g.pacer.next(4) {
			t.FailNow()
		}
		data = fmt.Appendf(nil, "load %d %s", g.sent(), padding)
		var err error
		if id, err = g.lab.hub.Publish(t.Context(), "load", hub.Message{Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	return id, data
}

// sent returns how many messages were published.
func (g *group) sent() int {
	g.pacer.mu.Lock()
	defer g.pacer.mu.Unlock()
	return g.pacer.sent
}

// leave has the healthy readers read to the end and leave.
func (g *group) leave(t *testing.T) {
	t.Helper()
	send(t, g.lab.hub, "load", "load", 0)
	g.finish()
}

// finish waits until the healthy readers have read to the end, and has them leave.
func (g *group) finish() {
	g.running.Wait()
	for _, s := range g.streams {
		s.drop()
	}
}
