package hub

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/headrace/headrace/internal/retry"
)

const (
	pageLimit   = 256              // messages asked for at a time
	maxReads    = 128              // Reads under way per hub
	readTimeout = 30 * time.Second // of one Read
	// How long a page is handed to readers that come to the same position a little later.
	pageLife    = time.Second
	cachedBytes = 16 << 20 // of pages kept for them
	failingPace = 50 * time.Millisecond
)

// page is a Page shared by all who asked for it.
type page struct {
	entries []*Entry
	gap     bool
	next    ID
	final   bool
	deleted bool
	bytes   int64 // of its messages
}

// whole reports whether nothing is behind the ID that a page was read after, and nothing missing.
func (p *page) whole() bool { return len(p.entries) == 0 && !p.gap }

type readKey struct {
	topic string
	after ID
	limit int
	// sought, if it is not zero, is read from, and not after.
	sought Seek
}

// keptBytes is how much of pages readers may keep alive between two polls.
const keptBytes = 16 << 20

// fetch is a read under way. A caller whose context ends often comes back to the same call: else a
// Read that takes longer than that would never be waited for to its end.
type fetch struct {
	wait    *wait
	changes uint64 // of the log, from before the call began
	gaps    uint64 // the number of the newest then
	// erasures is how many the topic had seen then; see erasures.made.
	erasures uint64
}

// reads makes the hub's calls to Backend.Read. Equal concurrent ones are one call, and at most
// maxReads are under way. Pages are handed on to readers that come to the same position within
// pageLife. While the backend fails the calls are spaced.
type reads struct {
	hub   *Hub
	slots chan struct{}
	// So that all topics and readers together ask a failing backend about twenty times a second.
	pace retry.Pace

	mu      sync.Mutex
	waiting map[readKey]*readCall // calls that have not begun: who comes now may join
	// The newest call that has: who comes now may have its page if there are messages in it.
	begun map[readKey]*readCall
	cache map[readKey]*page
	bytes int64
	purge *time.Timer
}

type readCall struct {
	done     chan struct{}
	page     *page
	err      error
	watchers []Watcher // woken when it is done; guarded by the lock of reads
}

func newReads(h *Hub) *reads {
	return &reads{
		hub: h, slots: make(chan struct{}, maxReads), pace: retry.Pace{Every: failingPace},
		waiting: make(map[readKey]*readCall), begun: make(map[readKey]*readCall), cache: make(map[readKey]*page),
	}
}

// read returns what the backend retains after an ID. It waits at most until ctx ends or the hub
// shuts down. The call itself belongs to the hub, so that one caller's end does not fail the
// others.
//
// The Read began after read was called, unless its page has messages. Those are never wrong, only
// perhaps not the newest; an empty page from before the caller looked at the log would make it
// wait for a message that is already there.
func (r *reads) read(ctx context.Context, topic string, after ID, limit int) (*page, error) {
	w := r.begin(readKey{topic: topic, after: after, limit: limit}, nil)
	return w.wait(ctx, nil)
}

// wait is one caller's wait for a page. It can be broken off and taken up again.
type wait struct {
	reads   *reads
	key     readKey
	watcher Watcher // woken when done may have become true; nil if nobody is
	call    *readCall
	begun   bool // the call had begun when the caller came
}

// begin begins a wait for a page.
func (r *reads) begin(key readKey, watcher Watcher) *wait {
	w := &wait{reads: r, key: key, watcher: watcher}
	w.join(true)
	return w
}

// join finds a call that serves the caller, or makes one. A call that has begun will do only at
// first.
func (w *wait) join(first bool) {
	r := w.reads
	r.mu.Lock()
	defer r.mu.Unlock()
	w.begun = false
	if p := r.cache[w.key]; p != nil {
		w.call = &readCall{done: closedChan, page: p}
		return
	}
	w.call = r.waiting[w.key]
	if w.call == nil && first && w.key.after != "" { // else what is the oldest may have changed since
		w.call = r.begun[w.key]
		w.begun = w.call != nil
	}
	if w.call != nil {
		w.watch()
		return
	}
	c := &readCall{done: make(chan struct{})}
	w.call = c
	w.watch()
	if !r.hub.spawn(func() { r.run(w.key, c) }) {
		w.call = &readCall{done: closedChan, err: ErrClosed}
		return
	}
	r.waiting[w.key] = c
}

// closedChan is the done of calls that are over before they begin.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// watch has the watcher woken at the end of the call. The lock of reads is held.
func (w *wait) watch() {
	if w.watcher != nil {
		w.call.watchers = append(w.call.watchers, w.watcher)
	}
}

// done reports whether there is an outcome.
func (w *wait) done() bool {
	for isClosed(w.call.done) {
		if !w.begun || w.call.err == nil && len(w.call.page.entries) > 0 {
			return true
		}
		w.join(false)
	}
	return false
}

// outcome returns the page, or why there is none, once done.
func (w *wait) outcome() (*page, error) { return w.call.page, w.call.err }

// wait returns the page, or the cause when ctx ends, stop is closed or the hub shuts down before
// it is there.
func (w *wait) wait(ctx context.Context, stop <-chan struct{}) (*page, error) {
	for !w.done() {
		select {
		case <-w.call.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-stop:
			return nil, ErrClosed
		case <-w.reads.hub.closing:
			return nil, ErrClosed
		}
	}
	return w.outcome()
}

// finish ends a call, and wakes who waits for it.
func (r *reads) finish(c *readCall) {
	r.mu.Lock()
	close(c.done) // under the lock: who watches from here on finds it closed
	watchers := c.watchers
	c.watchers = nil
	r.mu.Unlock()
	for _, w := range watchers {
		w.Wake()
	}
}

func (r *reads) run(key readKey, c *readCall) {
	defer r.finish(c)
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-r.hub.ctx.Done():
	}
	r.pace.Wait(r.hub.ctx)

	r.mu.Lock()
	// From here on the call has begun. A call of before may have filled the cache meanwhile.
	delete(r.waiting, key)
	if c.page = r.cache[key]; c.page != nil {
		r.mu.Unlock()
		return
	}
	r.begun[key] = c
	r.mu.Unlock()
	defer r.end(key, c)
	if c.err = r.hub.ctx.Err(); c.err != nil {
		return
	}
	// Not before: while the backend fails, the wait for a slot may take longer than a Read may.
	ctx, cancel := context.WithTimeout(r.hub.ctx, readTimeout)
	defer cancel()
	start := time.Now()
	got, err := r.ask(ctx, key)
	r.hub.counters.reads.Add(1)
	if f := r.hub.opts.Observer.Read; f != nil {
		f(key.topic, len(got.Messages), time.Since(start), err)
	}
	r.outcome(err)
	if err != nil {
		c.err = err
		return
	}
	c.page = r.share(key.topic, got)
	r.keep(key, c)
}

// ask makes the calls of a read.
func (r *reads) ask(ctx context.Context, key readKey) (Page, error) {
	after := key.after
	if key.sought != (Seek{}) {
		var err error
		if after, err = r.hub.backend.Seek(ctx, key.topic, key.sought); err != nil {
			return Page{}, err
		}
	}
	return r.hub.backend.Read(ctx, key.topic, after, key.limit)
}

// seek returns the position that is sought. The call counts as one of those under way.
func (r *reads) seek(ctx context.Context, topic string, s Seek) (ID, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-r.hub.closing:
		return "", ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return r.hub.backend.Seek(ctx, topic, s)
}

// forget drops the pages of a topic that wait for readers to come, and those that are on their way:
// what they have may not be there any more.
func (r *reads) forget(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.begun, func(key readKey, _ *readCall) bool { return key.topic == topic })
	for key, p := range r.cache {
		if key.topic == topic {
			delete(r.cache, key)
			r.bytes -= p.bytes
		}
	}
}

func (r *reads) end(key readKey, c *readCall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun[key] == c {
		delete(r.begun, key)
	}
}

func (r *reads) outcome(err error) {
	if err != nil && r.hub.ctx.Err() != nil {
		return
	}
	was := r.pace.Note(err != nil)
	switch {
	case err != nil:
		r.hub.counters.readErrors.Add(1)
		if !was {
			r.hub.opts.Logger.Warn("headrace: reading from the backend fails", "backend", r.hub.traits.Name, "err", err)
		}
	case was:
		r.hub.opts.Logger.Info("headrace: reading from the backend works again", "backend", r.hub.traits.Name)
	}
}

// share turns a backend's page into one for readers.
func (r *reads) share(topic string, got Page) *page {
	p := &page{
		gap: got.Gap, next: got.Next, final: got.Final && !internal(topic), deleted: got.Deleted,
		entries: make([]*Entry, 0, len(got.Messages)),
	}
	for i := range got.Messages {
		if !received(topic, &got.Messages[i]) {
			r.hub.counters.skipped.Add(1)
			continue
		}
		// Each entry is an allocation of its own: part of one block, the entry that stays longest
		// in a window would keep the whole page alive.
		p.entries = append(p.entries, newEntry(got.Messages[i]))
		p.bytes += int64(windowSize(&got.Messages[i]))
	}
	return p
}

// keep caches a page for a moment. Readers that resume at the same position after a restart of
// everything come within that moment, and cost one Read a page together. Pages without messages
// are not kept: they grow old at once. Nor are the oldest retained messages: who comes for them
// because retention overtook it must not be given what is gone meanwhile, to be told of the next
// gap.
func (r *reads) keep(key readKey, c *readCall) {
	p := c.page
	if len(p.entries) == 0 || key.limit != pageLimit || key.after == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun[key] != c || r.cache[key] != nil || r.bytes+p.bytes > cachedBytes {
		return
	}
	r.cache[key] = p
	r.bytes += p.bytes
	if r.purge == nil {
		r.purge = time.AfterFunc(pageLife, r.forgetPages)
	}
}

func (r *reads) forgetPages() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.cache)
	r.bytes, r.purge = 0, nil
}
