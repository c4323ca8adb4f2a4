package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the settings of a Hub. The zero value is right for most programs.
type Options struct {
	// Window is how many of its newest messages are kept for each followed topic. Default 1,024.
	Window int
	// WindowBytes bounds a topic's window in bytes, counting each message with its shared wire form
	// and bookkeeping; one message is always kept. Default 4 MiB.
	WindowBytes int64
	// TotalBytes bounds all windows of the hub together, and what is held for them while live paths
	// heal; beyond it the oldest messages of all topics go first. Default 256 MiB.
	TotalBytes int64
	// MaxMessage is the greatest size of a published message in bytes: type, data and headers.
	// Default 1 MiB.
	MaxMessage int
	// IdleDelay is how long a topic is followed on after its last reader left. Default 30 s.
	IdleDelay time.Duration
	// CheckEvery is how often the position of a quiet topic is compared with the backend's, for
	// each topic and not for each reader. Default 30 s.
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

// Hub publishes to topics and follows them over one backend. Several hubs, in one process or in
// many, may share a backend. All methods are safe for concurrent use.
type Hub struct {
	backend Backend
	traits  Traits
	opts    Options
	reads   *reads

	// Of everything the hub does for itself; ends when Shutdown has ended the streams.
	ctx     context.Context
	cancel  context.CancelFunc
	closing chan struct{} // closed when Shutdown begins

	wg       sync.WaitGroup // of the hub's own goroutines
	spawning sync.Mutex
	released bool // Shutdown waits for them: no new ones. Guarded by spawning

	topicSet
	publishing publishing
	leases     leases
	sweeper    sweeper
	quiet      quietChecks

	keptBytes atomic.Int64 // of pages that readers keep between polls
	counters  counters
}

// New returns a hub over a backend. The hub borrows the backend: closing it, after Shutdown, is the
// caller's business.
func New(b Backend, o Options) (*Hub, error) {
	if b == nil {
		return nil, errors.New("hub: New needs a backend")
	}
	h := &Hub{
		backend: b,
		traits:  b.Traits(),
		opts:    o.withDefaults(),
		closing: make(chan struct{}),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.reads = newReads(h)
	h.hub, h.publishing.hub, h.leases.hub, h.sweeper.hub, h.quiet.hub = h, h, h, h, h
	h.topics, h.idle = make(map[string]*followed), make(chan struct{})
	return h, nil
}

// Traits returns facts about the hub's backend.
func (h *Hub) Traits() Traits { return h.traits }

// Closing returns a channel that is closed when Shutdown begins.
func (h *Hub) Closing() <-chan struct{} { return h.closing }

func (h *Hub) isClosing() bool { return isClosed(h.closing) }

// isClosed reports whether a channel that nobody sends on is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Publish appends m to topic and returns its ID. A nil error means that it is appended. Otherwise
// the error is an *Error and either ErrRejected, certainly not appended, or ErrUnknown, perhaps
// appended; a message against the rules is ErrRejected together with ErrTopic, ErrType, ErrData,
// ErrHeader, ErrKey, ErrNoKeys or ErrTooLarge.
//
// An unknown outcome is tried again only when m.Key is set and the backend stores keys, so that at
// most one message is appended. Publish blocks as long as the backend does, at most until ctx ends.
// It does not keep or modify m's Data and Headers.
func (h *Hub) Publish(ctx context.Context, topic string, m Message) (ID, error) {
	start := time.Now()
	var id ID
	err := h.publishing.check(topic, &m)
	if err == nil {
		id, err = h.publishing.send(ctx, topic, m)
	}
	h.publishing.done(topic, id, start, err)
	if err != nil {
		return "", &Error{Op: "publish", Topic: topic, Err: err}
	}
	return id, nil
}

// PublishAll appends several messages to one topic, all or none, in this order and with nothing
// between them, and returns their IDs. Rules, outcomes and errors are those of Publish; an error is
// of all messages together. Of messages whose Key is known already only the others are appended.
// No messages are none, and no error. A backend without Traits.Atomic takes one message at most:
// more are ErrRejected together with ErrUnsupported.
func (h *Hub) PublishAll(ctx context.Context, topic string, ms []Message) ([]ID, error) {
	ids, err := h.publishing.all(ctx, topic, ms, false)
	if err != nil {
		return nil, &Error{Op: "publish", Topic: topic, Err: err}
	}
	return ids, nil
}

// Finish appends the one message that ends a topic and returns its ID; with messages in last, it
// appends those right before it, all or none, as PublishAll does. Readers get the one that ends the
// topic as their last message, with Final set, and their sequences end without an error; a
// subscription After it ends at once, on every instance.
//
// Publishing to the topic again is ErrEnded, where the backend sees to it (Traits.Ends), unless the
// message has AfterEnd. Who has read to the end does not see such a message. To finish once more
// returns the ID of the end that there is, and appends nothing, last neither. Errors are those of
// Publish and PublishAll.
func (h *Hub) Finish(ctx context.Context, topic string, last ...Message) (ID, error) {
	ids, err := h.publishing.all(ctx, topic, last, true)
	if err != nil {
		return "", &Error{Op: "finish", Topic: topic, Err: err}
	}
	return ids[len(ids)-1], nil
}

// Delete removes a topic: all its messages, and what it remembers of keys. Its readers, on every
// instance, get a gap; those with EndDeleted end behind it. Whoever comes back with an ID of before
// gets a gap too. The name may be used again at once, finished or not as the topic was. To delete a
// topic that does not exist does nothing.
//
// Delete blocks as long as the backend does, at most until ctx ends. Errors are *Error: ErrTopic,
// ErrUnsupported, ErrClosed, the context's, or the backend's. Then the topic may or may not be
// deleted, and Delete may be called again.
func (h *Hub) Delete(ctx context.Context, topic string) error {
	err := h.life(ctx, topic)
	if err == nil {
		err = h.backend.Delete(ctx, topic)
	}
	if err != nil {
		return &Error{Op: "delete", Topic: topic, Err: err}
	}
	return nil
}

// Erase removes one message of a topic, wherever headrace keeps it: at the backend and in the
// windows of all instances. Readers that have not had it do not get it, and that is no gap. What a
// client has received already is out of reach, and so is what a stream is just writing to it. A
// message that is not there any more is no error. It blocks and fails as Delete does; ErrPosition
// is for an ID that is malformed.
func (h *Hub) Erase(ctx context.Context, topic string, id ID) error {
	err := h.life(ctx, topic)
	switch {
	case err != nil:
	case !h.IsID(id):
		err = ErrPosition
	default:
		err = h.backend.Erase(ctx, topic, id)
	}
	if err != nil {
		return &Error{Op: "erase", Topic: topic, Err: err}
	}
	return nil
}

// life reports why a topic cannot be deleted or a message of it erased.
func (h *Hub) life(ctx context.Context, topic string) error {
	switch err := CheckTopic(topic); {
	case err != nil:
		return err
	case !h.traits.Deletes:
		return ErrUnsupported
	case h.isClosing():
		return ErrClosed
	}
	return ctx.Err()
}

// Info describes a topic as it is now. It asks the backend, and blocks as long as that does, at
// most until ctx ends. Errors are *Error: ErrTopic, ErrUnsupported for a backend without
// Traits.Replay, ErrClosed, the context's, or the backend's.
func (h *Hub) Info(ctx context.Context, topic string) (Info, error) {
	err := CheckTopic(topic)
	var info Info
	switch {
	case err != nil:
	case !h.traits.Replay:
		err = ErrUnsupported
	case h.isClosing():
		err = ErrClosed
	default:
		info, err = h.backend.Info(ctx, topic)
	}
	if err != nil {
		return Info{}, &Error{Op: "info", Topic: topic, Err: err}
	}
	return info, nil
}

// Ping asks the backend whether it is ready to take messages, for health checks. It returns nil, or
// an *Error that says why not, at the latest when ctx ends.
func (h *Hub) Ping(ctx context.Context) error {
	err := ErrClosed
	if !h.isClosing() {
		err = h.backend.Ping(ctx)
	}
	if err != nil {
		return &Error{Op: "ping", Err: err}
	}
	return nil
}

// IsID reports whether an ID has the form of those that the hub's backend gives. It says nothing
// about whether any topic knows it.
func (h *Hub) IsID(id ID) bool { return id.Valid() && h.backend.IsID(id) }

// Lease returns a context derived from ctx that ends with the cause ErrRevoked when Revoke is
// called for one of keys, by this process or, where the backend is shared (Traits.Shared), by any
// other one. It is for the right to a stream: the right may be taken away while the stream is open.
//
// Take the lease first, then check the right, and give the stream the context. A right that is
// taken away meanwhile is either found missing by the check, or ends the context; in the other
// order a revocation between the check and the lease would be lost.
//
// A key names what may be revoked, such as a user, a session or a room: 1 to 255 bytes of UTF-8
// without control characters, compared byte for byte. At least one is needed. The slice is not
// kept.
//
// The first lease makes the hub follow one topic of its own, and Lease blocks until that is done,
// at most until ctx ends. The lease lasts until it is revoked or ctx ends, so ctx must be one that
// ends, like a request's. A revocation takes as long as any message: while the backend's live path
// is down, until it is back. When revocations may have been lost (a gap) all leases of the hub end
// with ErrRevoked, so that their holders come back and are checked anew. A lease may also end by a
// revocation from just before it was taken. Shutdown ends no lease.
//
// Errors are *Error: ErrKey, ErrClosed, the context's, or the backend's; then there is no lease,
// and the context is nil.
func (h *Hub) Lease(ctx context.Context, keys ...string) (context.Context, error) {
	leased, err := h.leases.take(ctx, keys)
	if err != nil {
		return nil, &Error{Op: "lease", Err: err}
	}
	return leased, nil
}

// Revoke ends the leases of a key in every process over the same backend, and does nothing where
// there are none. It does not take a right away: first change what the checks look at, then revoke.
//
// It returns when the revocation is appended, which may be before the leases have ended, and blocks
// as long as the backend does, at most until ctx ends. Errors are those of Publish: ErrRejected
// together with ErrKey or ErrClosed, for example, or ErrUnknown. To revoke once more does no harm.
func (h *Hub) Revoke(ctx context.Context, key string) error {
	err := checkKey(key)
	if err != nil {
		return &Error{Op: "revoke", Err: reject(err)}
	}
	start := time.Now()
	id, err := h.publishing.send(ctx, revocationsTopic, Message{Type: revocationType, Data: []byte(key)})
	h.publishing.done(revocationsTopic, id, start, err)
	if err != nil {
		return &Error{Op: "revoke", Err: err}
	}
	return nil
}

// Stats returns the hub's figures. Each is exact; together they are no snapshot of one moment.
func (h *Hub) Stats() Stats {
	topics, subscriptions := h.count()
	c := &h.counters
	return Stats{
		Topics: topics, Subscriptions: subscriptions, Watched: int(c.watched.Load()), WindowBytes: h.sweeper.bytes.Load(),
		Published: c.appended.Load(), Rejected: c.rejected.Load(), Unknown: c.unknown.Load(),
		Received: c.received.Load(), Duplicates: c.duplicates.Load(), Skipped: c.skipped.Load(),
		Heals: c.heals.Load(), Gaps: c.gaps.Load(), ReaderGaps: c.readerGaps.Load(),
		Reads: c.reads.Load(), ReadErrors: c.readErrors.Load(),
	}
}

// Shutdown ends every subscription with ErrClosed, once its reader has what is in the topic's
// window, waits until all are closed by their readers, and releases everything the hub holds at the
// backend. It returns nil when nothing is left, or an error that says what is left when ctx ends
// before. Publish, Subscribe, Lease and Revoke fail with ErrClosed from its beginning. Leases do
// not end by it, but can no longer be revoked. It may be called again, to wait once more.
func (h *Hub) Shutdown(ctx context.Context) error {
	topics := h.shut()
	for _, f := range topics {
		f.finish()
	}

	var left error
	select {
	case <-h.idle:
	case <-ctx.Done():
		if _, n := h.count(); n > 0 {
			left = &Error{Op: "shutdown", Err: fmt.Errorf("%d subscriptions are still open: %w", n, ctx.Err())}
		}
	}
	for _, f := range topics {
		h.forget(f)
		f.release()
	}
	h.spawning.Lock()
	h.released = true
	h.spawning.Unlock()
	h.cancel()
	done := make(chan struct{})
	go func() {
		h.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// The backend's calls got their context cancelled; with a backend that keeps C2 this is a
		// matter of moments.
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

// shutdownMoment is how long Shutdown waits for its own goroutines when its context has ended
// already.
const shutdownMoment = 50 * time.Millisecond

// spawn runs f on a goroutine that Shutdown waits for. It reports false, and runs nothing, once
// Shutdown waits. Its lock is innermost: it may be called under any other one of the hub's.
func (h *Hub) spawn(f func()) bool {
	h.spawning.Lock()
	defer h.spawning.Unlock()
	if h.released {
		return false
	}
	h.wg.Go(f)
	return true
}
