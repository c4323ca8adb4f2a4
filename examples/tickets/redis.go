package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// redisStore holds the tickets in Redis, for any number of instances. A change and its entry in the
// outbox are one transaction, so there is neither without the other, whatever dies when; the relay
// of any instance publishes what is in the outbox.
//
// A transaction is executed only if the watched keys are as they were when they were read, and is
// tried anew otherwise. So two instances that change the same ticket make two versions, one after
// the other, and the outbox has them in that order.
//
// Changes of one ticket by this instance wait for each other: they would only lose races, and have
// Redis execute what comes to nothing.
type redisStore struct {
	client redis.UniversalClient
	relay  *relay
	turns  turns // by the watched key
}

var _ store = (*redisStore)(nil)

// The keys. What is in braces makes all of them live on the same node of a cluster: a transaction
// has to have its keys together.
const (
	orderKey       = "{tickets}:order"     // list of IDs, oldest first
	outboxKey      = "{tickets}:outbox"    // list of changes that are made and not published yet
	deadLettersKey = "{tickets}:dead"      // list of entries of the outbox that cannot be published, for people to look at
	ticketKeys     = "{tickets}:ticket:"   // ID follows: the ticket without its comments
	commentKeys    = "{tickets}:comments:" // ID follows: list of the ticket's comments, oldest first
)

const (
	redisTimeout = 5 * time.Second // of a call, and of what the client then still waits for
	tries        = 30              // of a transaction
)

// newRedisStore uses a client that has to live until the store is closed.
func newRedisStore(client redis.UniversalClient, h *hub.Hub) *redisStore {
	s := &redisStore{client: client, relay: newRelay(client, h)}
	go s.relay.run()
	return s
}

func (s *redisStore) list(ctx context.Context) ([]ticket, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	ids, err := s.client.LRange(ctx, orderKey, 0, -1).Result()
	if err != nil || len(ids) == 0 {
		return []ticket{}, reached(err)
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = ticketKeys + id
	}
	found, err := s.client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, reached(err)
	}
	all := make([]ticket, 0, len(found))
	for i, value := range found {
		text, ok := value.(string)
		if !ok {
			continue // evicted, or removed by hand
		}
		t, err := decodeTicket(ids[i], text)
		if err != nil {
			slog.Warn("tickets: a ticket is left out of the list", "err", err)
			continue
		}
		all = append(all, t)
	}
	return all, nil
}

// decodeTicket returns the ticket in the text of its key, which another program may have written.
func decodeTicket(id, text string) (ticket, error) {
	var t ticket
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return ticket{}, fmt.Errorf("tickets: ticket %q: %w", id, err)
	}
	if t.ID != id || t.Version < 1 || !slices.Contains(statuses, t.Status) {
		return ticket{}, fmt.Errorf("tickets: ticket %q: its key has id %q, version %d and status %q", id, t.ID, t.Version, t.Status)
	}
	return t, nil
}

func (s *redisStore) get(ctx context.Context, id string) (thread, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	p := s.client.TxPipeline() // one transaction, so that the comments are those of the ticket's version
	found := reading(ctx, p, id)
	_, _ = p.Exec(ctx) // each command has its error
	t, err := found()
	return t, reached(err)
}

func (s *redisStore) create(ctx context.Context, t thread) error {
	// Only who creates a ticket writes the watched key: changes of tickets are not in the way, and
	// tickets come into the list one after the other.
	return s.transact(ctx, orderKey, func(ctx context.Context, tx *redis.Tx) error {
		p := tx.Pipeline()
		others, waiting := p.LLen(ctx, orderKey), p.LLen(ctx, outboxKey)
		if _, err := p.Exec(ctx); err != nil {
			return err
		}
		c, err := admit(t, int(others.Val()))
		if err != nil {
			return err
		}
		return s.commit(ctx, tx, c, waiting.Val())
	})
}

func (s *redisStore) change(ctx context.Context, id string, e edit) (thread, error) {
	var changed thread
	// Every change writes the ticket's key, so this guards its comments too.
	err := s.transact(ctx, ticketKeys+id, func(ctx context.Context, tx *redis.Tx) error {
		p := tx.Pipeline()
		found := reading(ctx, p, id)
		waiting := p.LLen(ctx, outboxKey)
		_, _ = p.Exec(ctx)
		t, err := found()
		if err != nil {
			return err
		}
		if err := waiting.Err(); err != nil {
			return err
		}
		next, c, err := e.of(t)
		switch {
		case errors.Is(err, errUnchanged):
			changed = t
			return nil
		case err != nil:
			return err
		}
		changed = next
		return s.commit(ctx, tx, c, waiting.Val())
	})
	if err != nil {
		return thread{}, err
	}
	return changed, nil
}

// reading queues the commands that read a ticket, and returns what makes a thread of the replies.
func reading(ctx context.Context, p redis.Pipeliner, id string) func() (thread, error) {
	head, rest := p.Get(ctx, ticketKeys+id), p.LRange(ctx, commentKeys+id, 0, -1)
	return func() (thread, error) {
		if errors.Is(head.Err(), redis.Nil) {
			return thread{}, errNotFound
		}
		if err := errors.Join(head.Err(), rest.Err()); err != nil {
			return thread{}, err
		}
		made, err := decodeTicket(id, head.Val())
		if err != nil {
			return thread{}, err
		}
		t := thread{ticket: made, Comments: make([]comment, len(rest.Val()))}
		for i, text := range rest.Val() {
			if err := json.Unmarshal([]byte(text), &t.Comments[i]); err != nil {
				return thread{}, err
			}
		}
		return t, nil
	}
}

// commit executes the transaction that makes a change.
func (s *redisStore) commit(ctx context.Context, tx *redis.Tx, c change, waiting int64) error {
	// The outbox is not watched, or all changes would be in each other's way. So it may become
	// longer, by as many as are at this point at the same time.
	if waiting >= outboxSize {
		return errBusy
	}
	t, err := json.Marshal(c.Ticket)
	if err != nil {
		return err
	}
	e, err := json.Marshal(entry{Kind: c.Kind, change: c})
	if err != nil {
		return err
	}
	_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, ticketKeys+c.Ticket.ID, t, 0)
		if c.Kind == kindCreated {
			p.RPush(ctx, orderKey, c.Ticket.ID)
		}
		if c.Comment != nil {
			said, err := json.Marshal(c.Comment)
			if err != nil {
				return err
			}
			p.RPush(ctx, commentKeys+c.Ticket.ID, said)
		}
		p.RPush(ctx, outboxKey, e)
		return nil
	})
	return err
}

// transact runs f, which reads and then commits, until nobody else has written the key in between.
// It wakes the relay when f has succeeded.
func (s *redisStore) transact(ctx context.Context, key string, f func(context.Context, *redis.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	end, ok := s.turns.take(ctx, key)
	if !ok {
		return errBusy
	}
	defer end()
	for try := range tries {
		err := s.client.Watch(ctx, func(tx *redis.Tx) error { return f(ctx, tx) }, key)
		if err == nil {
			s.relay.wake()
		}
		if !errors.Is(err, redis.TxFailedErr) {
			return reached(err)
		}
		// At random, so that those who met do not meet again.
		select {
		case <-time.After(rand.N(time.Duration(try+1) * time.Millisecond)):
		case <-ctx.Done():
			return errBusy
		}
	}
	return errBusy
}

func (s *redisStore) close(ctx context.Context) error {
	s.relay.close(ctx)
	return nil
}

// reached tells what is wrong with a request from what is wrong with Redis, which is errAway.
func reached(err error) error {
	if _, ok := errors.AsType[refusal](err); ok || err == nil {
		return err
	}
	return fmt.Errorf("%w: %w", errAway, err)
}
