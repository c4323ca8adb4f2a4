// Package embedded runs the Redis backend over a server within the process, for development: the
// same code as with Redis, the same IDs and keys, and nothing to install. Nothing survives the
// process. The server listens on no port: its connections are pipes within the process, which keep
// what is not read yet, however much it is.
//
// The server runs one command at a time, on one core. A message takes about 0.25 ms of it, and four
// times as much while 30,000 topics are followed: for each message it looks through all channels
// that a connection is subscribed to. BenchmarkTopics measures it.
//
// Importing the package registers the scheme miniredis:// with package backends; see [Open].
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/redisstream"
	"github.com/headrace/headrace/backends/redisstream/internal/dial"
	"github.com/headrace/headrace/hub"
)

func init() { backends.Register("miniredis", Open) }

// Open is the backends.Opener of miniredis://. Backends that are opened with the same name, as in
// miniredis://name, share one server for as long as one of them is open; without a name each has
// its own. The query parameters are those of redis://, see redisstream.Open.
//
// With follow=xread a message can be 0.05 s late when its topic was followed just before: the
// server cannot end what waits.
func Open(ctx context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.Port() != "" {
		return nil, fmt.Errorf("%w: miniredis:// has neither user, port nor path", backends.ErrURL)
	}
	s, err := acquire(u.Hostname())
	if err != nil {
		return nil, err
	}
	// The address is none: connections are made within the process.
	b, err := redisstream.Open(dial.With(ctx, s.dial), &url.URL{Scheme: "redis", Host: "embedded", RawQuery: u.RawQuery}, q)
	if err != nil {
		s.release()
		return nil, err
	}
	return &backend{Backend: b.(*redisstream.Backend), server: s}, nil
}

// backend has a share of its server.
type backend struct {
	*redisstream.Backend
	server *server
	once   sync.Once
	err    error
}

// Close implements hub.Backend.
func (b *backend) Close() error {
	b.once.Do(func() {
		b.err = b.Backend.Close()
		b.server.release()
	})
	return b.err
}

// server is a miniredis with the number of backends that use it.
type server struct {
	name  string
	redis *miniredis.Miniredis
	users int
	stop  chan struct{}
	done  chan struct{}
}

var (
	mu      sync.Mutex
	servers = make(map[string]*server)
)

func acquire(name string) (*server, error) {
	mu.Lock()
	defer mu.Unlock()
	s := servers[name]
	if s == nil || name == "" {
		m := miniredis.NewMiniRedis()
		// The first connection starts it without a listener; the others are pipes of our own.
		first, err := m.Dial()
		if err != nil {
			return nil, errors.New("embedded: miniredis cannot be started")
		}
		_ = first.Close()
		s = &server{name: name, redis: m, stop: make(chan struct{}), done: make(chan struct{})}
		go s.tick()
		if name != "" {
			servers[name] = s
		}
	}
	s.users++
	return s, nil
}

var errClosed = errors.New("embedded: the server is closed")

// dial connects to the server within the process.
func (s *server) dial(context.Context, string, string) (net.Conn, error) {
	mu.Lock()
	defer mu.Unlock()
	if s.users == 0 {
		return nil, errClosed
	}
	client, conn := newPipe()
	s.redis.Server().ServeConn(conn)
	return client, nil
}

func (s *server) release() {
	mu.Lock()
	s.users--
	last := s.users == 0
	if last && s.name != "" {
		delete(servers, s.name)
	}
	mu.Unlock()
	if last {
		close(s.stop)
		<-s.done
		s.redis.Close()
	}
}

// tick makes keys expire: miniredis has no clock for that.
func (s *server) tick() {
	defer close(s.done)
	const step = time.Second
	t := time.NewTicker(step)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.redis.FastForward(step)
		case <-s.stop:
			return
		}
	}
}
