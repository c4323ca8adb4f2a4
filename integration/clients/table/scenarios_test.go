package table

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/headrace/headrace/sse/feed"
)

// scenario is something that happens to a client. run returns a *verdict when the client does not
// simply follow.
type scenario struct {
	name string
	says string // for docs/clients.md
	setup
	run func(s *site) error
	// long scenarios are left out of the short form.
	long bool
}

// scenarios are the columns of the table.
var scenarios = []scenario{
	{name: "cut", says: "the connection breaks, anywhere in a message", run: cuts(false)},
	{name: "cut, ended", says: "the same behind a proxy that ends the response as if it were whole", run: cuts(true)},
	{name: "rotation", says: "streams end at `MaxLifetime`", setup: setup{feed: feed.Options{MaxLifetime: 300 * time.Millisecond}}, run: rotate},
	{name: "rotation, broken", says: "the same with `BreakRotations`", setup: setup{feed: feed.Options{MaxLifetime: 300 * time.Millisecond, Ending: feed.BreakRotations}}, run: rotate},
	{name: "finish", says: "the feed is finished: `close`, and 204 to who comes back; nobody listens for `close`, and who is asked to come back after a minute is asked to do so at once", setup: setup{soon: true}, run: finish, long: true},
	{name: "heartbeats", says: "comment lines in a silence", setup: setup{feed: feed.Options{Heartbeat: 20 * time.Millisecond}}, run: silence},
	{name: "gap", says: "more messages than are retained, while the client is away", setup: setup{retain: 3}, run: leaveGap},
	{name: "topics", says: "a feed of three topics, with a broken connection", setup: setup{topics: []string{"a", "b", "c"}}, run: cuts(false)},
	{name: "1 MiB", says: "a message of 1 MiB in 65,000 lines", run: contents(strings.Repeat("0123456789abcé\n", 65_000))},
	{name: "Unicode", says: "letters of one to four bytes, each byte in a packet of its own", setup: setup{bytely: true}, run: contents("aé漢🌊 \u2028\u0085\uFEFFe\u0301", "\uFEFF🌊")},
	{name: "NUL", says: "a NUL in a message", run: contents("a\x00b", "\x00")},
	{name: "binary", says: "bytes that are no text, in base64", run: contents("\xff\xfe\x00\r\n", "\x80")},
	{name: "403", says: "a client that comes back is refused", run: refused, long: true},
	{name: "503", says: "a client that comes back is told 503, once, by a proxy whose server is away", run: unavailable},
	{name: "stall", says: "nothing comes any more, and the connection stays; heartbeats are due each second", setup: setup{feed: feed.Options{Heartbeat: time.Second}}, run: stall, long: true},
	{name: "restart", says: "the server is killed, and starts again at the same address", run: restart},
	{name: "restart, other origin", says: "the same, for a page of another origin", setup: setup{across: true}, run: restart},
}

// begin starts the client and waits until it follows.
func begin(s *site) error {
	startClient(s)
	if err := s.wait("its stream had begun", patience, func() bool { return s.begun > 0 }); err != nil {
		return err
	}
	return errors.Join(s.some(2), s.got())
}

// meanwhile publishes while the client is away, lets it come back, and waits until it has got
// everything.
func (s *site) meanwhile() error {
	if err := errors.Join(s.away(), s.some(1)); err != nil {
		return err
	}
	begun := 0
	s.change(func() { begun = s.begun })
	s.release()
	if err := s.wait("it was back", patience, func() bool { return s.next == len(s.sent) || s.begun > begun }); err != nil {
		return err
	}
	// What is published now finds it connected, and shows what it has missed.
	if err := s.some(1); err != nil {
		return err
	}
	return s.got()
}

// cuts breaks the connection at places of a message. They are so many that each kind of place is
// among them: within a name, a value, the ID and the ends of lines.
func cuts(clean bool) func(s *site) error {
	return func(s *site) error {
		if err := begin(s); err != nil {
			return err
		}
		s.change(func() { s.clean = clean })
		for _, place := range places() {
			if err := s.cutAndReturn(place); err != nil {
				return fmt.Errorf("cut at byte %d: %w", place, err)
			}
		}
		return nil
	}
}

// cutAndReturn breaks the connection at a place of the next message.
func (s *site) cutAndReturn(place int) error {
	s.change(func() { s.cutAt = &place })
	if err := s.some(1); err != nil {
		return err
	}
	if err := s.wait("the connection broke", patience, func() bool { return s.cutAt == nil }); err != nil {
		return err
	}
	return s.meanwhile()
}

// places are the bytes that a message is cut at, negative ones from its end. The longest frame has
// about 80, and every other message has a type, so each place is there for both kinds.
func places() []int {
	last := []int{-1, -1, -2, -2, -3, -3}
	if *short {
		return append(last, 0, 0, 20, 20, 40, 40)
	}
	all := append(last, -10, -10)
	for i := 0; i < 90; i += *step {
		all = append(all, i, i)
	}
	return all
}

// rotate: messages are published all the time.
func rotate(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	for {
		visits := 0
		if err := s.wait("it had got all messages", patience, func() bool {
			visits = len(s.visits)
			return s.next == len(s.sent)
		}); err != nil {
			return err
		}
		if visits > 3 {
			return nil
		}
		if err := s.some(1); err != nil {
			return err
		}
	}
}

// finish: the end of the feed is said twice.
func finish(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	for _, topic := range s.setup.topics {
		if _, err := s.hub.Finish(context.Background(), topic); err != nil {
			return err
		}
	}
	none := func() int {
		n := 0
		for _, v := range s.visits {
			if v.status == http.StatusNoContent {
				n++
			}
		}
		return n
	}
	// Clients that stop at close never get here.
	if err := s.wait("it was told 204", 8*time.Second, func() bool { return none() > 0 || s.ended }); err != nil {
		if v, ok := errors.AsType[*verdict](err); ok && v.outcome == stops {
			return nil
		}
		return err
	}
	if err := s.wait("it came back", 8*time.Second, func() bool { return none() > 2 }); err == nil {
		return &verdict{returns, "204 is not the end"}
	}
	return nil
}

// silence: heartbeats are no events.
func silence(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	s.mu.Lock()
	visits := len(s.visits)
	s.mu.Unlock()
	// A client that takes them for something says so before the message behind them.
	time.Sleep(200 * time.Millisecond) // as many heartbeats as that may be
	if err := errors.Join(s.some(1), s.got()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.visits) != visits {
		return &verdict{returns, fmt.Sprintf("visits %v", s.visits)}
	}
	return nil
}

// leaveGap: more messages are published than are retained while the client is away.
func leaveGap(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	s.cut()
	if err := errors.Join(s.away(), s.some(9)); err != nil {
		return err
	}
	s.release()
	if err := s.got(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gaps != 1 {
		return &verdict{loses, fmt.Sprintf("%d gaps", s.gaps)}
	}
	return &verdict{told, "one gap"}
}

// contents: messages come as they were published.
func contents(data ...string) func(s *site) error {
	return func(s *site) error {
		if err := begin(s); err != nil {
			return err
		}
		for _, d := range data {
			if err := errors.Join(s.publish(d), s.some(1), s.got()); err != nil {
				return err
			}
		}
		return nil
	}
}

// refused: the client is not to ask again and again.
func refused(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	s.change(func() { s.refuse = http.StatusForbidden })
	s.cut()
	if err := s.away(); err != nil {
		return err
	}
	s.release()
	err := s.wait("it was refused three times", 8*time.Second, func() bool { return len(s.visits) > 3 })
	if err == nil {
		return &verdict{returns, "403 is not the end"}
	}
	if v, ok := errors.AsType[*verdict](err); ok && v.outcome == stops {
		return nil
	}
	return err
}

// unavailable: one answer is 503.
func unavailable(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	s.change(func() { s.refuse, s.times = http.StatusServiceUnavailable, 1 })
	s.cut()
	return s.meanwhile()
}

// stall: the network swallows everything.
func stall(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	visits := 0
	s.change(func() {
		visits = len(s.visits)
		for w := range s.open {
			w.deaf = true
		}
	})
	if err := s.some(1); err != nil {
		return err
	}
	if err := s.wait("it came back", 8*time.Second, func() bool { return len(s.visits) > visits }); err != nil {
		return &verdict{unaware, err.Error()}
	}
	return errors.Join(s.some(1), s.got())
}

// restart: nobody listens for a while.
func restart(s *site) error {
	if err := begin(s); err != nil {
		return err
	}
	s.kill()
	if err := errors.Join(s.away(), s.some(1)); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond) // refused connections are seen by nobody here
	s.listen()
	if err := s.got(); err != nil {
		return err
	}
	return errors.Join(s.some(1), s.got())
}
