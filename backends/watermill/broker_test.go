package watermill

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// fakeBroker is a Pub/Sub that keeps the order, and does what a test scripts.
type fakeBroker struct {
	mu      sync.Mutex
	history map[string][]*message.Message
	subs    map[string][]*fakeSub
	next    int // the subscription of a group that gets the next message

	// Scripts. They are called with mu held, and nil does nothing.
	// errAccepted and appended are told apart by what it does.
	onPublish   func(m *message.Message) error
	onDeliver   func(s *fakeSub, m *message.Message) (drop bool)
	onSubscribe func(n int) error
	delay       time.Duration // how long after Subscribe a subscription begins to get messages
	replay      bool          // a new subscription gets everything from the beginning
	group       bool          // each message goes to one subscription of its topic
	subscribed  int
}

type fakeSub struct {
	n      int
	ctx    context.Context
	cancel context.CancelFunc
	out    chan *message.Message
	queue  []*message.Message
	wake   chan struct{}
	mute   bool // gets nothing more, and says nothing about it
}

func newFake() *fakeBroker {
	return &fakeBroker{history: make(map[string][]*message.Message), subs: make(map[string][]*fakeSub)}
}

// set changes the script.
func (f *fakeBroker) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeBroker) Close() error { return nil }

func (f *fakeBroker) Publish(topic string, ms ...*message.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range ms {
		if f.onPublish != nil {
			if err := f.onPublish(m); err != nil {
				return err
			}
		}
		f.append(topic, m)
	}
	return nil
}

// append gives a message to the subscriptions, in order. f.mu is held.
func (f *fakeBroker) append(topic string, m *message.Message) {
	f.history[topic] = append(f.history[topic], m)
	subs := f.subs[topic]
	if f.group && len(subs) > 0 {
		f.next++
		subs = subs[f.next%len(subs) : f.next%len(subs)+1]
	}
	for _, s := range subs {
		if s.mute || f.onDeliver != nil && f.onDeliver(s, m) {
			continue
		}
		s.push(m.Copy())
	}
}

// put appends a message as another program would.
func (f *fakeBroker) put(topic string, m *message.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.append(topic, m)
}

func (s *fakeSub) push(m *message.Message) {
	s.queue = append(s.queue, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (f *fakeBroker) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribed++
	if f.onSubscribe != nil {
		if err := f.onSubscribe(f.subscribed); err != nil {
			return nil, err
		}
	}
	s := &fakeSub{n: f.subscribed, out: make(chan *message.Message), wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	begin := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.begin(topic, s)
	}
	if f.delay > 0 {
		time.AfterFunc(f.delay, begin)
	} else {
		f.begin(topic, s)
	}
	go f.pump(topic, s)
	return s.out, nil
}

func (f *fakeBroker) begin(topic string, s *fakeSub) {
	if f.replay {
		for _, m := range f.history[topic] {
			s.push(m.Copy())
		}
	}
	f.subs[topic] = append(f.subs[topic], s)
}

func (f *fakeBroker) pump(topic string, s *fakeSub) {
	defer close(s.out)
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.subs[topic] = slices.DeleteFunc(f.subs[topic], func(other *fakeSub) bool { return other == s })
	}()
	for {
		f.mu.Lock()
		var m *message.Message
		if len(s.queue) > 0 {
			m, s.queue = s.queue[0], s.queue[1:]
		}
		f.mu.Unlock()
		if m == nil {
			select {
			case <-s.wake:
				continue
			case <-s.ctx.Done():
				return
			}
		}
		select {
		case s.out <- m:
		case <-s.ctx.Done():
			return
		}
		select {
		case <-m.Acked():
		case <-s.ctx.Done():
			return
		}
	}
}

// newest returns the subscription of a topic that was opened last.
func (f *fakeBroker) newest(topic string) *fakeSub {
	f.mu.Lock()
	defer f.mu.Unlock()
	subs := f.subs[topic]
	return subs[len(subs)-1]
}

// sink records what a follower is told: the data of messages, "gap" for Restored with an unknown
// tail, "broken".
type sink struct {
	mu   sync.Mutex
	told []string
	ids  []hub.ID
}

func (s *sink) Deliver(ms ...hub.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range ms {
		s.told = append(s.told, string(m.Data))
		s.ids = append(s.ids, m.ID)
	}
}

func (s *sink) Broken(error) { s.Deliver(hub.Message{Data: []byte("broken")}) }

func (s *sink) Restored(tail hub.ID) {
	if tail != "" {
		panic("nobody knows a tail")
	}
	s.Deliver(hub.Message{Data: []byte("gap")})
}

func (s *sink) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.told, want) {
		t.Fatalf("told %q, want %q", s.told, want)
	}
}

// run runs a test on fake time with a broker and a backend over it.
func run(t *testing.T, o Options, f func(t *testing.T, f *fakeBroker, b *Backend)) {
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		b := open(t, broker, o)
		f(t, broker, b)
	})
}

func open(t *testing.T, f *fakeBroker, o Options) *Backend {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b, err := New(f, f, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func mustFollow(t *testing.T, b *Backend, topic string) *sink {
	t.Helper()
	s := &sink{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tail, _, err := b.Follow(ctx, topic, s)
	if err != nil {
		t.Fatal(err)
	}
	if !tail.Valid() {
		t.Fatalf("tail %q", tail)
	}
	return s
}

func mustPublish(t *testing.T, b *Backend, topic string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if _, err := b.Publish(t.Context(), topic, hub.Message{Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
}

var errDown = errors.New("dial tcp 10.1.2.3:4222: connection refused for user admin")
