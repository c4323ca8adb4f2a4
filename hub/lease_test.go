package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func takeLease(ctx context.Context, t *testing.T, h *Hub, keys ...string) context.Context {
	t.Helper()
	leased, err := h.Lease(ctx, keys...)
	if err != nil {
		t.Fatalf("Lease(%q): %v", keys, err)
	}
	return leased
}

func revoke(t *testing.T, h *Hub, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := h.Revoke(context.Background(), key); err != nil {
			t.Fatalf("Revoke(%q): %v", key, err)
		}
	}
}

// wantLeases waits until everything is settled and compares how leases have ended: "" for not at
// all, "revoked", or the cause.
func wantLeases(t *testing.T, want string, leased ...context.Context) {
	t.Helper()
	synctest.Wait()
	for i, ctx := range leased {
		got := ""
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, ErrRevoked):
			got = "revoked"
		case cause != nil:
			got = cause.Error()
		}
		if got != want {
			t.Errorf("lease %d: ended by %q, want %q", i, got, want)
		}
	}
}

// wantKeys compares the number of keys that the hub has leases for.
func wantKeys(t *testing.T, h *Hub, want int) {
	t.Helper()
	synctest.Wait()
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	got := 0
	if h.leases.current != nil {
		got = len(h.leases.current.byKey)
		if h.leases.current.users == 0 {
			t.Error("a subscription without users is kept")
		}
	}
	if got != want {
		t.Errorf("%d keys have leases, want %d", got, want)
	}
}

func TestLease(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		other := open(t, b, Options{})
		revoke(t, h, "user/1") // too early to end anything
		type value struct{}
		parent, cancel := context.WithCancel(context.WithValue(context.Background(), value{}, "kept"))
		defer cancel()
		hit := []context.Context{
			takeLease(parent, t, h, "user/1"),
			takeLease(parent, t, h, "user/1"),
			takeLease(parent, t, h, "room/1", "user/1", "room/2"),
			takeLease(parent, t, h, "user/1", "user/1"),
			takeLease(parent, t, other, "user/1"),
		}
		var spared []context.Context
		for _, key := range []string{"user/", "user/1 ", "user/11", "User/1", "user", "é", "room/1"} {
			spared = append(spared, takeLease(parent, t, h, key), takeLease(parent, t, other, key))
		}
		if n := b.pagesRead(revocationsTopic); n != 0 {
			t.Errorf("%d pages were read", n)
		}
		if hit[0].Value(value{}) != "kept" {
			t.Error("the context is not derived")
		}
		revoke(t, other, "user/2", "e\u0301", "room/3")
		wantLeases(t, "", append(hit, spared...)...)
		revoke(t, other, "user/1")
		wantLeases(t, "revoked", hit...)
		wantLeases(t, "", append(spared, parent)...)
		if hit[0].Err() != context.Canceled {
			t.Errorf("Err: %v", hit[0].Err())
		}
		wantKeys(t, h, 7)
		again := takeLease(parent, t, h, "user/1")
		wantLeases(t, "", again)
		revoke(t, h, "user/1")
		wantLeases(t, "revoked", again)
	})
}

func TestLeaseKeys(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for name, test := range map[string]struct {
			key  string
			good bool
		}{
			"empty":            {"", false},
			"shortest":         {"x", true},
			"longest":          {strings.Repeat("x", 255), true},
			"too long":         {strings.Repeat("x", 256), false},
			"not UTF-8":        {"a\xff", false},
			"NUL":              {"a\x00", false},
			"line break":       {"a\nb", false},
			"C1 control":       {"a\u0085", false},
			"beyond ASCII":     {"zürich {*}%", true},
			"like a topic":     {ReservedPrefix + "x", true},
			"only a space":     {" ", true},
			"replacement rune": {"\ufffd", true},
		} {
			published, follows := b.published, b.follows
			leased, err := h.Lease(ctx, "good", test.key)
			revoked := h.Revoke(ctx, test.key)
			if test.good {
				if err != nil || revoked != nil {
					t.Errorf("%s: Lease: %v, Revoke: %v", name, err, revoked)
					continue
				}
				wantLeases(t, "revoked", leased)
				continue
			}
			for op, err := range map[string]error{"lease": err, "revoke": revoked} {
				var e *Error
				if !errors.Is(err, ErrKey) || !errors.As(err, &e) || e.Op != op || e.Topic != "" || errors.Is(err, ErrRejected) != (op == "revoke") {
					t.Errorf("%s: %s: %v", name, op, err)
				}
			}
			if leased != nil || b.published != published || b.follows != follows {
				t.Errorf("%s: context %v, or the backend was called", name, leased)
			}
		}
		var e *Error
		if leased, err := h.Lease(ctx); leased != nil || !errors.Is(err, ErrKey) || !errors.As(err, &e) || e.Op != "lease" {
			t.Errorf("no key: %v, %v", leased, err)
		}
		wantKeys(t, h, 0)
	})
}

func TestLeaseWaitsForThePosition(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		goOn := make(chan struct{})
		b.onFollow = func(ctx context.Context, _ string, _ Sink) error {
			select {
			case <-goOn:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		// The first one gives up. The second one joined what it began.
		impatient, cancelImpatient := context.WithTimeoutCause(context.Background(), time.Second, errors.New("impatient"))
		defer cancelImpatient()
		patient, cancel := context.WithCancel(context.Background())
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			start := time.Now()
			leased, err := h.Lease(impatient, "a")
			var e *Error
			if leased != nil || !errors.As(err, &e) || e.Op != "lease" || e.Err.Error() != "impatient" || time.Since(start) != time.Second {
				t.Errorf("the impatient one: %v, %v after %v", leased, err, time.Since(start))
			}
		})
		synctest.Wait()
		var leased atomic.Value
		wg.Go(func() { leased.Store(takeLease(patient, t, h, "a")) })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if leased.Load() != nil {
			t.Fatal("Lease returned before Follow")
		}
		close(goOn)
		wg.Wait()
		if b.follows != 1 {
			t.Errorf("%d Follows", b.follows)
		}
		revoke(t, h, "a")
		wantLeases(t, "revoked", leased.Load().(context.Context))
	})
}

func TestLeaseGivenUpByAll(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onFollow = func(ctx context.Context, _ string, _ Sink) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := h.Lease(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lease: %v", err)
		}
		synctest.Wait()
		if h.leases.current != nil {
			t.Error("the subscription is kept")
		}
		if _, err := h.Lease(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || b.follows != 1 {
			t.Errorf("with an ended context: %v, %d Follows", err, b.follows)
		}
	})
}

func TestLeaseWithAnEndedContext(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		takeLease(ctx, t, h, "a")
		ended, end := context.WithCancelCause(context.Background())
		end(errors.New("left"))
		for range 20 {
			if leased, err := h.Lease(ended, "b"); leased != nil || err == nil || err.Error() != "hub: lease: left" {
				t.Fatalf("Lease: %v, %v", leased, err)
			}
		}
	})
}

func TestLeaseWhenFollowFails(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		down := errors.New("down")
		b.onFollow = func(context.Context, string, Sink) error {
			time.Sleep(time.Millisecond) // until both wait for it
			return down
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for range 2 {
			// Somebody else is told of the failure only later: it is not handed to those who come
			// now.
			if _, err := h.leases.join(); err != nil {
				t.Fatal(err)
			}
			var e *Error
			if leased, err := h.Lease(ctx, "a"); leased != nil || !errors.Is(err, down) || !errors.As(err, &e) || e.Op != "lease" {
				t.Errorf("Lease: %v, %v", leased, err)
			}
		}
		if b.follows != 2 {
			t.Errorf("%d Follows", b.follows)
		}
		b.script(func() { b.onFollow = nil })
		leased := takeLease(ctx, t, h, "a")
		revoke(t, h, "a")
		wantLeases(t, "revoked", leased)
	})
}

func TestLeasesShareOneSubscription(t *testing.T) {
	each(t, Options{IdleDelay: time.Minute}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() { takeLease(ctx, t, h, "all", fmt.Sprint(i)) })
		}
		wg.Wait()
		wantKeys(t, h, 51)
		readers := func() (int, bool) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if f := h.topics[revocationsTopic]; f != nil {
				return f.readers, f.idle != nil
			}
			return 0, false
		}
		if n, _ := readers(); n != 1 {
			t.Errorf("%d readers", n)
		}
		if s := h.Stats(); b.follows != 1 || s.Topics != 1 || s.Subscriptions != 0 {
			t.Errorf("%d Follows, %+v", b.follows, s)
		}
		cancel()
		wantKeys(t, h, 0)
		if n, idle := readers(); n != 0 || !idle {
			t.Errorf("without a lease: %d readers, idle: %v", n, idle)
		}
		time.Sleep(59 * time.Second)
		ctx, cancel = context.WithCancel(context.Background())
		takeLease(ctx, t, h, "one")
		if b.follows != 1 {
			t.Errorf("%d Follows within the idle delay", b.follows)
		}
		cancel()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if s := h.Stats(); b.stops != 1 || s.Topics != 0 {
			t.Errorf("after the idle delay: %d stops, %+v", b.stops, s)
		}
	})
}

func TestLeaseEndsWithItsParent(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		other, cancelOther := context.WithCancel(context.Background())
		defer cancelOther()
		stays := takeLease(other, t, h, "b")
		parent, cancel := context.WithCancelCause(context.Background())
		leased := takeLease(parent, t, h, "a", "b")
		derived, end := context.WithCancel(leased)
		defer end()
		if !Leased(leased) || !Leased(derived) || Leased(parent) {
			t.Errorf("Leased: %v, %v, %v", Leased(leased), Leased(derived), Leased(parent))
		}
		wantKeys(t, h, 2)
		cancel(errors.New("left"))
		wantLeases(t, "left", leased)
		wantKeys(t, h, 1)
		revoke(t, h, "a", "b")
		wantLeases(t, "left", leased)
		wantLeases(t, "revoked", stays)
		wantKeys(t, h, 0)
	})
}

func TestRevoke(t *testing.T) {
	var observed []string
	o := Options{Observer: Observer{Published: func(topic string, id ID, _ time.Duration, err error) {
		observed = append(observed, fmt.Sprint(topic, " ", id, " ", err))
	}}}
	walk(t, chained, o, func(t *testing.T, b *fake, h *Hub) {
		revoke(t, h, "nobody's")
		m := b.topics["_headrace/revocations"].retained[0]
		if b.follows != 0 || m.Type != "revoke" || string(m.Data) != "nobody's" || m.Binary || m.Final || m.Headers != nil || len(b.topics["_headrace/revocations"].keys) != 0 {
			t.Errorf("%d Follows, published %+v", b.follows, m)
		}
		if len(observed) != 1 || observed[0] != "_headrace/revocations 1 <nil>" || h.Stats().Published != 1 {
			t.Errorf("observed %q, %+v", observed, h.Stats())
		}
		down := errors.New("down")
		b.onPublish = func(context.Context, Message, func() ID) (ID, error) { return "", down }
		err := h.Revoke(t.Context(), "a")
		var e *Error
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, down) || !errors.As(err, &e) || e.Op != "revoke" || b.published != 2 {
			t.Errorf("Revoke: %v after %d calls", err, b.published-1)
		}
		b.onPublish = func(context.Context, Message, func() ID) (ID, error) { return "", reject(down) }
		if err := h.Revoke(t.Context(), "a"); !errors.Is(err, ErrRejected) || errors.Is(err, ErrUnknown) {
			t.Errorf("Revoke: %v", err)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if err := h.Revoke(ended, "a"); !errors.Is(err, ErrRejected) || !errors.Is(err, context.Canceled) {
			t.Errorf("Revoke: %v", err)
		}
	})
}

func TestRevocationsAreNotForUsers(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		_, published := h.Publish(t.Context(), revocationsTopic, Message{Type: revocationType, Data: []byte("a")})
		_, finished := h.Finish(t.Context(), revocationsTopic)
		_, subscribed := h.Subscribe(t.Context(), revocationsTopic, Latest())
		for _, err := range []error{published, finished, subscribed, CheckTopic(revocationsTopic)} {
			if !errors.Is(err, ErrTopic) {
				t.Errorf("error %v", err)
			}
		}
		if b.published != 0 || b.follows != 0 {
			t.Error("the backend was called")
		}
	})
}

// TestGapEndsLeases: after what may have been a lost revocation no lease can be trusted, and the
// next one begins on firm ground.
func TestGapEndsLeases(t *testing.T) {
	for name, test := range map[string]struct {
		traits Traits
		o      Options
		lose   func(b *fake, h *Hub)
	}{
		"lost by the backend": {chained, Options{}, func(b *fake, _ *Hub) {
			b.forget(revocationsTopic)
			b.restored(revocationsTopic, "")
		}},
		"lost, and found by a position check": {unchained, Options{}, func(b *fake, _ *Hub) {
			b.forget(revocationsTopic)
			time.Sleep(time.Minute)
		}},
		"out of retention": {chained, Options{}, func(b *fake, _ *Hub) {
			b.mute(revocationsTopic, true)
			b.add(revocationsTopic, 5)
			b.trim(revocationsTopic, 2)
			b.mute(revocationsTopic, false)
			b.restored(revocationsTopic, "")
		}},
		"interrupted without replay, at once and not with the next message": {liveOnly, Options{}, func(b *fake, _ *Hub) {
			b.restored(revocationsTopic, "")
		}},
		"interrupted without replay, behind a message": {liveOnly, Options{}, func(b *fake, _ *Hub) {
			b.add(revocationsTopic, 1)
			b.restored(revocationsTopic, "")
			b.add(revocationsTopic, 1)
		}},
		"more than a window at once without replay": {liveOnly, Options{Window: 2}, func(b *fake, _ *Hub) {
			b.inject(revocationsTopic, Message{ID: "1"}, Message{ID: "2"}, Message{ID: "3"})
		}},
		"the topic is let go": {chained, Options{}, func(_ *fake, h *Hub) {
			h.mu.Lock()
			f := h.topics[revocationsTopic]
			h.mu.Unlock()
			h.forget(f)
			f.release()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			walk(t, test.traits, test.o, func(t *testing.T, b *fake, h *Hub) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				one, two := takeLease(ctx, t, h, "a"), takeLease(ctx, t, h, "b", "c")
				test.lose(b, h)
				wantLeases(t, "revoked", one, two)
				wantKeys(t, h, 0)
				if s := h.Stats(); s.Topics != 0 || b.stops != 1 {
					t.Errorf("the topic is kept: %+v, %d stops", s, b.stops)
				}
				again, spared := takeLease(ctx, t, h, "a"), takeLease(ctx, t, h, "d")
				wantLeases(t, "", again, spared)
				if b.follows != 2 {
					t.Errorf("%d Follows", b.follows)
				}
				revoke(t, h, "a")
				wantLeases(t, "revoked", again)
				wantLeases(t, "", spared)
			})
		})
	}
}

// TestRevocationsReadFromTheBackend: what the live path and the window do not give is not lost
// where there is replay.
func TestRevocationsReadFromTheBackend(t *testing.T) {
	eachReplay(t, Options{Window: 2}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		a, last, spared := takeLease(ctx, t, h, "a"), takeLease(ctx, t, h, "k9"), takeLease(ctx, t, h, "b")
		b.mute(revocationsTopic, true)
		revoke(t, h, "a")
		for i := range 10 {
			revoke(t, h, fmt.Sprint("k", i))
		}
		wantLeases(t, "", a, last, spared)
		b.mute(revocationsTopic, false)
		b.restored(revocationsTopic, "")
		wantLeases(t, "revoked", a, last)
		wantLeases(t, "", spared)
	})
}

// TestGapFromBeforeTheLease: a gap on a topic that was still followed when the lease came ends it
// at most once.
func TestGapFromBeforeTheLease(t *testing.T) {
	walk(t, liveOnly, Options{}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		takeLease(ctx, t, h, "a")
		cancel()
		wantKeys(t, h, 0)
		b.restored(revocationsTopic, "")
		ctx, cancel = context.WithCancel(context.Background())
		defer cancel()
		takeLease(ctx, t, h, "a")
		synctest.Wait()
		leased := takeLease(ctx, t, h, "a")
		wantLeases(t, "", leased)
		revoke(t, h, "a")
		wantLeases(t, "revoked", leased)
	})
}

// TestLeaseWhoseSubscriptionEnds: the subscription is over before the lease is entered, so it has
// to be another one.
func TestLeaseWhoseSubscriptionEnds(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		over := func(r *revocations) {
			h.leases.mu.Lock()
			defer h.leases.mu.Unlock()
			h.leases.current = r
		}
		over(&revocations{ready: closedChan, over: true})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := h.Lease(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || b.follows != 0 {
			t.Errorf("Lease: %v, %d Follows", err, b.follows)
		}
		ctx, cancel = context.WithCancel(context.Background())
		defer cancel()
		got := make(chan context.Context)
		go func() { got <- takeLease(ctx, t, h, "a") }()
		synctest.Wait()
		over(nil)
		leased := <-got
		revoke(t, h, "a")
		wantLeases(t, "revoked", leased)
	})
}

func TestForeignRevocationsAreIgnored(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		leased := takeLease(ctx, t, h, "a")
		poison := []Message{
			{Data: []byte("a")},
			{Type: "x", Data: []byte("a")},
			{Type: "Revoke", Data: []byte("a")},
			{Type: "gap", Data: []byte("a")},
			{Type: revocationType},
			{Type: revocationType, Data: []byte("a\xff")},
			{Type: revocationType, Data: []byte("a"), Binary: true},
			{Type: revocationType, Data: []byte(strings.Repeat("a", 1<<20))},
			{Type: revocationType, Data: []byte(`{"key":"a"}`)},
			{Type: "close", Final: true},
		}
		for _, m := range poison {
			b.append(revocationsTopic, m)
			wantLeases(t, "", leased)
		}
		b.inject(revocationsTopic, Message{ID: "not valid", Type: revocationType, Data: []byte("a")})
		wantLeases(t, "", leased)
		// The newest message is one that ends other topics: for who has read it, for who joins
		// and for a hub that comes later.
		other := open(t, b, Options{})
		all := []context.Context{leased, takeLease(ctx, t, h, "a"), takeLease(ctx, t, other, "a")}
		wantLeases(t, "", all...)
		revoke(t, h, "a")
		wantLeases(t, "revoked", all...)
	})
}

// TestForeignEndReadFromTheBackend: the message that would end the topic comes with a page.
func TestForeignEndReadFromTheBackend(t *testing.T) {
	eachReplay(t, Options{Window: 2}, func(t *testing.T, b *fake, h *Hub) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		leased := takeLease(ctx, t, h, "a")
		b.mute(revocationsTopic, true)
		b.append(revocationsTopic, Message{Type: "close", Final: true})
		b.add(revocationsTopic, 5)
		b.append(revocationsTopic, Message{Type: "close", Final: true})
		b.mute(revocationsTopic, false)
		b.restored(revocationsTopic, "")
		wantLeases(t, "", leased)
		revoke(t, h, "a")
		wantLeases(t, "revoked", leased)
	})
}

func TestShutdownAndLeases(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		parent, cancel := context.WithCancelCause(context.Background())
		leased := takeLease(parent, t, h, "a")
		reader := subscribe(t, h, "t", Latest())
		late := takeLease(parent, t, h, "late")
		revoke(t, h, "late")

		done := make(chan error)
		go func() { done <- h.Shutdown(context.Background()) }()
		synctest.Wait()
		wantLeases(t, "", leased)
		wantLeases(t, "revoked", late) // it was in the window
		for range 20 {
			// Of a subscription that has not noticed yet.
			h.leases.mu.Lock()
			h.leases.current = &revocations{cancel: func() {}, ready: closedChan, byKey: make(map[string]map[*lease]struct{})}
			h.leases.mu.Unlock()
			if again, err := h.Lease(parent, "a"); again != nil || !errors.Is(err, ErrClosed) {
				t.Fatalf("Lease: %v, %v", again, err)
			}
		}
		if err := h.Revoke(parent, "a"); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrRejected) {
			t.Errorf("Revoke: %v", err)
		}
		select {
		case err := <-done:
			t.Fatalf("Shutdown returned %v while a subscription was open", err)
		default:
		}
		reader.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if b.follows != b.stops {
			t.Errorf("%d Follows, %d stops", b.follows, b.stops)
		}
		wantLeases(t, "", leased)
		cancel(errors.New("left"))
		wantLeases(t, "left", leased)
	})
}

// TestShutdownDoesNotWaitForLeases: not even when its context has ended, when Follow is under
// way, or when the backend does not answer. TestLeaseAsTheHubEnds: the revocations are first
// asked for when the hub's own context has ended.
func TestLeaseAsTheHubEnds(t *testing.T) {
	h, err := New(newFake(chained), Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &revocations{ready: make(chan struct{}), byKey: make(map[string]map[*lease]struct{})}
	r.ctx, r.cancel = context.WithCancel(h.ctx)
	defer r.cancel()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.leases.follow(r)
	if !errors.Is(r.err, ErrClosed) {
		t.Errorf("error %v", r.err)
	}
}

func TestShutdownDoesNotWaitForLeases(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, script := range map[string]func(b *fake, following bool){
		"idle": func(*fake, bool) {},
		"Follow hangs": func(b *fake, following bool) {
			if !following {
				b.onFollow = func(ctx context.Context, _ string, _ Sink) error { return hang(ctx) }
			}
		},
		"Read hangs": func(b *fake, following bool) {
			if following {
				b.script(func() {
					b.onRead = func(ctx context.Context, _ fakeRead, _ func() Page) (Page, error) { return Page{}, hang(ctx) }
				})
				b.restored(revocationsTopic, "")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
				parent, cancel := context.WithCancel(context.Background())
				defer cancel()
				script(b, false)
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := h.Lease(parent, "a"); err != nil && !errors.Is(err, ErrClosed) {
						t.Errorf("Lease: %v", err)
					}
				})
				synctest.Wait()
				script(b, true)
				synctest.Wait()
				ended, end := context.WithCancel(context.Background())
				end()
				start := time.Now()
				if err := h.Shutdown(ended); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				wg.Wait()
				if took := time.Since(start); took != 0 {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestCheckAndRevocation runs on real threads: a right that is taken away while it is being
// checked is found missing by the check, or ends the lease.
func TestCheckAndRevocation(t *testing.T) {
	b := newFake(chained)
	holder, revoker := open(t, b, Options{}), open(t, b, Options{})
	for i := range 300 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if i%2 == 0 {
			// Somebody has a lease already: the one under test joins.
			takeLease(ctx, t, holder, "other")
		}
		var right atomic.Bool
		right.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() {
			right.Store(false)
			if err := revoker.Revoke(ctx, "a"); err != nil {
				t.Error(err)
			}
		})
		leased := takeLease(ctx, t, holder, "a")
		if right.Load() {
			<-leased.Done()
			if cause := context.Cause(leased); !errors.Is(cause, ErrRevoked) {
				t.Errorf("round %d: the lease ended by %v", i, cause)
			}
		}
		wg.Wait()
		cancel()
	}
}

// TestLeasesAmongEverything runs on real threads: leases come, end and are revoked, and gaps and
// a shutdown come among them. Nothing is left.
func TestLeasesAmongEverything(t *testing.T) {
	for _, traits := range []Traits{chained, liveOnly} {
		for range 20 {
			b := newFake(traits)
			h := open(t, b, Options{IdleDelay: time.Millisecond})
			other := open(t, b, Options{})
			parent, cancelAll := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for j := range 40 {
						ctx, cancel := context.WithCancel(parent)
						leased, err := h.Lease(ctx, fmt.Sprint("k", i%3), fmt.Sprint("own", i))
						if err != nil {
							t.Error(err)
						} else if j%2 == 0 {
							if err := other.Revoke(ctx, fmt.Sprint("k", i%3)); err != nil {
								t.Error(err)
							}
							<-leased.Done()
						}
						cancel()
					}
				})
			}
			wg.Go(func() {
				for range 10 {
					b.restored(revocationsTopic, "")
					b.forget(revocationsTopic)
				}
			})
			wg.Wait()
			leased := takeLease(parent, t, h, "k0")
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if err := h.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			cancelAll()
			<-leased.Done()
			cancel()
			if s := h.Stats(); s.Topics != 0 || s.WindowBytes != 0 {
				t.Errorf("stats %+v", s)
			}
		}
	}
}
