package brokertest

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

// NewTopic returns the name of a topic that was never used, with characters that brokers do not
// like in names.
func NewTopic() string { return "shop/orders ü*>:" + rand.Text() }

// Logger returns a logger that writes to standard error when the variable BROKERTEST_LOG is set,
// and nowhere else.
func Logger() *slog.Logger {
	if os.Getenv("BROKERTEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(io.Writer(os.Stderr), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// NewHub returns a hub over a backend that is shut down when the test ends, before what was
// registered for cleaning up earlier.
func NewHub(t testing.TB, b hub.Backend) *hub.Hub {
	t.Helper()
	h, err := hub.New(b, hub.Options{Logger: Logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return h
}

// Reader reads a topic through a hub from its end on, and keeps what it got. Its methods may be
// called concurrently.
type Reader struct {
	mu       sync.Mutex
	messages []hub.Message
	err      error
	changed  chan struct{} // closed and replaced with each message
}

// Read returns a Reader, which is at its place in the topic when Read returns. Gaps are marked on
// the message behind them.
func Read(t testing.TB, h *hub.Hub, topic string) *Reader {
	t.Helper()
	sub, err := h.Subscribe(t.Context(), topic, hub.Latest(), hub.MarkGaps())
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	r := &Reader{changed: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for m, err := range sub.All() {
			r.add(m, err)
		}
	})
	t.Cleanup(func() {
		sub.Close()
		wg.Wait()
	})
	return r
}

func (r *Reader) add(m hub.Message, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = err
	} else {
		r.messages = append(r.messages, m)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Messages returns what the reader got so far.
func (r *Reader) Messages() []hub.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.messages)
}

// Texts returns the data of what the reader got so far.
func (r *Reader) Texts() []string {
	var texts []string
	for _, m := range r.Messages() {
		texts = append(texts, string(m.Data))
	}
	return texts
}

// Until waits until done is true of what the reader got, and ends the test when that takes longer
// than timeout.
func (r *Reader) Until(t testing.TB, timeout time.Duration, what string, done func([]hub.Message) bool) {
	t.Helper()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		r.mu.Lock()
		messages, err, changed := slices.Clip(r.messages), r.err, r.changed
		r.mu.Unlock()
		if done(messages) {
			return
		}
		if err != nil {
			t.Fatalf("%s: the subscription ended: %v", what, err)
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("%s: not within %v; %d messages came, the last: %q", what, timeout, len(messages), lastTexts(messages))
		}
	}
}

// Await waits for a message with the given data.
func (r *Reader) Await(t testing.TB, timeout time.Duration, data string) {
	t.Helper()
	r.Until(t, timeout, "message "+data, func(ms []hub.Message) bool {
		return slices.ContainsFunc(ms, func(m hub.Message) bool { return string(m.Data) == data })
	})
}

func lastTexts(ms []hub.Message) []string {
	var texts []string
	for _, m := range ms[max(0, len(ms)-5):] {
		texts = append(texts, string(m.Data[:min(len(m.Data), 40)]))
	}
	return texts
}
