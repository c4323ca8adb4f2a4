package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/hub"
)

// sessions are who is signed in. They know a session by the digest of its cookie. The methods are
// safe for concurrent use; an error is errFull or errAway.
type sessions interface {
	// add keeps a session until it expires.
	add(ctx context.Context, name, digest string, expires time.Time) error
	// expiry returns when a session expires, or the zero time when it is not known. It may be over.
	expiry(ctx context.Context, name, digest string) (time.Time, error)
	// removeAll forgets all sessions of an agent.
	removeAll(ctx context.Context, name string) error
}

// newSessions returns sessions that are where the tickets are; see newStore.
func newSessions(backend hub.Backend) sessions {
	if b, ok := backend.(interface{ Client() redis.UniversalClient }); ok {
		return redisSessions{b.Client()}
	}
	return &memorySessions{byName: make(map[string]map[string]time.Time)}
}

// memorySessions are in memory.
type memorySessions struct {
	mu     sync.Mutex
	byName map[string]map[string]time.Time
}

func (s *memorySessions) add(_ context.Context, name, digest string, expires time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Those that are over are forgotten here: whoever signs in makes room.
	total, now := 0, time.Now()
	for other, all := range s.byName {
		for d, end := range all {
			if !now.Before(end) {
				delete(all, d)
			}
		}
		if total += len(all); len(all) == 0 {
			delete(s.byName, other)
		}
	}
	if total >= maxSessions {
		return errFull
	}
	if s.byName[name] == nil {
		s.byName[name] = make(map[string]time.Time)
	}
	s.byName[name][digest] = expires
	return nil
}

func (s *memorySessions) expiry(_ context.Context, name, digest string) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[name][digest], nil
}

func (s *memorySessions) removeAll(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, name)
	return nil
}

// redisSessions are in Redis, for all instances: a sorted set for each agent, of digests by the
// time at which they expire.
type redisSessions struct{ client redis.UniversalClient }

const sessionKeys = "{tickets}:sessions:" // the agent's name follows

func (s redisSessions) add(ctx context.Context, name, digest string, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	key := sessionKeys + name
	_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRemRangeByScore(ctx, key, "-inf", strconv.FormatInt(time.Now().UnixMilli(), 10))
		p.ZAdd(ctx, key, redis.Z{Score: float64(expires.UnixMilli()), Member: digest})
		p.ZRemRangeByRank(ctx, key, 0, -1-maxSessions) // of too many the oldest
		p.PExpireAt(ctx, key, expires)
		return nil
	})
	return reached(err)
}

func (s redisSessions) expiry(ctx context.Context, name, digest string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	expires, err := s.client.ZScore(ctx, sessionKeys+name, digest).Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, reached(err)
	}
	return time.UnixMilli(int64(expires)).UTC(), nil
}

func (s redisSessions) removeAll(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return reached(s.client.Del(ctx, sessionKeys+name).Err())
}
