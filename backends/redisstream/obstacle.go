package redisstream

import (
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

const (
	// passAfter is how often a message is tried by itself, while the server answers otherwise,
	// before it is passed over, and passFor how long it is passed over then.
	passAfter = 3
	passFor   = time.Minute
	// keptObstacles is how many are remembered.
	keptObstacles = 1024
)

// spot is a position in a stream.
type spot struct {
	stream string
	after  hub.ID
}

// obstacle is what lies behind a place where a read did not come in time.
type obstacle struct {
	alone bool   // one message was asked for, when it was last so
	times int    // that the message there did not come alone, while the server answered
	pass  hub.ID // the message, once it is passed over
	until time.Time
}

// obstacles are the places where reads do not come in time. There is mostly none.
type obstacles struct {
	mu     sync.RWMutex
	places map[spot]obstacle
}

// at returns the obstacle behind a place.
func (o *obstacles) at(p spot) (obstacle, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	found, ok := o.places[p]
	return found, ok
}

// alone reports whether a message did not come in time although it was asked for by itself.
func (o *obstacles) alone(p spot) bool {
	found, _ := o.at(p)
	return found.alone
}

// late notes that a read did not come in time.
func (o *obstacles) late(p spot, alone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	is := o.places[p]
	is.alone = alone
	o.set(p, is)
}

// gone notes that a read came.
func (o *obstacles) gone(p spot) {
	if _, ok := o.at(p); !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.places, p)
}

// failed notes that a message did not come by itself, and reports whether it is passed over from
// now on.
func (o *obstacles) failed(p spot, id hub.ID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.places[p]
	was.alone = false // until the next time
	was.pass = ""     // if it was passed over, that was long ago
	if was.times++; was.times >= passAfter {
		was = obstacle{pass: id, until: time.Now().Add(passFor)}
	}
	o.set(p, was)
	return was.pass != ""
}

// set needs o.mu.
func (o *obstacles) set(p spot, is obstacle) {
	if o.places == nil {
		o.places = make(map[spot]obstacle)
	}
	if _, known := o.places[p]; !known && len(o.places) >= keptObstacles {
		for some := range o.places {
			delete(o.places, some)
			break
		}
	}
	o.places[p] = is
}

// behind returns from where on to read for a place: from behind the messages there that are passed
// over, if there are any.
func (o *obstacles) behind(p spot) hub.ID {
	now := time.Now()
	for range keptObstacles {
		is, ok := o.at(p)
		if !ok || is.pass == "" || !now.Before(is.until) {
			break
		}
		p.after = is.pass
	}
	return p.after
}
