package main

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// attempts is a publisher that counts how often each message was published, and loses answers on
// request: the message is appended, and whoever published it is told that this is unknown, as by a
// network that fails at the wrong moment. It is for this demonstration; leave it out of an
// application.
type attempts struct {
	message.Publisher

	mu     sync.Mutex
	lose   int            // how many of the next answers
	counts map[string]int // by UUID, of those that were published more than once or may be
	order  []string       // the keys of counts, oldest first
}

// shown is how many messages attempts are counted for.
const shown = 100

// errLost is that an answer was lost.
var errLost = errors.New("cqrs: the answer was lost on request")

// Publish implements message.Publisher.
func (a *attempts) Publish(topic string, messages ...*message.Message) error {
	err := a.Publisher.Publish(topic, messages...)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range messages {
		if a.counts[m.UUID] == 0 {
			a.order = append(a.order, m.UUID)
		}
		a.counts[m.UUID]++
	}
	for len(a.order) > shown {
		delete(a.counts, a.order[0])
		a.order = a.order[1:]
	}
	if err == nil && a.lose > 0 {
		a.lose--
		return fmt.Errorf("%w: %w", hub.ErrUnknown, errLost)
	}
	return err
}

// loseNext loses the next n answers.
func (a *attempts) loseNext(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lose = n
}

// tally is how often the newest messages were published, by UUID, and how many answers are still to
// be lost.
type tally struct {
	Attempts map[string]int `json:"attempts"`
	ToLose   int            `json:"to_lose"`
}

func (a *attempts) tally() tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	return tally{Attempts: maps.Clone(a.counts), ToLose: a.lose}
}
