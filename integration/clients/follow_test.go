package clients

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// scenario is something that happens to a client. It returns an error when the client did not get
// each message once and in order.
type scenario struct {
	name string
	setup
	run func(s *site, start func()) error
}

// retained is how many messages a client can catch up on where a gap is wanted.
const retained = 3

var (
	rotations = scenario{"rotations", setup{start: hub.Earliest(), lifetime: 250 * time.Millisecond}, rotate}
	cuts      = scenario{"cuts", setup{}, cut(tears)}
	silence   = scenario{"silence", setup{heartbeat: 20 * time.Millisecond}, keepSilent}
	gap       = scenario{"gap", setup{retain: retained}, leaveGap}
)

func TestClientsFollow(t *testing.T) {
	b := newBrowser(t)
	for _, c := range all {
		for _, scenario := range []scenario{rotations, cuts, silence, gap} {
			t.Run(c.name+"/"+scenario.name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, scenario.setup)
				if err := scenario.run(s, func() { c.start(s, b, "close", "") }); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// rotate: the client gets what is there when it comes, and goes on over many streams while messages
// are published.
func rotate(s *site, start func()) error {
	const (
		wanted = 10 // rotations
		ahead  = 8  // messages that the client has not reported yet
	)
	if err := s.publish(ahead); err != nil {
		return err
	}
	start()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		rotated := 0
		err := s.wait("it had got most messages", func() bool {
			rotated = s.rotations
			return s.got+ahead > len(s.published)
		})
		switch {
		case err != nil:
			return err
		case rotated >= wanted:
			return s.all()
		}
		<-tick.C
		if err := s.publish(1); err != nil {
			return err
		}
	}
}

// cut: the connection breaks before the first message, and later at places in a message, while
// others are published.
func cut(tears []tear) func(s *site, start func()) error {
	return func(s *site, start func()) error {
		start()
		if err := s.has(report{Kind: "event", Type: "checkpoint"}); err != nil {
			return err
		}
		s.cut()
		if err := s.meanwhile(); err != nil {
			return err
		}
		for _, keep := range tears {
			s.change(func() { s.tear = keep })
			if err := s.publish(1); err != nil {
				return err
			}
			if err := s.wait("the connection broke", func() bool { return s.tear == nil }); err != nil {
				return err
			}
			if err := s.meanwhile(); err != nil {
				return err
			}
		}
		return nil
	}
}

// tear returns how much of a frame reaches the client.
type tear func(frame []byte) int

var tears = []tear{
	func([]byte) int { return 0 },
	func([]byte) int { return 3 },
	func(f []byte) int { return bytes.IndexByte(f, '\n') + 1 },
	func(f []byte) int { return bytes.LastIndex(f, []byte("id: ")) },
	func(f []byte) int { return len(f) - 3 }, // within the ID
	func(f []byte) int { return len(f) - 1 }, // all but the blank line
	func(f []byte) int { return len(f) },
}

// meanwhile publishes while the client is away, lets it come back, and waits until it has got
// everything.
func (s *site) meanwhile() error {
	if err := s.away(); err != nil {
		return err
	}
	if err := s.publish(2); err != nil {
		return err
	}
	s.release()
	// A second checkpoint means that it came without a cursor.
	err := s.wait("it was back", func() bool {
		return s.got == len(s.published) || s.count(report{Kind: "event", Type: "checkpoint"}) > 1
	})
	if err != nil {
		return err
	}
	// What is published now finds it connected, and shows what it has missed.
	if err := s.publish(1); err != nil {
		return err
	}
	return s.all()
}

// keepSilent: heartbeats are no events.
func keepSilent(s *site, start func()) error {
	start()
	if err := s.has(report{Kind: "event", Type: "checkpoint"}); err != nil {
		return err
	}
	if err := s.wait("there were many heartbeats", func() bool { return s.heartbeats >= 20 }); err != nil {
		return err
	}
	// What the heartbeats caused would be reported before these.
	if err := s.publish(2); err != nil {
		return err
	}
	if err := s.all(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reports) != 1 || len(s.visits) != 1 {
		return fmt.Errorf("reports %+v in %d visits, want a checkpoint in one", s.reports, len(s.visits))
	}
	return nil
}

// leaveGap: more messages are published than are retained while the client is away.
func leaveGap(s *site, start func()) error {
	start()
	if err := s.has(report{Kind: "event", Type: "checkpoint"}); err != nil {
		return err
	}
	if err := s.publish(2); err != nil {
		return err
	}
	if err := s.all(); err != nil {
		return err
	}
	s.cut()
	if err := s.away(); err != nil {
		return err
	}
	if err := s.publish(3 * retained); err != nil {
		return err
	}
	s.release()
	if err := s.has(report{Kind: "event", Type: "gap"}); err != nil {
		return err
	}
	if err := s.all(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.count(report{Kind: "event", Type: "gap"}); n != 1 {
		return fmt.Errorf("%d gaps were reported, want one", n)
	}
	if s.shows && s.loads == 0 {
		return fmt.Errorf("the gap did not make the page load its state")
	}
	return nil
}
