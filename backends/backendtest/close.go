package backendtest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headrace/headrace/hub"
)

func closeEndsEverything(s *suite) {
	topic := s.topic()
	r := newRecorder()
	_, stop := s.followWith(s.ctx, s.b, topic, r)
	s.fence(s.b, topic, r)
	var closed atomic.Bool
	var wg sync.WaitGroup
	wrong := make(chan error, 4)
	for g := range 4 {
		wg.Go(func() {
			for i := range 1_000_000 {
				was := closed.Load()
				_, err := s.b.Publish(s.ctx, topic, text("publisher %d message %d", g, i))
				if was {
					wrong <- err
					return
				}
			}
		})
	}
	s.until(r, "messages of running publishers", func(r *recorder) bool { return len(r.messages) > 20 })
	s.bounded("Close", func() { _ = s.b.Close() })
	closed.Store(true)
	s.bounded("Publish after Close", wg.Wait)
	close(wrong)
	for err := range wrong {
		rejectedByClose(s, err)
	}
	begun := r.begun()
	s.bounded("a second Close", func() { _ = s.b.Close() })

	var err error
	s.bounded("Publish after Close", func() { _, err = s.b.Publish(s.ctx, topic, text("closed")) })
	rejectedByClose(s, err)
	s.bounded("Follow after Close", func() { _, _, err = s.b.Follow(s.ctx, topic, newRecorder()) })
	if err == nil {
		s.Fatal("Follow after Close succeeded")
	}
	if s.traits.Replay {
		s.bounded("Read after Close", func() { _, err = s.b.Read(s.ctx, topic, "", 1) })
		if err == nil {
			s.Fatal("Read after Close succeeded")
		}
	}
	failsClosed(s, "PublishAll", s.traits.Atomic, func() error {
		_, err := s.b.PublishAll(s.ctx, topic, []hub.Message{text("a"), text("b")})
		return err
	})
	failsClosed(s, "Seek", s.traits.Replay, func() error {
		_, err := s.b.Seek(s.ctx, topic, hub.Seek{Messages: 1})
		return err
	})
	failsClosed(s, "Info", s.traits.Replay, func() error {
		_, err := s.b.Info(s.ctx, topic)
		return err
	})
	failsClosed(s, "Delete", s.traits.Deletes, func() error { return s.b.Delete(s.ctx, topic) })
	failsClosed(s, "Erase", s.traits.Deletes, func() error { return s.b.Erase(s.ctx, topic, r.got()[0].ID) })
	if len(s.instances) > 1 {
		peer := s.instances[1]
		live, _ := s.follow(peer, topic)
		s.publishN(peer, topic, 5)
		s.fence(peer, topic, live)
	}
	// As with stop, one call may have been decided on.
	if got := r.begun(); got > begun+1 {
		s.Fatalf("%d calls into the sink by the time Close returned, %d later", begun, got)
	}
	s.bounded("stop after Close", stop)
}

// failsClosed ends the test unless a method fails after Close, if the backend has it.
func failsClosed(s *suite, what string, has bool, f func() error) {
	s.Helper()
	var err error
	s.bounded(what+" after Close", func() { err = f() })
	if err == nil && has {
		s.Fatalf("%s after Close succeeded", what)
	}
}

func rejectedByClose(s *suite, err error) {
	s.Helper()
	if !errors.Is(err, hub.ErrRejected) {
		s.Fatalf("Publish after Close: %v, want ErrRejected", err)
	}
}

func methodsReturn(s *suite) {
	topic := s.topic()
	all := func(when string, ctx func() (context.Context, func())) {
		s.Helper()
		call := func(what string, f func(ctx context.Context)) {
			s.Helper()
			ctx, end := ctx()
			defer end()
			s.bounded(what+" "+when, func() { f(ctx) })
		}
		call("Publish", func(ctx context.Context) { _, _ = s.b.Publish(ctx, topic, text("x")) })
		call("Follow", func(ctx context.Context) {
			if _, stop, err := s.b.Follow(ctx, topic, newRecorder()); err == nil {
				stop()
			}
		})
		if s.traits.Replay {
			call("Read", func(ctx context.Context) { _, _ = s.b.Read(ctx, topic, "", 10) })
			call("Seek", func(ctx context.Context) { _, _ = s.b.Seek(ctx, topic, hub.Seek{Messages: 1}) })
			call("Info", func(ctx context.Context) { _, _ = s.b.Info(ctx, topic) })
		}
		if s.traits.Atomic {
			call("PublishAll", func(ctx context.Context) { _, _ = s.b.PublishAll(ctx, topic, []hub.Message{text("a"), text("b")}) })
		}
		if s.traits.Deletes {
			call("Erase", func(ctx context.Context) { _ = s.b.Erase(ctx, topic, "backendtest~unknown") })
			call("Delete", func(ctx context.Context) { _ = s.b.Delete(ctx, topic) })
		}
		call("Ping", func(ctx context.Context) { _ = s.b.Ping(ctx) })
	}
	all("under a context that is done", func() (context.Context, func()) {
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		return ctx, cancel
	})
	for looks := range 10 {
		all("under a context that ends meanwhile", func() (context.Context, func()) {
			ctx := newCountdown(s.ctx, looks)
			return ctx, ctx.end
		})
	}
	if s.c.Outage == nil {
		s.Log("Config.Outage is not set: methods are not tested while the store is unreachable")
		return
	}
	restore := s.c.Outage(s.TB, s.b)
	defer restore()
	all("under a context that ended while the store is unreachable", func() (context.Context, func()) {
		return context.WithTimeout(s.ctx, 50*time.Millisecond)
	})
	s.bounded("Close while the store is unreachable", func() { _ = s.b.Close() })
}
