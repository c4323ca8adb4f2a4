// Package embedded runs the Redis backend over a server within the process, for development: the same code as with Redis, the same IDs
// and keys, and nothing to install. Nothing survives the process.
//
// Importing the package registers the scheme miniredis:// with package backends; see [Open].
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/redisstream"
	"github.com/headrace/headrace/hub"
)

func init() { backends.Register("miniredis", Open) }

// Open is the backends.Opener of miniredis://. Backends that are opened with the same name, as in miniredis://name, share one server for
// as long as one of them is open; without a name each has its own. The query parameters are those of redis:// that belong to
// redisstream.Options: prefix, maxlen, retention, forever and keys.
func Open(_ context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.Port() != "" {
		return nil, fmt.Errorf("%w: miniredis:// has neither user, port nor path", backends.ErrURL)
	}
	o := redisstream.Options{
		Prefix:      q.String("prefix", ""),
		MaxMessages: q.Int("maxlen", 0, 1),
		MaxAge:      q.Duration("retention", 0, 1),
		KeepForever: q.Bool("forever", false),
		KeyWindow:   q.Duration("keys", 0, 1),
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	s, err := acquire(u.Hostname())
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr(), DisableIdentity: true})
	b, err := redisstream.New(client, o)
	if err != nil {
		return nil, errors.Join(err, client.Close(), s.release())
	}
	return &backend{Backend: b, client: client, server: s}, nil
}

// backend owns its client and a share of its server.
type backend struct {
	*redisstream.Backend
	client *redis.Client
	server *server
	once   sync.Once
	err    error
}

// Close implements hub.Backend.
func (b *backend) Close() error {
	b.once.Do(func() { b.err = errors.Join(b.Backend.Close(), b.client.Close(), b.server.release()) })
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
		if err := m.Start(); err != nil {
			return nil, errors.New("embedded: miniredis cannot listen on a loopback port")
		}
		s = &server{name: name, redis: m, stop: make(chan struct{}), done: make(chan struct{})}
		go s.tick()
		if name != "" {
			servers[name] = s
		}
	}
	s.users++
	return s, nil
}

func (s *server) release() error {
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
	return nil
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
