package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/hub"
)

// TestDrain: streams end at moments of their own, get what is published until then, and are told
// to come back soon after.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 50
		h := newHub(t, nil, hub.Options{})
		drain := &Drain{Window: 10 * time.Second}
		var begun time.Time
		took := make(chan time.Duration, streams)
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), Drain: drain, OnEnd: func(e End) {
			isCause(t, e.Cause, ErrShutdown)
			took <- time.Since(begun)
		}}), false, nil)
		defer stop()
		texts := make(chan string, streams)
		for range streams {
			c := connect(t, client, "http://memory/", "")
			c.primed(t)
			go func() { texts <- c.rest(t) }()
		}
		waited := make(chan error, 1)
		begun = time.Now()
		drain.Begin()
		drain.Begin()
		go func() { waited <- drain.Wait(t.Context()) }()
		checkLater(t, record(Handler(Of(h, "t"), Options{Logger: quiet(), Drain: drain}), get("/", "Accept", streamType)), true)
		time.Sleep(5 * time.Second)
		publish(t, h, "t", "half-way")
		got := 0
		first, last := time.Hour, time.Duration(0)
		for range streams {
			after := <-took
			first, last = min(first, after), max(last, after)
			text := <-texts
			if rest, ok := strings.CutSuffix(text, "retry: N\n"); !ok {
				t.Errorf("ended with %q", text)
			} else if strings.Contains(rest, "half-way") {
				got++
			}
		}
		if first > 3*time.Second || last < 7*time.Second || last > 10*time.Second || got == 0 || got == streams {
			t.Errorf("ended from %v to %v; %d got a message after the half", first, last, got)
		}
		equal(t, "wait", <-waited, nil)
	})
}

func TestDrainWait(t *testing.T) {
	drain := &Drain{}
	ctx, cancel := context.WithCancelCause(context.Background())
	leave, _ := drain.enter()
	cancel(errors.New("no more time"))
	drain.Begin()
	err := drain.Wait(ctx)
	isCause(t, err, ErrDraining)
	equal(t, "error", err.Error(), "feed: streams are still open: 1: no more time")
	leave()
	equal(t, "afterwards", drain.Wait(context.Background()), nil)
	(&Drain{}).Begin()
	empty := &Drain{}
	empty.Begin()
	equal(t, "nothing was open", empty.Wait(context.Background()), nil)
}

// TestDrainOfAServer: http.Server.Shutdown comes to its end by itself.
func TestDrainOfAServer(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	drain := &Drain{Window: 50 * time.Millisecond}
	s := httptest.NewServer(Handler(Of(h, "t"), Options{Logger: quiet(), Drain: drain}))
	defer s.Close()
	s.Config.RegisterOnShutdown(drain.Begin)
	c := connect(t, s.Client(), s.URL, "")
	c.primed(t)
	done := make(chan error)
	go func() { done <- s.Config.Shutdown(t.Context()) }()
	equal(t, "rest", c.rest(t), "retry: N\n")
	equal(t, "shutdown", <-done, nil)
}

// TestLimits: who comes too late is told to come back, in the way it understands, and nobody else
// notices.
func TestLimits(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	limits := &Limits{Max: 2, PerKey: 1, Key: func(r *http.Request) string { return r.URL.Query().Get("user") }}
	o := Options{Logger: quiet(), Limits: limits}
	s := httptest.NewServer(Handler(Of(h, "t"), o))
	defer s.Close()
	ada := connect(t, s.Client(), s.URL+"?user=ada", "")
	ada.primed(t)
	refused := func(user, accept string) *httptest.ResponseRecorder {
		return record(Handler(Of(h, "t"), o), get("/?user="+user, "Accept", accept))
	}
	w := refused("ada", streamType)
	equal(t, "an EventSource", w.Code, 200)
	if text := w.Body.String(); !strings.HasPrefix(text, ": ok\nretry: 1") && !strings.HasPrefix(text, ": ok\nretry: 2") || strings.Count(text, "\n") != 2 {
		t.Errorf("body %q", text)
	}
	w = refused("ada", "*/*")
	equal(t, "another client", w.Code, http.StatusTooManyRequests)
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	bob := connect(t, s.Client(), s.URL+"?user=bob", "")
	bob.primed(t)
	equal(t, "beyond the bound of the process", refused("eve", "*/*").Code, http.StatusServiceUnavailable)
	equal(t, "open", limits.Open(), 2)
	id := publish(t, h, "t", "a")[0]
	equal(t, "those who are in", ada.block(t)+bob.block(t), event(id, "a")+event(id, "a"))
	ada.leave()
	bob.leave()
}

// TestGenerateLimits: generators count too.
func TestGenerateLimits(t *testing.T) {
	limits := &Limits{Max: 1}
	handler := generator(Options{Logger: quiet(), Limits: limits}, make(chan error, 2), func(context.Context, yieldFunc) {
		equal(t, "open", limits.Open(), 1)
	})
	record(handler, get("/"))
	equal(t, "open", limits.Open(), 0)
}

// TestRevoked: the client is told to come back soon, to be checked anew.
func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		onEnd, end := ends()
		client, stop := memServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, err := h.Lease(r.Context(), "user/ada")
			if err != nil {
				t.Error(err)
				return
			}
			_ = Serve(w, r.WithContext(ctx), Of(h, "t"), Options{Logger: quiet(), OnEnd: onEnd})
		}), false, nil)
		defer stop()
		c := connect(t, client, "http://memory/", "")
		c.primed(t)
		if err := h.Revoke(t.Context(), "user/ada"); err != nil {
			t.Fatal(err)
		}
		equal(t, "rest", c.rest(t), "retry: N\n")
		isCause(t, (<-end).Cause, ErrRevoked)
	})
}

// TestDrainKeyPanics: a place in the drain is not lost by a panic of the user's Key.
func TestDrainKeyPanics(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	drain := &Drain{}
	o := Options{Logger: quiet(), Drain: drain, Limits: &Limits{PerKey: 1, Key: func(*http.Request) string { panic("of the user") }}}
	func() {
		defer func() { equal(t, "panic", recover(), any("of the user")) }()
		_ = Serve(httptest.NewRecorder(), get("/"), Of(h, "t"), o)
	}()
	drain.Begin()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // with a context that has ended, too
		equal(t, "wait", drain.Wait(ended), nil)
	}
}

// TestDrainCutShort: a hub that is shut down before the window is over still spreads who comes
// back.
func TestDrainCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil, hub.Options{})
		drain := &Drain{Window: time.Minute}
		client, stop := memServer(Handler(Of(h, "t"), Options{Logger: quiet(), Drain: drain}), false, nil)
		defer stop()
		var streams []*follower
		for range 40 {
			c := connect(t, client, "http://memory/", "")
			c.primed(t)
			streams = append(streams, c)
		}
		drain.Begin()
		synctest.Wait()
		done := make(chan error)
		go func() { done <- h.Shutdown(context.Background()) }()
		longest := 0
		for _, c := range streams {
			var retry int
			if _, err := fmt.Fscanf(c.r, "retry: %d", &retry); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, retry)
			c.rest(t)
		}
		equal(t, "shutdown", <-done, nil)
		if longest < 30000 {
			t.Errorf("the last one is told to come back after %d ms of a minute", longest)
		}
	})
}

// TestDrainLate: a stream that begins when its moment is over ends at once, and not a window later.
func TestDrainLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &Drain{Window: 5 * time.Second}
		f := Of(newHub(t, nil, hub.Options{}), "t")
		f.Snapshot = func(context.Context) (any, error) {
			time.Sleep(8 * time.Second)
			return "state", nil
		}
		client, stop := memServer(Handler(f, Options{Logger: quiet(), Drain: drain}), false, nil)
		defer stop()
		begun := time.Now()
		time.AfterFunc(time.Second, drain.Begin)
		connect(t, client, "http://memory/", "").rest(t)
		equal(t, "over after", time.Since(begun), 8*time.Second)
	})
}
