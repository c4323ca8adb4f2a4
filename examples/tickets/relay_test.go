package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends/redisstream"
	"github.com/headrace/headrace/hub"
)

// hubOver returns a hub that ends with the test, over the backend of an instance behind another
// one.
func hubOver(t *testing.T, backend hub.Backend) *hub.Hub {
	t.Helper()
	h, err := hub.New(backend, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestKilledInstance: what an instance has left in the outbox is published by another one, which
// nobody wakes.
func TestKilledInstance(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		other := open(t, url)
		killed := silent(t, url)
		made := mustCreate(t, killed, "a")
		if _, err := edited(t, killed, made.ID)(commenting("my last words")); err != nil {
			t.Fatal(err)
		}
		changes := other.published(everything, 2)
		inOrder(t, "feed", changes)
		if c := changes[1].Comment; c == nil || c.Text != "my last words" {
			t.Errorf("the comment is published as %+v", c)
		}
	})
}

// reluctant is a backend that refuses the first message.
type reluctant struct {
	hub.Backend
	refused atomic.Bool
}

func (r *reluctant) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	if r.refused.CompareAndSwap(false, true) {
		return "", fmt.Errorf("%w: %w", hub.ErrRejected, errOffline)
	}
	return r.Backend.Publish(ctx, topic, m)
}

// TestStoreClosesWithAnEmptyOutbox: an instance that stops in an orderly way leaves nothing to
// others, also when its relay just pauses after a failure.
func TestStoreClosesWithAnEmptyOutbox(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		i := silent(t, url)
		for n := range 20 {
			mustCreate(t, i, fmt.Sprint(n))
		}
		h := hubOver(t, &reluctant{Backend: i.backend})
		if err := newRedisStore(i.client(), h).close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := i.client().LLen(t.Context(), outboxKey).Val(); n != 0 {
			t.Errorf("%d changes are left in the outbox", n)
		}
		inOrder(t, "feed", i.published(everything, 20))
	})
}

// TestChangesWakeTheRelay: a change does not wait for the relay's next look.
func TestChangesWakeTheRelay(t *testing.T) {
	i := silent(t, "redis://"+miniredis.RunT(t).Addr())
	woken := func(what string) {
		t.Helper()
		select {
		case <-i.store.(*redisStore).relay.woken:
		default:
			t.Errorf("%s has not woken the relay", what)
		}
	}
	made := mustCreate(t, i, "a")
	woken("create")
	if _, err := edited(t, i, made.ID)(commenting("a")); err != nil {
		t.Fatal(err)
	}
	woken("change")
}

// held is a backend whose publishes wait for a while.
type held struct {
	hub.Backend
	arrived, release chan struct{}
}

func (h *held) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	select {
	case h.arrived <- struct{}{}:
		<-h.release
	case <-h.release:
	}
	return h.Backend.Publish(ctx, topic, m)
}

// TestLateRelay is the race in the comment of relay: one is held up between reading the head and
// publishing it.
func TestLateRelay(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		i := silent(t, url)
		made := mustCreate(t, i, "a")
		backend := &held{Backend: i.backend, arrived: make(chan struct{}), release: make(chan struct{})}
		h := hubOver(t, backend)
		late := newRelay(i.client(), h)
		drained := make(chan error)
		go func() { drained <- late.drain(t.Context()) }()
		<-backend.arrived

		if err := newRelay(i.client(), i.hub).drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := edited(t, i, made.ID)(commenting("now the head")); err != nil {
			t.Fatal(err)
		}
		close(backend.release)
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
		// The late one saw that it is not alone and left the rest: for now, since nobody else does
		// it here.
		if n := i.client().LLen(t.Context(), outboxKey).Val(); n != 1 {
			t.Errorf("%d changes are in the outbox, want the one that was not published", n)
		}
		if err := late.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		inOrder(t, "feed", i.published(everything, 2))
		for _, topic := range made.changeTopics() {
			if extra := remaining(t, i.hub, topic); extra != 0 {
				t.Errorf("%s: %d messages too many", topic, extra)
			}
		}
	})
}

// TestRelaysCompete: two relays start at the same full outbox.
func TestRelaysCompete(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		i := silent(t, url)
		const tickets, each = 3, 40
		for n := range tickets {
			made := mustCreate(t, i, fmt.Sprint(n))
			for k := range each {
				if _, err := edited(t, i, made.ID)(commenting(fmt.Sprint(k))); err != nil {
					t.Fatal(err)
				}
			}
		}
		one := open(t, url)
		open(t, url)
		inOrder(t, "feed", one.published(everything, tickets*(each+1)))
		if extra := remaining(t, one.hub, everything); extra != 0 {
			t.Errorf("%d messages too many", extra)
		}
	})
}

// TestDeadLetters: what can never be published does not hold up what is behind it, and is kept.
func TestDeadLetters(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		i := dead(t, url, hub.Options{MaxMessage: 400})
		i.store = &redisStore{client: i.client(), relay: newRelay(i.client(), i.hub)}
		made := mustCreate(t, i, "a")
		foreign := []any{"not JSON", "null", "{}", `{"kind":"created","ticket":{"version":1}}`, `{"kind":"created","ticket":{"id":"a"}}`, `{"ticket":{"id":"a","version":1}}`}
		if err := i.client().RPush(t.Context(), outboxKey, foreign...).Err(); err != nil {
			t.Fatal(err)
		}
		for _, words := range []string{strings.Repeat("too long ", 50), "short"} {
			if _, err := edited(t, i, made.ID)(commenting(words)); err != nil {
				t.Fatal(err)
			}
		}
		if err := newRelay(i.client(), i.hub).drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		changes := i.published(everything, 2)
		if changes[0].Ticket.Version != 1 || changes[1].Ticket.Version != 3 {
			t.Errorf("published %+v, want versions 1 and 3", changes)
		}
		letters := i.client().LRange(t.Context(), deadLettersKey, 0, -1).Val()
		last := len(letters) - 1
		if last != len(foreign) || fmt.Sprint(letters[:last]) != fmt.Sprint(foreign) || !strings.Contains(letters[last], "too long") {
			t.Errorf("the dead letters are %q", letters)
		}
		if extra := remaining(t, i.hub, everything); extra != -1 { // the one that is too long
			t.Errorf("%d messages too many", extra+1)
		}
		if n := i.client().LLen(t.Context(), outboxKey).Val(); n != 0 {
			t.Errorf("%d changes are left in the outbox", n)
		}
	})
}

// TestRefusedTopic: a topic that Redis refuses for good does not hold up the others.
func TestRefusedTopic(t *testing.T) {
	// The last ID there can be: Redis appends nothing after it.
	full := &redis.XAddArgs{ID: "18446744073709551615-18446744073709551615", Values: []string{"a", "b"}}
	for _, test := range []struct {
		name  string
		all   bool // it is the topic of all tickets
		spoil func(p redis.Pipeliner, key string)
	}{
		{"a ticket's, of another type", false, func(p redis.Pipeliner, key string) { p.Set(t.Context(), key, "x", 0) }},
		{"a ticket's, without room for an ID", false, func(p redis.Pipeliner, key string) {
			full.Stream = key
			p.XAdd(t.Context(), full)
		}},
		{"that of all, of another type", true, func(p redis.Pipeliner, key string) { p.Set(t.Context(), key, "x", 0) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			overRedis(t, func(t *testing.T, url string) {
				i := silent(t, url)
				spoilt, other := mustCreate(t, i, "a"), mustCreate(t, i, "b")
				topic := spoilt.changeTopics()[0]
				if test.all {
					topic = everything
				}
				if _, err := i.client().Pipelined(t.Context(), func(p redis.Pipeliner) error {
					test.spoil(p, "headrace:{"+topic+"}")
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				r := newRelay(i.client(), i.hub)
				for n := 1; n < mostRefusals; n++ {
					if err := r.drain(t.Context()); !errors.Is(err, hub.ErrRejected) {
						t.Fatalf("try %d: %v, want ErrRejected", n, err)
					}
				}
				if n := i.client().LLen(t.Context(), outboxKey).Val(); n != 2 {
					t.Fatalf("%d changes are left in the outbox before the last try", n)
				}
				// From now on the topic holds up nothing.
				for n := range 2 {
					if err := r.drain(t.Context()); err != nil {
						t.Fatal(err)
					}
					for _, made := range []thread{spoilt, other} {
						if _, err := edited(t, i, made.ID)(commenting(fmt.Sprint(n))); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := r.drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				whole, refused := []string{everything, other.changeTopics()[0]}, 3
				if test.all {
					whole, refused = []string{spoilt.changeTopics()[0], other.changeTopics()[0]}, 6
				}
				for _, topic := range whole {
					inOrder(t, topic, i.published(topic, 3))
				}
				if letters := i.client().LLen(t.Context(), deadLettersKey).Val(); int(letters) != refused {
					t.Errorf("%d dead letters, want %d", letters, refused)
				}

				// Once Redis takes the topic again, so does the relay.
				if err := i.client().Del(t.Context(), "headrace:{"+topic+"}").Err(); err != nil {
					t.Fatal(err)
				}
				if _, err := edited(t, i, spoilt.ID)(commenting("mended")); err != nil {
					t.Fatal(err)
				}
				if err := r.drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				if c := i.published(topic, 1)[0]; c.Ticket.Version != 4 {
					t.Errorf("published version %d, want 4", c.Ticket.Version)
				}
				if len(r.refusals) > 0 {
					t.Errorf("the relay still counts %v", r.refusals)
				}
			})
		})
	}
}

// refusing is a backend that refuses all messages, or those of one topic.
type refusing struct {
	hub.Backend
	cause error
	topic string // "" for all
}

func (r *refusing) Publish(ctx context.Context, topic string, m hub.Message) (hub.ID, error) {
	if r.topic == "" || r.topic == topic {
		return "", r.cause
	}
	return r.Backend.Publish(ctx, topic, m)
}

func rejected(cause error) error { return fmt.Errorf("%w: %w", hub.ErrRejected, cause) }

// TestBothTopicsRefused: that keys are of another type says enough, also when no topic takes the
// change.
func TestBothTopicsRefused(t *testing.T) {
	i := silent(t, "redis://"+miniredis.RunT(t).Addr())
	h := hubOver(t, &refusing{Backend: i.backend, cause: rejected(redisstream.ErrWrongType)})
	mustCreate(t, i, "a")
	r := newRelay(i.client(), h)
	var err error
	for range mostRefusals {
		err = r.drain(t.Context())
	}
	if n := i.client().LLen(t.Context(), outboxKey).Val(); err != nil || n != 0 {
		t.Errorf("%v, %d changes are in the outbox; want none", err, n)
	}
}

// TestRefusalsThatPass: what is not the topic's fault, or may have been appended, is tried for
// ever.
func TestRefusalsThatPass(t *testing.T) {
	for name, backend := range map[string]*refusing{
		"Redis refuses all": {cause: rejected(redisstream.ErrReply)},
		"unreachable":       {cause: rejected(redisstream.ErrUnreachable), topic: everything},
		"full":              {cause: rejected(redisstream.ErrFull), topic: everything},
		"denied":            {cause: rejected(redisstream.ErrDenied), topic: everything},
		"outcome unknown":   {cause: fmt.Errorf("%w: %w", hub.ErrUnknown, redisstream.ErrWrongType), topic: everything},
	} {
		t.Run(name, func(t *testing.T) {
			i := silent(t, "redis://"+miniredis.RunT(t).Addr())
			backend.Backend = i.backend
			h := hubOver(t, backend)
			mustCreate(t, i, "a")
			r := newRelay(i.client(), h)
			for range mostRefusals + 1 {
				if err := r.drain(t.Context()); err == nil {
					t.Fatal("the change is given up")
				}
			}
			if n := i.client().LLen(t.Context(), outboxKey).Val(); n != 1 {
				t.Errorf("%d changes are in the outbox, want 1", n)
			}
		})
	}
}
