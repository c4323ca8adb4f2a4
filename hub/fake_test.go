package hub

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// fake is a backend whose every step a test decides. Without a script it keeps all rules of
// Backend: it retains everything and delivers what is published before Publish returns. Its IDs
// are 1, 2, 3… in each topic; the tail of a topic without messages is 0.
//
// The hooks are set before the hub uses the backend, or through script.
type fake struct {
	traits Traits

	mu     sync.Mutex
	topics map[string]*fakeTopic
	seeks  int

	// onPublish, if set, decides the outcome; do does what Publish would do.
	onPublish func(ctx context.Context, m Message, do func() ID) (ID, error)
	// onFollow, if set, runs after the sink was added and the tail is fixed, before Follow returns.
	onFollow func(ctx context.Context, topic string, sink Sink) error
	// onRead, if set, decides the answer; page does what Read would do, now.
	onRead func(ctx context.Context, call fakeRead, page func() Page) (Page, error)
	// onStop, if set, runs in stop.
	onStop func(topic string)

	pageMax   int // bounds pages further than limit does; 0 for no bound
	published int
	follows   int
	stops     int
	reads     []fakeRead
	reading   int // Reads under way
	most      int // the most at once
}

type fakeRead struct {
	topic string
	after ID
	limit int
}

type fakeTopic struct {
	retained []Message
	base     ID // the place before the oldest retained message
	n        int
	count    int // of what was ever appended
	behind   int // so many IDs to come are between two that were given: root and a fraction
	root     string
	all      map[ID]Message // whatever was ever appended
	keys     map[string]ID
	sinks    []*fakeSink
	muted    bool // what is appended is not delivered
}

type fakeSink struct {
	mu      sync.Mutex // calls into a sink are serial
	sink    Sink
	tail    int // how many were appended when it began: only later ones are delivered
	stopped atomic.Bool
}

func (s *fakeSink) call(f func(Sink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped.Load() {
		f(s.sink)
	}
}

func (s *fakeSink) after(ms []Message) []Message {
	return slices.DeleteFunc(slices.Clone(ms), func(m Message) bool {
		return !m.Time.IsZero() && m.Time.UnixNano() <= int64(s.tail)
	})
}

// Traits of backends as they are found in the world.
var (
	chained   = Traits{Name: "chained", Replay: true, Ordered: true, Chained: true, Keys: KeysStored}
	unchained = Traits{Name: "unchained", Replay: true, Ordered: true, Keys: KeysStored}
	liveOnly  = Traits{Name: "live only", Ordered: true, Keys: KeysWindow}
)

var _ Backend = (*fake)(nil)

func newFake(traits Traits) *fake {
	return &fake{traits: traits, topics: make(map[string]*fakeTopic)}
}

func (b *fake) Traits() Traits { return b.traits }

func (b *fake) Close() error { return nil }

// topic returns a topic, made if need be. b.mu is held.
func (b *fake) topic(name string) *fakeTopic {
	t := b.topics[name]
	if t == nil {
		t = &fakeTopic{base: "0", all: make(map[ID]Message), keys: make(map[string]ID)}
		b.topics[name] = t
	}
	return t
}

func (t *fakeTopic) last() ID {
	if n := len(t.retained); n > 0 {
		return t.retained[n-1].ID
	}
	return t.base
}

func (b *fake) Publish(ctx context.Context, topic string, m Message) (ID, error) {
	b.mu.Lock()
	b.published++
	hook := b.onPublish
	b.mu.Unlock()
	do := func() ID { return b.append(topic, m) }
	if hook != nil {
		return hook(ctx, m, do)
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrRejected, err)
	}
	return do(), nil
}

// append appends m, and delivers it unless the topic is muted.
func (b *fake) append(topic string, m Message) ID {
	b.mu.Lock()
	t := b.topic(topic)
	if id, ok := t.keys[m.Key]; ok && b.traits.Keys == KeysStored {
		b.mu.Unlock()
		return id
	}
	if n := len(t.retained); n > 0 && m.Final && b.traits.Ends && t.retained[n-1].Final {
		b.mu.Unlock()
		return t.retained[n-1].ID
	}
	t.count++
	m.ID, m.Prev = t.next(), t.last()
	m.Time = time.Unix(0, int64(t.count))
	if m.Key != "" {
		t.keys[m.Key] = m.ID
	}
	m.Key = ""
	t.all[m.ID] = m
	t.retained = append(t.retained, m)
	muted := t.muted
	b.mu.Unlock()
	if !muted {
		b.deliver(topic, m.ID)
	}
	return m.ID
}

// add appends n messages.
func (b *fake) add(topic string, n int) {
	for range n {
		b.append(topic, Message{Data: []byte("data")})
	}
}

// mute stops, or starts, the delivery of what is appended from now on.
func (b *fake) mute(topic string, muted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topic(topic).muted = muted
}

// deliver delivers messages once more, or for the first time, in the given order.
func (b *fake) deliver(topic string, ids ...ID) {
	b.mu.Lock()
	t := b.topic(topic)
	ms := make([]Message, len(ids))
	for i, id := range ids {
		ms[i] = t.all[id]
		if !b.traits.Chained {
			ms[i].Prev = ""
		}
	}
	b.mu.Unlock()
	for _, s := range b.sinks(topic) {
		if ms := s.after(ms); len(ms) > 0 {
			s.call(func(s Sink) { s.Deliver(ms...) })
		}
	}
}

// inject delivers messages that are not in the topic.
func (b *fake) inject(topic string, ms ...Message) {
	b.eachSink(topic, func(s Sink) { s.Deliver(ms...) })
}

func (b *fake) broken(topic string, err error) {
	b.eachSink(topic, func(s Sink) { s.Broken(err) })
}

func (b *fake) restored(topic string, tail ID) {
	b.eachSink(topic, func(s Sink) { s.Restored(tail) })
}

func (b *fake) eachSink(topic string, f func(Sink)) {
	for _, s := range b.sinks(topic) {
		s.call(f)
	}
}

func (b *fake) sinks(topic string) []*fakeSink {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.topic(topic).sinks)
}

// trim retains the newest messages only.
func (b *fake) trim(topic string, keep int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(topic)
	if n := len(t.retained) - keep; n > 0 {
		t.base = t.retained[n-1].ID
		t.retained = slices.Clone(t.retained[n:])
	}
}

// forget loses the topic, so that no ID of before can be placed. What is appended later has other
// IDs than before.
func (b *fake) forget(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(topic)
	t.retained = nil
	t.n += 1000
	t.base = ID(fmt.Sprintf("after-%d", t.n))
}

func (b *fake) Follow(ctx context.Context, topic string, sink Sink) (ID, func(), error) {
	s := &fakeSink{sink: sink}
	b.mu.Lock()
	b.follows++
	t := b.topic(topic)
	tail := t.last()
	s.tail = t.count
	t.sinks = append(t.sinks, s)
	hook, onStop := b.onFollow, b.onStop
	b.mu.Unlock()
	stop := func() {
		// Not under the sink's lock: stop does not wait for a call that is running.
		s.stopped.Store(true)
		b.mu.Lock()
		b.stops++
		t.sinks = slices.DeleteFunc(t.sinks, func(other *fakeSink) bool { return other == s })
		b.mu.Unlock()
		if onStop != nil {
			onStop(topic)
		}
	}
	if hook != nil {
		if err := hook(ctx, topic, sink); err != nil {
			stop()
			return "", nil, err
		}
	}
	return tail, stop, nil
}

func (b *fake) Read(ctx context.Context, topic string, after ID, limit int) (Page, error) {
	call := fakeRead{topic, after, limit}
	b.mu.Lock()
	b.reads = append(b.reads, call)
	b.reading++
	b.most = max(b.most, b.reading)
	hook := b.onRead
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.reading--
		b.mu.Unlock()
	}()
	page := func() Page { return b.page(call) }
	if hook != nil {
		return hook(ctx, call, page)
	}
	return page(), ctx.Err()
}

func (b *fake) page(call fakeRead) Page {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(call.topic)
	var p Page
	from := 0
	if i := slices.IndexFunc(t.retained, func(m Message) bool { return m.ID == call.after }); i >= 0 {
		p.Final = t.retained[i].Final
		for k := i; k >= 0 && t.retained[k].Erases != "" && !p.Final; k-- {
			p.Final = k > 0 && t.retained[k-1].Final
		}
		from = i + 1
	} else if call.after != "" && call.after != t.base {
		p.Gap = true
		if n, err := strconv.ParseFloat(string(call.after), 64); err == nil {
			for from < len(t.retained) && t.number(from) <= n {
				from++
			}
		}
	}
	p.Deleted = from > 0 && !p.Gap && t.retained[from-1].Deleted
	n := min(call.limit, len(t.retained)-from)
	if b.pageMax > 0 {
		n = min(n, b.pageMax)
	}
	p.Messages = slices.Clone(t.retained[from : from+n])
	switch {
	case n > 0:
		p.Next = p.Messages[n-1].ID
	case call.after == "" || p.Gap:
		p.Next = t.last()
	default:
		p.Next = call.after
	}
	return p
}

// script changes hooks while the hub is running.
func (b *fake) script(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// pagesRead returns how often the topic was read by readers and heals.
func (b *fake) pagesRead(topic string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, r := range b.reads {
		if r.topic == topic && r.limit > 1 {
			n++
		}
	}
	return n
}

// checksRead returns how often it was looked whether anything follows a place: by position
// checks, and when following began.
func (b *fake) checksRead(topic string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, r := range b.reads {
		if r.topic == topic && r.limit == 1 {
			n++
		}
	}
	return n
}
