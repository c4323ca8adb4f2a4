package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"sync"
	"time"

	upstream "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	sweepEvery   = 10 * time.Minute
	sweepAtOnce  = 1000 // a long transaction holds up delivery
	leaveTimeout = 5 * time.Second
)

var errClosed = errors.New("sql: closed")

// subscriber makes a Watermill Subscriber for each subscription, with a place that nobody else has.
type subscriber struct {
	db        *stdsql.DB
	schema    schema
	places    places
	offsets   sql.OffsetsAdapter // places, but in tests
	poll      time.Duration
	retention time.Duration
	group     string // of all subscriptions, in tests. Default: each has its own

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // counts subscriptions
}

func newSubscriber(db *stdsql.DB, prefix string, poll, retention time.Duration) *subscriber {
	s := &subscriber{db: db, schema: newSchema(prefix), places: newPlaces(prefix), poll: poll, retention: retention}
	s.offsets = s.places
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Subscribe implements message.Subscriber.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if !s.enter() {
		return nil, errClosed
	}
	group := s.group
	if group == "" {
		group = "headrace-" + upstream.NewUUID()
	}
	inner, err := sql.NewSubscriber(sql.BeginnerFromStdSQL(s.db), sql.SubscriberConfig{
		ConsumerGroup:    group,
		PollInterval:     s.poll,
		RetryInterval:    time.Second,
		SchemaAdapter:    s.schema,
		OffsetsAdapter:   s.offsets,
		InitializeSchema: true,
	}, upstream.NopLogger{})
	if err != nil {
		s.wg.Done()
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	forget := context.AfterFunc(s.ctx, end)
	messages, err := inner.Subscribe(ctx, topic)
	if err != nil {
		forget()
		end()
		s.wg.Done()
		return nil, err
	}
	go func() {
		defer s.wg.Done()
		defer end()
		defer forget()
		for s.sweep(ctx, topic) {
		}
		_ = inner.Close() // afterwards it does not touch the place any more
		if s.group == "" {
			s.leave(ctx, topic, group)
		}
	}()
	return messages, nil
}

func (s *subscriber) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Add(1)
	}
	return !s.closed
}

// leave takes a subscription's place away. What a process that was killed leaves goes with the
// messages, see sweep.
func (s *subscriber) leave(ctx context.Context, topic, group string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	_, _ = s.db.ExecContext(ctx, `DELETE FROM `+s.places.MessagesOffsetsTable(topic)+` WHERE consumer_group = $1`, group) //nolint:gosec // the name is one that tableName made
}

// sweep deletes messages that are old enough, and the places of those who have not read them in all
// that time. It waits afterwards, and returns false when ctx ended.
func (s *subscriber) sweep(ctx context.Context, topic string) bool {
	messages, places := s.schema.MessagesTable(topic), s.places.MessagesOffsetsTable(topic)
	for deleted := sweepAtOnce; deleted == sweepAtOnce; {
		var last stdsql.NullInt64
		err := s.db.QueryRowContext(ctx, `WITH old AS (
				DELETE FROM `+messages+` WHERE ctid IN (
					SELECT ctid FROM `+messages+` WHERE created_at < LOCALTIMESTAMP - make_interval(secs => $1) LIMIT $2)
				RETURNING transaction_id)
			SELECT count(*), max(transaction_id::text::bigint) FROM old`, s.retention.Seconds(), sweepAtOnce).Scan(&deleted, &last)
		if err != nil || !last.Valid {
			break // next time
		}
		if _, err := s.db.ExecContext(ctx, `DELETE FROM `+places+` WHERE last_processed_transaction_id::text::bigint < $1`, last.Int64); err != nil { //nolint:gosec // the name is one that tableName made
			break
		}
	}
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close implements message.Subscriber. It waits until all subscriptions have ended.
func (s *subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	return nil
}
