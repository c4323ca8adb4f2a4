package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// page is a page of a feed's messages as its document has it.
type page struct {
	Messages []pageMessage `json:"messages"`
	Next     string        `json:"next"`
	Gap      bool          `json:"gap,omitempty"`
	End      bool          `json:"end,omitempty"`
}

type pageMessage struct {
	ID   string `json:"id,omitempty"`
	Type string `json:"event,omitempty"`
	Data string `json:"data"`
}

// empty reports whether there is nothing to tell yet.
func (p *page) empty() bool { return len(p.Messages) == 0 && !p.Gap }

// servePage answers a request for a page of messages.
func servePage(q *request, f Feed) error {
	asked, words := q.o.History.paging(q.r)
	if words != "" {
		return q.malformed(words)
	}
	if q.r.Method == http.MethodHead {
		if q.o.Drain.hasBegun() {
			return q.draining()
		}
		if done, err := q.absent(f); done {
			return err
		}
		setDocument(q.w.Header())
		q.w.WriteHeader(http.StatusOK)
		return nil
	}
	if err := q.enter(); err != nil {
		return err
	}
	defer q.left()
	defer q.free()
	if done, err := q.absent(f); done {
		return err
	}
	f.Snapshot = nil // a gap is said, and the client loads the state itself
	p := &pager{q: q, asked: asked, until: time.Now().Add(asked.wait)}
	if done, err := p.read(f); done {
		return err
	}
	body, err := json.Marshal(p.page)
	if err != nil {
		return q.refuseFor(err)
	}
	setDocument(q.w.Header())
	q.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	q.log("headrace: page of messages")
	return writeDocument(q.w, body, q.o.WriteTimeout)
}

// pager makes a page, on the goroutine of the handler.
type pager struct {
	page
	q      *request
	asked  paging
	source *source

	bytes int // of the events in the page
	idle  int // polls since the last event or pause

	until time.Time // when the waiting ends
	timer *time.Timer
	bell  session.Bell
	leave func() // tells the drain that nobody waits any more
	drain bool   // the timer is set for the drain
}

const (
	// pageBytes is about how many bytes of events a page has at most.
	pageBytes = hub.PageBytes
	// mostIdle is how many polls may bring nothing for this client before the page is sent as it
	// is: a request must come to its end.
	mostIdle = 200
)

// errFetch is matched by what keeps a page from being read.
var errFetch = errors.New("feed: the messages cannot be read")

// read fills the page, and has let go of the topics when it returns. It reports true when the
// request has its answer, or needs none.
func (p *pager) read(f Feed) (done bool, err error) {
	q, set := p.q, setOf(f)
	p.source, err = q.open(f, set, openingOf(f, set, q.o.Start, p.asked.after, p.asked.stated))
	if err != nil {
		return true, q.unavailable(err)
	}
	defer p.source.close()
	p.Messages = []pageMessage{}
	err = p.collect(q.r.Context())
	p.Next = p.source.position()
	for n := len(p.Messages); err != nil && n > 0 && p.Messages[n-1].ID == ""; n-- {
		p.Messages = p.Messages[:n-1] // of a message whose other events have failed
	}
	switch over := q.over(); {
	case err == nil, errors.Is(err, ErrShutdown), errors.Is(err, ErrRevoked):
		return false, nil
	case over != nil:
		q.later(http.StatusServiceUnavailable, 0)
		return true, over
	case !p.empty():
		return false, nil // it fails again when the client comes for the rest
	case errors.Is(err, errFetch):
		return true, q.unavailable(err)
	}
	return true, q.refuseFor(err)
}

// collect takes what there is, and waits for it if there is nothing. The error is why the source
// has ended, or the cause of ctx.
func (p *pager) collect(ctx context.Context) error {
	bounded := &patience{Context: ctx, timeout: p.q.o.ConnectTimeout}
	defer bounded.end()
	defer p.stop()
	for len(p.Messages) < p.asked.limit && p.bytes < pageBytes && p.idle < mostIdle {
		if cause := session.Gone(ctx); cause != nil {
			return cause
		}
		status, err := p.poll()
		switch status {
		case hub.Ready:
		case hub.Behind:
			if err := p.source.readers[p.source.turn].sub.Fetch(bounded); err != nil {
				return fmt.Errorf("%w: %w", errFetch, err)
			}
		case hub.Ended:
			p.End = err == nil
			return err
		default:
			if !p.empty() || !p.pause(ctx) {
				return nil
			}
		}
	}
	return nil
}

// works are lent to pages for a poll, so that one that waits holds nothing.
var works = sync.Pool{New: func() any { return new(session.Work) }}

// poll takes one batch into the page.
func (p *pager) poll() (hub.Status, error) {
	w := works.Get().(*session.Work)
	defer func() {
		w.Forget()
		works.Put(w)
	}()
	p.source.most = p.asked.limit - len(p.Messages)
	p.idle++
	status, err := p.source.Poll(w, pageBytes-p.bytes)
	if len(w.Frames) > 0 {
		p.idle = 0
		p.take(bytes.Join(w.Frames, nil))
	}
	return status, err
}

// take puts events into the page. They are read from their wire form, so that they are those of the
// stream.
func (p *pager) take(wire []byte) {
	p.bytes += len(wire)
	d := sse.NewDecoder(bytes.NewReader(wire))
	d.MaxEventSize = len(wire)
	last := ""
	for {
		e, err := d.Decode()
		if err != nil {
			return // all were read
		}
		m := pageMessage{e.ID, e.Type, e.Text()}
		if m.ID == last {
			m.ID = "" // it has none of its own
		}
		last = e.ID
		switch e.Type {
		case "gap":
			p.Gap = true
		case "close": // the source says its end next
		default:
			p.Messages = append(p.Messages, m)
		}
	}
}

// pause waits until there may be something new. It reports false when the waiting is over. The
// first one only has the bell rung from then on.
func (p *pager) pause(ctx context.Context) bool {
	p.idle = 0
	switch {
	case p.asked.wait == 0:
		return false
	case p.timer == nil:
		p.begin()
		return true // nobody is told of what came before
	case !p.drain && p.q.o.Drain.hasBegun():
		p.drain = true
		p.timer.Reset(min(time.Until(p.until), upTo(p.q.o.Drain.window())))
	}
	select {
	case <-p.bell.Rung:
	case <-ctx.Done():
	case <-p.timer.C:
		return false
	}
	return true
}

// begin begins the waiting.
func (p *pager) begin() {
	o := &p.q.o
	if !o.ExpireAt.IsZero() && o.ExpireAt.Before(p.until) {
		p.until = o.ExpireAt
	}
	p.bell = session.NewBell()
	p.timer = time.NewTimer(time.Until(p.until))
	p.leave = o.Drain.onBegin(p.bell.Wake)
	p.source.Watch(p.bell)
}

// stop ends the waiting.
func (p *pager) stop() {
	if p.timer != nil {
		p.timer.Stop()
		p.leave()
	}
}
