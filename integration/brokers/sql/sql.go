// Package sql opens the backend over PostgreSQL, version 13 or newer, by importing it for its side
// effect:
//
//	postgres://user:password@host:5432/database     postgresql:// is the same
//
// The parameters are
//
//	prefix=headrace_       what the names of all tables begin with, at most 20 bytes of a-z, 0-9 and _
//	poll=100ms             how often a subscription asks for new messages
//	retention=24h          how long messages are kept; older ones are deleted where a topic is followed
//	connections=16         how many connections are opened at most
//	probe_every=30s        Options.ProbeEvery
//	probes=false           Options.NoProbes
//	type=name              the metadata with the type of messages of other programs, see DecodeForeign
//
// and sslmode, sslrootcert, sslcert, sslkey, connect_timeout and application_name, which are pgx's.
//
// Each topic has two tables: one of messages, one of the places up to which subscriptions have
// read. Each subscription of each instance has a place of its own, begins at the end of the
// messages, and takes its place away when it ends. Tables are never dropped, so topics should be
// few.
//
// It is meant to be copied. The connections and the names of tables are all that a program may want
// different.
package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/backends/watermill"
	"github.com/headrace/headrace/hub"
)

func init() {
	backends.Register("postgres", Open)
	backends.Register("postgresql", Open)
}

// passed are the parameters that are pgx's.
var passed = []string{"sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name"}

// Open is the backends.Opener of this package's schemes. It does not wait for the server.
func Open(_ context.Context, u *url.URL, q *backends.Query) (hub.Backend, error) {
	prefix := q.String("prefix", "headrace_")
	poll := q.Duration("poll", 100*time.Millisecond, time.Millisecond)
	retention := q.Duration("retention", 24*time.Hour, 10*time.Minute)
	connections := q.Int("connections", 16, 2)
	o := watermill.Options{
		Decode:     watermill.DecodeForeign(q.String("type", "")),
		NoProbes:   !q.Bool("probes", true),
		ProbeEvery: q.Duration("probe_every", 0, time.Second),
	}
	values := url.Values{}
	for _, name := range passed {
		if value := q.String(name, ""); value != "" {
			values.Set(name, value)
		}
	}
	if err := q.Err(); err != nil {
		return nil, err
	}
	if len(prefix) > maxPrefix || strings.Trim(prefix, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return nil, fmt.Errorf("%w: prefix must be at most %d bytes of a-z, 0-9 and _", backends.ErrParameter, maxPrefix)
	}
	if u.Host == "" {
		return nil, fmt.Errorf("%w: it must name a host", backends.ErrURL)
	}
	target := *u
	target.RawQuery, target.ForceQuery = values.Encode(), false
	config, err := pgx.ParseConfig(target.String())
	if err != nil {
		return nil, fmt.Errorf("%w: pgx cannot read it", backends.ErrURL) // its error quotes the URL
	}
	config.RuntimeParams["timezone"] = "UTC" // the tables' times have none
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(time.Minute)
	return open(db, prefix, poll, retention, o)
}

// open owns db, even when it fails.
func open(db *stdsql.DB, prefix string, poll, retention time.Duration, o watermill.Options) (hub.Backend, error) {
	s := newSubscriber(db, prefix, poll, retention)
	config := sql.PublisherConfig{SchemaAdapter: s.schema, AutoInitializeSchema: true}
	publisher, err := sql.NewPublisher(sql.BeginnerFromStdSQL(db), config, upstream.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	o.Name, o.Ordered, o.Persistent, o.Topic = "postgres", true, true, tableName
	o.OnClose = func() error { return errors.Join(s.Close(), db.Close()) }
	return watermill.New(publisher, s, o)
}
