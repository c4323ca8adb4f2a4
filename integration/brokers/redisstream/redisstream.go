// Package redisstream opens the backend over the Redis streams of Watermill, by importing it for
// its side effect:
//
//	watermill+redis://user:password@host:6379/0     watermill+rediss:// with TLS
//
// It is for programs that publish with watermill-redisstream already. All others take headrace's
// own redis://, which replays from the stream, reads all topics over one connection, and ends
// topics that nobody uses.
//
// The parameters are
//
//	prefix=app:            what the names of all streams begin with, nothing by default
//	maxlen=10000           about how many messages are kept in a stream that this backend publishes to; 0 keeps all
//	persistent=true        declares that the server keeps streams when it restarts, false by default
//	block=1s               how long one read waits for a message, and how long an ended subscription may keep its connection
//	probe_every=30s        Options.ProbeEvery
//	probes=false           Options.NoProbes
//	type=name              the metadata with the type of messages of other programs, see DecodeForeign
//
// Each subscription reads with plain XREAD, from the end that the stream had when it began, over a
// connection of its own.
//
// It is meant to be copied. The client and the names of streams are all that a program may want
// different.
package redisstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

const scheme = "watermill+"

func init() {
	backends.Register(scheme+"redis", Open)
	backends.Register(scheme+"rediss", Open)
}

// Open is the backends.Opener of this package's schemes. It does not wait for the server.
func Open(_ context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	prefix := q.String("prefix", "")
	maxlen := q.Int("maxlen", 10_000, 0)
	block := q.Duration("block", time.Second, time.Millisecond)
	o := watermill.Options{
		Name:       "watermill+redis",
		Ordered:    true,
		Persistent: q.Bool("persistent", false),
		Decode:     watermill.DecodeForeign(q.String("type", "")),
		NoProbes:   !q.Bool("probes", true),
		ProbeEvery: q.Duration("probe_every", 0, time.Second),
		Topic:      func(topic string) (string, error) { return prefix + topic, nil },
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	target := *u
	target.Scheme = strings.TrimPrefix(u.Scheme, scheme)
	target.RawQuery, target.ForceQuery = "", false
	config, err := redis.ParseURL(target.String())
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: it must be a host and the number of a database", backends.ErrURL) // go-redis' error quotes it
	}
	// A command that is sent twice publishes twice, and a read that is sent again hides that the
	// connection was lost.
	config.MaxRetries = -1
	if config.TLSConfig != nil {
		config.TLSConfig.MinVersion = tls.VersionTLS12
	}
	return open(config, int64(maxlen), block, o)
}

// maxTopics is how many subscriptions there can be at a time: each keeps a connection busy.
const maxTopics = 10_000

// open uses a client for publishing and one for reading, so that no reader takes a publisher's
// connection.
func open(config *redis.Options, maxlen int64, block time.Duration, o watermill.Options) (hub.Backend, error) {
	publishing, reading := *config, *config
	publishing.ContextTimeoutEnabled = true
	reading.PoolSize = maxTopics
	clients := []*redis.Client{redis.NewClient(&publishing), redis.NewClient(&reading)}
	s := newSubscriber(clients[1], block)
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: clients[0], DefaultMaxlen: maxlen}, upstream.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, clients[0].Close(), clients[1].Close())
	}
	o.OnClose = func() error { return errors.Join(s.Close(), clients[0].Close(), clients[1].Close()) }
	return watermill.New(publisher, s, o)
}
