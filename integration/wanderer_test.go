package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
)

// logs are the messages of topics, each in the order of its log.
type logs map[string][]string

// old is the data of messages from before a test's own.
const old = "old"

// settleIDs publishes messages until each topic has ordinary IDs: the sequence number of the first
// one is large, so that nobody takes it for that of another life of the topic.
func settleIDs(t *testing.T, h *hub.Hub, topics []string) {
	t.Helper()
	for _, topic := range topics {
		for ordinary := false; !ordinary; {
			id, err := h.Publish(t.Context(), topic, hub.Message{Data: []byte(old)})
			if err != nil {
				t.Fatal(err)
			}
			_, seq, _ := strings.Cut(string(id), "-")
			ordinary = len(seq) < 4
		}
	}
}

// readLogs reads what Redis retains, until there are so many messages of each topic, old ones
// apart.
func readLogs(t *testing.T, h *hub.Hub, topics []string, n int) logs {
	t.Helper()
	l := make(logs)
	for _, topic := range topics {
		sub, err := h.Subscribe(t.Context(), topic, hub.Earliest())
		if err != nil {
			t.Fatal(err)
		}
		for m, err := range sub.All() {
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Data) == old {
				continue
			}
			if l[topic] = append(l[topic], string(m.Data)); len(l[topic]) == n {
				break
			}
		}
	}
	return l
}

// wanderer is a client that reads topics over connections to changing instances.
type wanderer struct {
	cursor      string
	got         logs
	next        map[string]int // of each topic and publisher, the number that is due
	opened      func()         // what is done once a connection is open; nil: nothing
	count       int
	gaps        int
	longest     int // cursor, in bytes
	connections int
}

func newWanderer(cursor string) *wanderer {
	return &wanderer{cursor: cursor, got: make(logs), next: make(map[string]int)}
}

// numbers makes the wanderer look at the numbers that the publishers of a topic give their
// messages: what is missing there would else be waited for.
func (w *wanderer) numbers(data string) error {
	i := strings.LastIndexByte(data, ' ')
	publisher, number := data[:i], data[i+1:]
	if want := strconv.Itoa(w.next[publisher]); number != want {
		return fmt.Errorf("message %q where %s was due", data, want)
	}
	w.next[publisher]++
	return nil
}

// take takes an event over. A message's data begins with its topic.
func (w *wanderer) take(e sse.Event) error {
	switch e.Type {
	case "checkpoint":
	case "gap":
		w.gaps++
	case "":
		topic, _, _ := strings.Cut(e.Text(), " ")
		w.got[topic] = append(w.got[topic], e.Text())
		w.count++
	default:
		return fmt.Errorf("an event of type %q", e.Type)
	}
	if e.ID != "" {
		w.cursor = e.ID
		w.longest = max(w.longest, len(e.ID))
	}
	return nil
}

// read reads so many events of a feed on one connection, or until enough says so. Each event is
// followed by a call of after.
func (w *wanderer) read(i *instance, path string, events int, enough func() bool, after func()) error {
	s, err := open(i.server, path, w.cursor, 0)
	if err != nil {
		return err
	}
	defer s.drop()
	w.connections++
	if w.opened != nil {
		w.opened()
	}
	for ; events > 0 && !enough(); events-- {
		e, err := s.Decode()
		if err == nil {
			err = w.take(e)
		}
		if err == nil && e.Type == "" && w.next != nil {
			err = w.numbers(e.Text())
		}
		if err != nil {
			return fmt.Errorf("connection %d, message %d: %w", w.connections, w.count, err)
		}
		after()
	}
	return nil
}

// compare holds what a client got against the logs.
func (w *wanderer) compare(want logs) error {
	for topic, messages := range want {
		if got := w.got[topic]; !slices.Equal(got, messages) {
			i := 0
			for i < min(len(got), len(messages)) && got[i] == messages[i] {
				i++
			}
			return fmt.Errorf("topic %s: %d messages, want %d; they differ from number %d on: %q, want %q",
				topic, len(got), len(messages), i, got[i:min(i+3, len(got))], messages[i:min(i+3, len(messages))])
		}
	}
	if len(w.got) > len(want) {
		return fmt.Errorf("messages of %d topics, want %d", len(w.got), len(want))
	}
	return nil
}

// pacer keeps publishers from being far ahead of the slowest reader.
type pacer struct {
	mu       sync.Mutex
	moved    sync.Cond
	sent     int
	received []int
	stopped  bool
}

func newPacer(readers int) *pacer {
	p := &pacer{received: make([]int, readers)}
	p.moved.L = &p.mu
	return p
}

// next waits until one more message may be sent, and reports false when none is to be sent any
// more.
func (p *pacer) next(ahead int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.stopped && p.sent-slices.Min(p.received) >= ahead {
		p.moved.Wait()
	}
	p.sent++
	return !p.stopped
}

func (p *pacer) took(reader, count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received[reader] = count
	p.moved.Broadcast()
}

func (p *pacer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.moved.Broadcast()
}
