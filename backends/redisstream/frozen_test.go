package redisstream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

// frozenRig is a backend with followers, whose server is stopped for a while.
type frozenRig struct {
	name      string
	s         *server
	r         *rig
	h         *hub.Hub
	seen      hub.ID // of the reader that was away
	connected *audience
	quiet     []*audience

	mu          sync.Mutex
	sure, maybe map[string]bool // what Publish said of what was published meanwhile
	given, late int             // up with the context, and after it for another reason
}

// publish publishes now and then, with a time limit, until stop is closed.
func (f *frozenRig) publish(t *testing.T, limit time.Duration, stop <-chan struct{}) {
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case <-pace.C:
		case <-stop:
			return
		}
		text := "meanwhile" + itoa(i)
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := f.r.Publish(ctx, "t", hub.Message{Data: []byte(text)})
		f.mu.Lock()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			f.given++
		case err != nil && ctx.Err() != nil:
			f.late++
		}
		cancel()
		switch {
		case err == nil:
			f.sure[text] = true
		case errors.Is(err, hub.ErrUnknown):
			f.maybe[text] = true
		case !errors.Is(err, hub.ErrRejected):
			t.Errorf("%s: Publish: %v", f.name, err)
		}
		f.mu.Unlock()
	}
}

// TestFrozen stops the server for 20 s. It has both modes at once, to wait only once.
func TestFrozen(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	const (
		span   = 20 * time.Second
		topics = 50
		limit  = 300 * time.Millisecond // of each Publish
	)
	var rigs []*frozenRig
	for name, o := range map[string]Options{"pubsub": {}, "xread": {Follow: FollowXRead}} {
		f := &frozenRig{name: name, s: startServer(t), sure: make(map[string]bool), maybe: make(map[string]bool)}
		f.r = newRig(t, f.s.addr, o)
		f.h = newHub(t, f.r.Backend)
		f.connected = attend(t, f.h, "t", hub.Latest())
		for i := range topics {
			f.quiet = append(f.quiet, attend(t, f.h, "quiet"+itoa(i), hub.Latest()))
		}
		for i := range 10 {
			id := mustPublish(t, f.r, "t", "m"+itoa(i))
			if i == 4 {
				f.seen = id
			}
		}
		waitFor(t, name+": the messages before", func() bool { return strings.HasSuffix(f.connected.all(), " m9") })
		rigs = append(rigs, f)
	}

	for _, f := range rigs {
		f.s.freeze()
	}
	// Until the first commands time out, all is as ever: that is not what is counted.
	began := time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	halt := sync.OnceFunc(func() {
		close(stop)
		wg.Wait()
	})
	t.Cleanup(halt)
	early, answered := make([]*hub.Subscription, len(rigs)), make([]atomic.Bool, len(rigs))
	for i, f := range rigs {
		h := newHub(t, newRig(t, f.s.addr, f.r.opts).Backend)
		wg.Go(func() { f.publish(t, limit, stop) })
		wg.Go(func() {
			// A reader that comes while the server hangs gets through, or an error; and tries again
			// as a browser does.
			for early[i] == nil && t.Context().Err() == nil {
				var err error
				if early[i], err = h.Subscribe(t.Context(), "t", hub.After(f.seen), hub.MarkGaps()); err != nil {
					early[i] = nil
				}
				answered[i].Store(true)
			}
		})
	}
	waitOut := func(d time.Duration) {
		timer := time.NewTimer(d)
		<-timer.C
	}
	waitOut(patience)
	before := make([]int64, len(rigs))
	for i, f := range rigs {
		before[i] = f.r.gate.dials.Load() + f.r.gate.sent.Load()
	}
	counting := time.Now()
	waitOut(span - time.Since(began))
	for i, f := range rigs {
		calls, took := f.r.gate.dials.Load()+f.r.gate.sent.Load()-before[i], time.Since(counting)
		t.Logf("%s: %d calls in %v", f.name, calls, took)
		if calls > int64(50*took.Seconds()) {
			t.Errorf("%s: %d calls in %v", f.name, calls, took)
		}
		waitFor(t, f.name+": Subscribe to return while the server hangs", answered[i].Load)
	}

	for _, f := range rigs {
		f.s.thaw()
		f.s.program.Await()
		back := time.Now()
		persist(t, f.r, "t", "later")
		waitFor(t, f.name+": the message after, at the connected reader", func() bool { return strings.Contains(f.connected.all(), " later") })
		t.Logf("%s: recovery took %v", f.name, time.Since(back))
	}
	halt()
	for i, f := range rigs {
		if early[i] == nil {
			t.Fatalf("%s: nobody could subscribe meanwhile", f.name)
		}
		persist(t, f.r, "t", "last")
		var log []string
		times := make(map[string]int)
		for _, m := range everything(t, f.r, "t") {
			log = append(log, string(m.Data))
			times[string(m.Data)]++
		}
		all := strings.Join(log, " ")
		waitFor(t, f.name+": the last message", func() bool { return strings.HasSuffix(f.connected.all(), " last") })
		if got := f.connected.all(); got != all {
			t.Errorf("%s: the connected reader got %s, and the topic has %s", f.name, got, all)
		}
		rest := strings.TrimPrefix(all, "m0 m1 m2 m3 m4 ")
		for what, a := range map[string]*audience{
			"that came meanwhile": listen(t, early[i]),
			"that was away":       attend(t, newHub(t, newRig(t, f.s.addr, f.r.opts).Backend), "t", hub.After(f.seen)),
		} {
			waitFor(t, f.name+": the last message, at the reader "+what, func() bool { return strings.HasSuffix(a.all(), " last") })
			if got := a.all(); got != rest {
				t.Errorf("%s: the reader %s got %s, want %s", f.name, what, got, rest)
			}
		}
		for text, n := range times {
			if n > 1 {
				t.Errorf("%s: %s was appended %d times", f.name, text, n)
			}
			if strings.HasPrefix(text, "meanwhile") && !f.sure[text] && !f.maybe[text] {
				t.Errorf("%s: %s was said to be rejected and is there", f.name, text)
			}
		}
		for text := range f.sure {
			if times[text] == 0 {
				t.Errorf("%s: %s was said to be appended and is not there", f.name, text)
			}
		}
		// A Publish that waits for the server comes back later, and says that the server did not
		// answer.
		if f.given == 0 || f.late > f.given {
			t.Errorf("%s: Publish gave up with its context %d times, and later %d times", f.name, f.given, f.late)
		}
		for j := range f.quiet {
			persist(t, f.r, "quiet"+itoa(j), "x")
		}
		for j, a := range f.quiet {
			waitFor(t, "a message of a quiet topic", func() bool { return a.all() != "" })
			if a.all() != "x" {
				t.Errorf("%s: the reader of quiet topic %d got %s", f.name, j, a.all())
			}
		}
	}
}
