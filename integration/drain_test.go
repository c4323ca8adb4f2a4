package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/ginsse"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
	"github.com/headrace/headrace/sse/feed"
)

const (
	drainWindow = 3 * time.Second
	drainRetry  = 200 * time.Millisecond
)

// drained is an instance that shuts down while its clients move to another one.
type drained struct {
	t        *testing.T
	old, new *instance
	drain    *feed.Drain
	deferred atomic.Int64 // how often the middleware's deferred function has run

	began time.Time     // when the shutdown did
	moved chan struct{} // closed when the first client comes to the other instance

	mu    sync.Mutex
	ended []time.Duration // when streams ended, from then on
	back  []time.Duration // when their clients came to the other instance
}

// newDrained starts two instances over one backend, the old one with a drain.
func newDrained(t *testing.T) *drained {
	t.Helper()
	backend := memory.New(memory.Options{})
	t.Cleanup(func() { _ = backend.Close() })
	d := &drained{t: t, drain: &feed.Drain{Window: drainWindow}, moved: make(chan struct{})}
	start := func(drain *feed.Drain, middleware ...gin.HandlerFunc) *instance {
		h := newHubOver(t, backend, hub.Options{})
		r := gin.New()
		r.Use(middleware...)
		o := ginsse.Options{Retry: drainRetry, Heartbeat: time.Hour, NoRotation: true, Drain: drain, Logger: quiet}
		if err := ginsse.Mount(r, ginsse.SSE[struct{}]("/news").Options(o).Topic(h, "news")); err != nil {
			t.Fatal(err)
		}
		return &instance{h, newServer(t, r)}
	}
	d.old = start(d.drain, func(c *gin.Context) {
		defer d.deferred.Add(1)
		c.Next()
	})
	d.new = start(nil)
	d.old.server.Config.RegisterOnShutdown(d.drain.Begin)
	return d
}

// reader is one client: it reads numbered messages, over the move to the other instance.
type reader struct {
	drained *drained
	cursor  string
	next    int // the number that is due
}

// read reads until a message with the number, or until the stream ends. It returns the time to wait
// that the stream said as its last word.
func (r *reader) read(server *httptest.Server, ready func(), until int) (retry time.Duration, err error) {
	s, err := open(server, "/news", r.cursor, 0)
	if err != nil {
		return 0, err
	}
	defer s.drop()
	ready() // the place in the topic is fixed before the headers come
	for r.next <= until {
		e, err := s.Decode()
		if errors.Is(err, io.EOF) {
			retry, _ = s.Retry()
			if want := fmt.Sprintf("\nretry: %d\n", retry.Milliseconds()); !strings.HasSuffix(string(s.tail), want) {
				return 0, fmt.Errorf("the stream ended with %q, not with a time to come back", s.tail)
			}
			return retry, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("the stream did not end cleanly: %w", err)
		}
		r.cursor = e.ID
		if e.Type == "checkpoint" {
			continue
		}
		_, n, err := numbered(e)
		if err != nil || e.Type != "" || n != r.next {
			return 0, fmt.Errorf("an event of type %q with data %q, want message %d (%v)", e.Type, e.Text(), r.next, err)
		}
		r.next++
	}
	return 0, nil
}

// run is the whole life of the client.
func (r *reader) run(ready func(), came func(), last int) error {
	d := r.drained
	retry, err := r.read(d.old.server, ready, last)
	ended := time.Since(d.began)
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("on the old instance, message %d: %v", r.next, err)
	}
	time.Sleep(retry) // as it was told
	back := time.Since(d.began)
	d.mu.Lock()
	if d.back == nil {
		close(d.moved)
	}
	d.ended, d.back = append(d.ended, ended), append(d.back, back)
	d.mu.Unlock()
	if _, err := r.read(d.new.server, came, last); err != nil {
		return fmt.Errorf("on the new instance, message %d: %w", r.next, err)
	}
	return nil
}

// TestDrain: a server with many streams shuts down in time, its clients come to another instance at
// times of their own, and none of them loses a message.
func TestDrain(t *testing.T) {
	streams := testenv.Sized(150, 2000)
	t.Run("server first", func(t *testing.T) {
		d := newDrained(t)
		d.shutdown(streams, d.stopServer)
	})
	t.Run("hub first", func(t *testing.T) {
		d := newDrained(t)
		d.shutdown(streams, func(ctx context.Context) error {
			if err := d.old.hub.Shutdown(ctx); err != nil {
				return fmt.Errorf("of the hub: %w", err)
			}
			return d.stopServer(ctx)
		})
	})
	t.Run("hub meanwhile", func(t *testing.T) {
		// As where the time for the server's shutdown is shorter than the window: those whose
		// moment has not come do not come all at once either.
		d := newDrained(t)
		d.shutdown(streams, func(ctx context.Context) error {
			d.drain.Begin()
			select {
			case <-d.moved:
			case <-ctx.Done():
			}
			if err := d.old.hub.Shutdown(ctx); err != nil {
				return fmt.Errorf("of the hub: %w", err)
			}
			return d.stopServer(ctx)
		})
	})
}

// stopServer stops the old instance's server, as an application would.
func (d *drained) stopServer(ctx context.Context) error {
	return errors.Join(d.old.server.Config.Shutdown(ctx), d.drain.Wait(ctx))
}

// warm has one client come and go at both instances: what a hub has once is there before goroutines
// are counted.
func (d *drained) warm() {
	d.t.Helper()
	for _, i := range []*instance{d.old, d.new} {
		s, err := open(i.server, "/news", "", 0)
		if err != nil {
			d.t.Fatal(err)
		}
		s.drop()
		settle(d.t, i.hub)
	}
	eventually(d.t, "the middleware's deferred function has run", func() error {
		if n := d.deferred.Load(); n != 1 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
}

// shutdown shuts the old instance down while so many clients read from it.
func (d *drained) shutdown(streams int, shutdown func(context.Context) error) {
	t := d.t
	t.Helper()
	const before, after = 5, 5
	const each = 10 // messages while clients move
	last := before + each + after - 1
	number := 0
	publish := func(n int) {
		for range n {
			send(t, d.new.hub, "news", "news", number)
			number++
		}
	}
	d.warm()
	warm := d.deferred.Load()
	goroutines := runtime.NumGoroutine()

	var clients, connected, arrived sync.WaitGroup
	connected.Add(streams)
	arrived.Add(streams)
	var moved atomic.Int64
	step := make(chan struct{}, each)
	for range streams {
		clients.Go(func() {
			ready := sync.OnceFunc(connected.Done)
			came := sync.OnceFunc(func() {
				arrived.Done()
				if n := moved.Add(1); n*(each+1)/int64(streams) != (n-1)*(each+1)/int64(streams) {
					select {
					case step <- struct{}{}:
					default:
					}
				}
			})
			// Who fails must not keep the others waiting.
			defer ready()
			defer came()
			r := reader{drained: d}
			if err := r.run(ready, came, last); err != nil {
				t.Error(err)
			}
		})
	}
	connected.Wait()
	publish(before)
	peak := runtime.NumGoroutine()

	d.began = time.Now()
	result := make(chan error, 1)
	var took time.Duration
	var deferred int64
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		err := shutdown(ctx)
		took, deferred = time.Since(d.began), d.deferred.Load()
		result <- err
	}()
	for range each {
		<-step
		publish(1)
	}
	if err := <-result; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if deferred != int64(streams)+warm {
		t.Errorf("the middleware's deferred function had run %d times for %d streams when Shutdown returned", deferred-warm, streams)
	}
	arrived.Wait()
	publish(after)
	clients.Wait()
	if t.Failed() {
		return
	}
	ends, backs := spread(d.ended), spread(d.back)
	// A machine that stands still for a while brings some of them together, and never all.
	if least := drainWindow / 3; backs < least {
		t.Errorf("90 of 100 clients came back within %v, want at least %v", backs, least)
	}
	t.Logf("%d streams, %d goroutines: shut down in %v; streams ended within %v; clients came back from %v to %v, 90 of 100 within %v, at most %d within a tenth of a second",
		streams, peak, took, ends, d.back[0], d.back[len(d.back)-1], backs, crowd(d.back))

	settle(t, d.new.hub)
	eventually(t, "goroutines are back", func() error {
		if n := runtime.NumGoroutine(); n > goroutines {
			return fmt.Errorf("%d goroutines, %d before", n, goroutines)
		}
		return nil
	})
}

// crowd returns how many of the sorted times lie within a tenth of a second, at most.
func crowd(times []time.Duration) (most int) {
	for i, t := range times {
		j, _ := slices.BinarySearch(times, t+100*time.Millisecond)
		most = max(most, j-i)
	}
	return most
}
