package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the settings of a Hub. The zero value is right for most programs.
type Options struct {
	// Window is how many of its newest messages are kept for each followed topic. Default 1,024.
	Window int
	// WindowBytes bounds a topic's window in bytes, counting each message with its shared wire form and bookkeeping; one message is always kept. Default 4 MiB.
	WindowBytes int64
	// TotalBytes bounds all windows of the hub together, and what is held for them while live paths heal; beyond it the oldest messages of all topics go first. Default 256 MiB.
	TotalBytes int64
	// MaxMessage is the greatest size of a published message in bytes: type, data and headers. Default 1 MiB.
	MaxMessage int
	// IdleDelay is how long a topic is followed on after its last reader left. Default 30 s.
	IdleDelay time.Duration
	// CheckEvery is how often the position of a quiet topic is compared with the backend's, for each topic and not for each reader. Default 30 s.
	CheckEvery time.Duration
	// Logger gets what an operator should know. Default slog.Default().
	Logger *slog.Logger
	// Observer is told what happens, for metrics and traces. Default: nobody.
	Observer Observer
}

func (o Options) withDefaults() Options {
	o.Window = cmp.Or(max(o.Window, 0), 1024)
	o.WindowBytes = cmp.Or(max(o.WindowBytes, 0), 4<<20)
	o.TotalBytes = cmp.Or(max(o.TotalBytes, 0), 256<<20)
	o.MaxMessage = cmp.Or(max(o.MaxMessage, 0), 1<<20)
	o.IdleDelay = cmp.Or(max(o.IdleDelay, 0), 30*time.Second)
	o.CheckEvery = cmp.Or(max(o.CheckEvery, 0), 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Hub publishes to topics and follows them over one backend. Several hubs, in one process or in many, may share a backend.
// All methods are safe for concurrent use.
type Hub struct {
	backend Backend
	traits  Traits
	opts    Options
	reads   *reads

	ctx     context.Context // of everything the hub does for itself; ends when Shutdown has ended the streams
	cancel  context.CancelFunc
	closing chan struct{} // closed when Shutdown begins
	wg      sync.WaitGroup

	mu            sync.Mutex
	topics        map[string]*followed
	subscriptions int
	closed        bool          // Shutdown has begun
	released      bool          // Shutdown waits for the hub's own goroutines: no new ones
	idle          chan struct{} // closed when closed and the last subscription is gone

	sweeper sweeper
	quiet   quietChecks
	leases  leases

	keptBytes atomic.Int64 // of pages that readers keep between polls
	counters  counters
}

// New returns a hub over a backend. The hub borrows the backend: closing it, after Shutdown, is the caller's business.
func New(b Backend, o Options) (*Hub, error) {
	if b == nil {
		return nil, errors.New("hub: New needs a backend")
	}
	h := &Hub{
		backend: b,
		traits:  b.Traits(),
		opts:    o.withDefaults(),
		closing: make(chan struct{}),
		topics:  make(map[string]*followed),
		idle:    make(chan struct{}),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.reads = newReads(h)
	h.sweeper.hub, h.quiet.hub = h, h
	return h, nil
}

// Traits returns facts about the hub's backend.
func (h *Hub) Traits() Traits { return h.traits }

// Closing returns a channel that is closed when Shutdown begins.
func (h *Hub) Closing() <-chan struct{} { return h.closing }

func (h *Hub) isClosing() bool {
	select {
	case <-h.closing:
		return true
	default:
		return false
	}
}

// publishAttempts bounds how often a message with a stored idempotency key is sent.
const publishAttempts = 3

// Publish appends m to topic and returns its ID. A nil error means that it is appended. Otherwise the error is an *Error and either
// ErrRejected, certainly not appended, or ErrUnknown, perhaps appended; a message against the rules is ErrRejected together with ErrTopic,
// ErrType, ErrData, ErrHeader, ErrKey, ErrNoKeys or ErrTooLarge.
//
// An unknown outcome is tried again only when m.Key is set and the backend stores keys, so that at most one message is appended.
// Publish blocks as long as the backend does, at most until ctx ends. It does not keep or modify m's Data and Headers.
func (h *Hub) Publish(ctx context.Context, topic string, m Message) (ID, error) {
	start := time.Now()
	id, err := h.publish(ctx, topic, m)
	h.published(topic, id, start, err)
	if err != nil {
		return "", &Error{Op: "publish", Topic: topic, Err: err}
	}
	return id, nil
}

func (h *Hub) publish(ctx context.Context, topic string, m Message) (ID, error) {
	if err := CheckTopic(topic); err != nil {
		return "", reject(err)
	}
	if m.Final {
		return "", reject(fmt.Errorf("%w: a topic is ended by Finish", ErrType))
	}
	if err := checkMessage(&m, h.opts.MaxMessage); err != nil {
		return "", reject(err)
	}
	if m.Key != "" && h.traits.Keys == KeysNone {
		return "", reject(ErrNoKeys)
	}
	return h.send(ctx, topic, m)
}

// Finish appends the one message that ends a topic and returns its ID. Readers get it as their last message, with Final set, and their
// sequences end without an error; a subscription After it ends at once, on every instance. Finish does not stop anybody from publishing
// to the topic again, but who has read to the end will not see it. Errors are those of Publish.
func (h *Hub) Finish(ctx context.Context, topic string) (ID, error) {
	err := CheckTopic(topic)
	if err != nil {
		return "", &Error{Op: "finish", Topic: topic, Err: reject(err)}
	}
	start := time.Now()
	m := Message{Type: finalType, Final: true}
	if h.traits.Keys != KeysNone {
		m.Key = finishKey
	}
	id, err := h.send(ctx, topic, m)
	h.published(topic, id, start, err)
	if err != nil {
		return "", &Error{Op: "finish", Topic: topic, Err: err}
	}
	return id, nil
}

// finishKey makes Finish idempotent where keys are honoured: an unknown outcome is tried again, and finishing twice ends a topic once.
const finishKey = ReservedPrefix + "finish"

// published counts and reports the outcome of Publish, Finish or Revoke.
func (h *Hub) published(topic string, id ID, start time.Time, err error) {
	h.counters.published(err)
	if h.opts.Observer.Published != nil {
		h.opts.Observer.Published(topic, id, time.Since(start), err)
	}
}

func (h *Hub) send(ctx context.Context, topic string, m Message) (ID, error) {
	m.ID, m.Prev, m.Time, m.Gap = "", "", time.Time{}, false
	if h.isClosing() {
		return "", reject(ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return "", reject(err)
	}
	var wait backoff
	for attempt := 1; ; attempt++ {
		id, err := h.backend.Publish(ctx, topic, m)
		if err == nil {
			return id, nil
		}
		if attempt > 1 || !errors.Is(err, ErrRejected) {
			// Once an attempt's outcome was unknown, a later rejection proves nothing about the earlier one.
			err = unknown(err)
		}
		if m.Key == "" || h.traits.Keys != KeysStored || attempt == publishAttempts || !errors.Is(err, ErrUnknown) {
			return "", err
		}
		if !wait.sleep(ctx, nil, h.closing) {
			return "", err
		}
	}
}

func reject(err error) error { return fmt.Errorf("%w: %w", ErrRejected, err) }

func unknown(err error) error {
	if errors.Is(err, ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, hide(err))
}

// hide keeps an error's text and identity, but not that it is ErrRejected.
func hide(err error) error {
	if errors.Is(err, ErrRejected) {
		return errors.New(err.Error())
	}
	return err
}

// Shutdown ends every subscription with ErrClosed, once its reader has what is in the topic's window, waits until all are closed by their readers, and releases everything the hub holds at the
// backend. It returns nil when nothing is left, or an error that says what is left when ctx ends before. Publish, Subscribe, Lease and Revoke fail
// with ErrClosed from its beginning. Leases do not end by it, but can no longer be revoked. It may be called again, to wait once more.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.closing)
		if h.subscriptions == 0 {
			close(h.idle)
		}
	}
	topics := make([]*followed, 0, len(h.topics))
	for _, f := range h.topics {
		topics = append(topics, f)
	}
	h.mu.Unlock()
	for _, f := range topics {
		f.finish()
	}

	var left error
	select {
	case <-h.idle:
	case <-ctx.Done():
		h.mu.Lock()
		n := h.subscriptions
		h.mu.Unlock()
		if n > 0 {
			left = &Error{Op: "shutdown", Err: fmt.Errorf("%d subscriptions are still open: %w", n, ctx.Err())}
		}
	}
	for _, f := range topics {
		h.forget(f)
		f.release()
	}
	h.mu.Lock()
	h.released = true
	h.mu.Unlock()
	h.cancel()
	done := make(chan struct{})
	go func() {
		h.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// The backend's calls got their context cancelled; with a backend that keeps C2 this is a matter of moments.
		moment := time.NewTimer(shutdownMoment)
		defer moment.Stop()
		select {
		case <-done:
		case <-moment.C:
			return errors.Join(left, &Error{Op: "shutdown", Err: fmt.Errorf("calls to the backend are still running: %w", ctx.Err())})
		}
	}
	return left
}

// shutdownMoment is how long Shutdown waits for its own goroutines when its context has ended already.
const shutdownMoment = 50 * time.Millisecond

// spawn runs f on a goroutine that Shutdown waits for. It reports false, and runs nothing, once Shutdown waits.
// It takes h.mu, which is innermost: it may be called under a followed topic's lock or the reads' lock.
func (h *Hub) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return false
	}
	h.wg.Go(f)
	return true
}

// backoff is an exponential delay with jitter for one caller that retries. Its zero value is ready.
type backoff struct{ next time.Duration }

const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
)

// sleep waits for the next delay. It reports false when ctx ended, or one of the channels was closed, before.
func (b *backoff) sleep(ctx context.Context, stop, closing <-chan struct{}) bool {
	b.next = min(max(2*b.next, backoffMin), backoffMax)
	t := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	case <-closing:
		return false
	}
}
