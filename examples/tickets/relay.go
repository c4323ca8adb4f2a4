package main

import (
	"context"
	_ "embed" // for the script
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends/redisstream"
	"github.com/headrace/headrace/hub"
)

// relay publishes what is in the outbox in Redis, from its head on: it publishes the head, and
// removes it then.
//
// Each instance has one, and it does not matter which of them publishes a change. Two at once do no
// harm:
//
//	relay A reads the head, change 1, and is held up
//	relay B reads the head, change 1, publishes it, and removes it; change 2 is the head
//	relay A publishes change 1: the backend has a message with this key, so nothing is appended
//	relay A wants to remove change 1: that is not the head any more, so nothing is removed
//
// Nor does it when A dies anywhere in this. And since a change is only published while it is the
// head, everything before it has been: the feeds have the order of the outbox. The backend
// remembers keys for a day unless told otherwise, far longer than A may be held up.
type relay struct {
	client   redis.UniversalClient
	hub      *hub.Hub
	woken    chan struct{}
	closed   chan struct{}  // closed by close
	done     chan struct{}  // closed when run has returned
	refusals map[string]int // how often in a row each topic was refused; drain's own

	ctx    context.Context // ends when nothing may be published any more
	cancel context.CancelFunc
}

// lookEvery is how soon a relay finds what an instance has left that was killed.
const lookEvery = time.Second

// mostRefusals are as many refusals of a topic in a row as are taken for something that passes:
// about three seconds. Until then the feeds of all tickets wait.
const mostRefusals = 6

// entry is a change in the outbox.
type entry struct {
	Kind string `json:"kind"`
	change
}

//go:embed remove.lua
var removeSource string

// removeScript removes an entry if it is the head, and reports 1 then and 0 otherwise.
var removeScript = redis.NewScript(removeSource)

// newRelay returns a relay. It publishes nothing before run.
func newRelay(client redis.UniversalClient, h *hub.Hub) *relay {
	r := &relay{client: client, hub: h, woken: make(chan struct{}, 1), closed: make(chan struct{}), done: make(chan struct{}), refusals: make(map[string]int)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// wake makes the relay look now. It never blocks.
func (r *relay) wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// run publishes until close.
func (r *relay) run() {
	defer close(r.done)
	wait := firstWait
	for open := true; open; {
		pause, woken := lookEvery, r.woken
		if err := r.drain(r.ctx); err == nil {
			wait = firstWait
		} else {
			slog.Warn("tickets: publishing failed, will be tried again", "wait", wait, "err", err)
			// To be woken by each request would be to try without a pause.
			pause, woken = wait, nil
			wait = min(2*wait, longestWait)
		}
		select {
		case <-woken:
		case <-time.After(pause):
		case <-r.closed:
			open = false
		}
	}
	// What is left after this is not lost: another instance publishes it, or the next one that
	// starts.
	if err := r.drain(r.ctx); err != nil {
		slog.Warn("tickets: changes may be left in the outbox", "err", err)
	}
}

// close makes run look once more and return, at the latest when ctx ends. It must be called once,
// after run.
func (r *relay) close(ctx context.Context) {
	close(r.closed)
	defer context.AfterFunc(ctx, r.cancel)()
	<-r.done
	r.cancel()
}

// drain publishes until the outbox is empty, or until it finds that another relay is at work.
func (r *relay) drain(ctx context.Context) error {
	for {
		head, err := r.client.LIndex(ctx, outboxKey, 0).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err != nil {
			return err
		}
		keys := []string{outboxKey}
		err = r.publish(ctx, head)
		if errors.Is(err, errUnpublishable) {
			// A change that is missing in a feed until pages load anew is better than feeds that
			// stand still.
			slog.Error("tickets: a change is left out of the feeds and put to the dead letters", "key", deadLettersKey, "err", err)
			keys = append(keys, deadLettersKey)
		} else if err != nil {
			return err
		}
		removed, err := removeScript.Run(ctx, r.client, keys, head).Bool()
		if err != nil {
			return err
		}
		if !removed {
			// The other relay goes on to the end, which is behind all that this one was woken for.
			// To race it would be to do everything twice.
			return nil
		}
	}
}

// publish publishes an entry to all of its topics, also to the rest of them after one that it
// cannot be published to.
func (r *relay) publish(ctx context.Context, head string) error {
	var e entry
	if err := json.Unmarshal([]byte(head), &e); err != nil {
		return fmt.Errorf("%w: %w", errUnpublishable, err)
	}
	if e.Kind == "" || e.Ticket.ID == "" || e.Ticket.Version < 1 {
		return fmt.Errorf("%w: the entry lacks the kind, or the ticket's id or version", errUnpublishable)
	}
	e.change.Kind = e.Kind
	var unpublishable error
	refused, serving := make(map[string]error), false
	for _, topic := range e.topics() {
		err := publish(ctx, r.hub, topic, e.change)
		wrongType := errors.Is(err, redisstream.ErrWrongType)
		switch {
		case err == nil:
			serving = true
			delete(r.refusals, topic)
		case errors.Is(err, errUnpublishable):
			unpublishable = err
		case errors.Is(err, hub.ErrRejected) && (wrongType || errors.Is(err, redisstream.ErrReply)):
			serving = serving || wrongType
			refused[topic] = err
		default:
			return err
		}
	}
	if len(refused) == 0 {
		return unpublishable
	}
	return r.refuse(refused, serving)
}

// refuse counts the refusals of topics. It returns errUnpublishable when none of them is expected
// to pass. Redis may also refuse a command for a reason that is not the topic's, such as too many
// clients: unless it is known to be serving, by what it said to another topic, nothing is counted.
func (r *relay) refuse(refused map[string]error, serving bool) error {
	passes := !serving
	var causes []error
	for topic, err := range refused {
		causes = append(causes, err)
		if serving {
			r.refusals[topic]++
			passes = passes || r.refusals[topic] < mostRefusals
		}
	}
	if passes {
		return errors.Join(causes...)
	}
	return fmt.Errorf("%w: %w", errUnpublishable, errors.Join(causes...))
}
