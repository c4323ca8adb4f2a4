package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// countingBackend counts the Reads of a backend.
type countingBackend struct {
	hub.Backend
	mu    sync.Mutex
	reads map[pageKey]int
	total int
}

// pageKey is what a Read asks for.
type pageKey struct {
	after hub.ID
	limit int
}

func (b *countingBackend) Read(ctx context.Context, topic string, after hub.ID, limit int) (hub.Page, error) {
	b.mu.Lock()
	b.reads[pageKey{after, limit}]++
	b.total++
	b.mu.Unlock()
	return b.Backend.Read(ctx, topic, after, limit)
}

// reset forgets what was counted.
func (b *countingBackend) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads, b.total = make(map[pageKey]int), 0
}

// resume is the scene of many readers that come back at the same time to the same place of one
// topic, such as after a restart of the process: far behind the window, with the end of the topic
// in it.
type resume struct {
	servers servers
	ids     []hub.ID // of all messages of the topic
}

const (
	resumeTopic   = "announcements"
	resumeReaders = 5000
	resumeWindow  = 64
)

// newResume publishes a topic of so many messages, the one that the readers have and the one that
// ends it included.
func newResume(t testing.TB, messages int) *resume {
	t.Helper()
	r := &resume{servers: startSingle(t)}
	publisher := newHubOver(t, r.servers.newBackend(t), hub.Options{})
	data := make([]byte, 200)
	for i := range messages - 1 {
		copy(data, strconv.Itoa(i)+" ")
		id, err := publisher.Publish(t.Context(), resumeTopic, hub.Message{Type: "note", Data: data})
		if err != nil {
			t.Fatal(err)
		}
		r.ids = append(r.ids, id)
	}
	id, err := publisher.Finish(t.Context(), resumeTopic)
	if err != nil {
		t.Fatal(err)
	}
	r.ids = append(r.ids, id)
	return r
}

// resumed is what a run cost.
type resumed struct {
	pages    int // that the readers needed
	reads    int // of them at the backend, and at most so many for one page:
	worst    int
	commands int // at Redis
	messages int // delivered
	took     time.Duration
	redis    time.Duration // processor time
	own      time.Duration
}

// run has all readers read at once, from after the first message to the end, on a hub that has
// nothing of that in its window.
func (r *resume) run(t testing.TB) (cost resumed) {
	t.Helper()
	ctx := t.Context()
	backend := &countingBackend{Backend: r.servers.newBackend(t), reads: make(map[pageKey]int)}
	// Without position checks, which are Reads of one message now and then.
	h := newHubOver(t, backend, hub.Options{Window: resumeWindow, CheckEvery: time.Hour})
	subscriptions := make([]*hub.Subscription, resumeReaders)
	for i := range subscriptions {
		s, err := h.Subscribe(ctx, resumeTopic, hub.After(r.ids[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		subscriptions[i] = s
	}

	backend.reset()
	commands, redisCPU, ownBefore, start := r.commands(t), r.servers.cpu(t), ownCPU(), time.Now()
	begin := make(chan struct{})
	var wg sync.WaitGroup
	var failed sync.Once
	for i, s := range subscriptions {
		wg.Go(func() {
			<-begin
			if err := r.read(s); err != nil {
				failed.Do(func() { t.Errorf("reader %d: %v", i, err) })
			}
		})
	}
	close(begin)
	wg.Wait()
	cost.took, cost.own, cost.redis = time.Since(start), ownCPU()-ownBefore, r.servers.cpu(t)-redisCPU
	cost.commands = r.commands(t) - commands
	cost.messages = resumeReaders * (len(r.ids) - 1)

	backend.mu.Lock()
	defer backend.mu.Unlock()
	cost.reads = backend.total
	limit := 0
	for key, n := range backend.reads {
		limit = max(limit, key.limit)
		cost.worst = max(cost.worst, n)
	}
	if limit > 0 {
		cost.pages = (len(r.ids) - 1 + limit - 1) / limit
	}
	return cost
}

// read reads to the end and compares: each message once, in order.
func (r *resume) read(s *hub.Subscription) error {
	want := r.ids[1:]
	for m, err := range s.All() {
		switch {
		case err != nil:
			return err
		case len(want) == 0:
			return fmt.Errorf("message %s after the last one", m.ID)
		case m.ID != want[0] || m.Gap:
			return fmt.Errorf("got message %s (gap %v), want %s", m.ID, m.Gap, want[0])
		}
		want = want[1:]
	}
	if len(want) > 0 {
		return errors.New("the sequence ended " + strconv.Itoa(len(want)) + " messages too early")
	}
	return nil
}

// commands returns how often Redis was asked to read a stream, by whatever command or script.
func (r *resume) commands(t testing.TB) (n int) {
	t.Helper()
	for _, command := range []string{"xrange", "xrevrange", "xread", "evalsha", "eval"} {
		n += r.servers.calls(t, command)
	}
	return n
}

// readsPerPage is how many Reads a page may cost, however many readers want it.
const readsPerPage = 20

// TestResumeTogether: 5,000 readers that resume at the same place cost at most 20 reads of the
// stream a page, as counted at the backend and by Redis itself, and each of them gets every message
// once and in order. A page is handed on for a second after it was read: where the readers take
// several seconds there may be as many more.
func TestResumeTogether(t *testing.T) {
	testenv.Long(t)
	r := newResume(t, 1200)
	cost := r.run(t)
	t.Logf("%d readers, %d pages: %d Reads, at most %d for one page, %d commands at Redis; %d messages in %v",
		resumeReaders, cost.pages, cost.reads, cost.worst, cost.commands, cost.messages, cost.took)
	if cost.pages < 2 {
		t.Fatalf("%d pages: the readers do not read from Redis", cost.pages)
	}
	most := readsPerPage + int(cost.took/time.Second)
	if cost.reads > most*cost.pages || cost.worst > most || cost.commands > most*cost.pages {
		t.Errorf("%d pages cost %d Reads, at most %d for one page, and %d commands at Redis; want at most %d a page",
			cost.pages, cost.reads, cost.worst, cost.commands, most)
	}
}

// BenchmarkResume reports what 5,000 readers cost that resume at the same place. One iteration is
// all of them, on a new hub.
func BenchmarkResume(b *testing.B) {
	r := newResume(b, 2000)
	var sum resumed
	for b.Loop() {
		cost := r.run(b)
		sum.pages += cost.pages
		sum.reads += cost.reads
		sum.commands += cost.commands
		sum.messages += cost.messages
		sum.took += cost.took
		sum.redis += cost.redis
		sum.own += cost.own
	}
	b.ReportMetric(float64(sum.reads)/float64(sum.pages), "reads/page")
	b.ReportMetric(float64(sum.commands)/float64(sum.pages), "commands/page")
	b.ReportMetric(float64(sum.messages)/sum.took.Seconds(), "messages/s")
	b.ReportMetric(microsPer(sum.redis, sum.messages), "redis-µs/message")
	b.ReportMetric(microsPer(sum.redis, sum.pages), "redis-µs/page")
	b.ReportMetric(microsPer(sum.own, sum.messages), "own-µs/message")
}
