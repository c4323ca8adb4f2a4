package redisstream

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/testenv"
)

func TestConformanceXRead(t *testing.T) {
	t.Parallel()
	bounds := hub.Retention{}
	if testenv.IsLong() {
		bounds = retained[0]
	}
	mostly(t, testenv.IsLong(), func(t *testing.T, addr string) {
		t.Parallel()
		admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer admin.Close()
		conformance(t, admin, nil, bounds, func(t testing.TB) *rig {
			return newRig(t, addr, Options{Follow: FollowXRead, Retention: retained})
		})
	})
	t.Run("redis-server cluster", func(t *testing.T) {
		t.Parallel()
		nodes := startCluster(t)
		admin := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr}, DisableIdentity: true})
		defer admin.Close()
		conformance(t, admin, nil, bounds, func(t testing.TB) *rig {
			return newClusterRig(t, nodes[0].addr, Options{Follow: FollowXRead, Retention: retained})
		})
	})
}

// writer is another program, which knows nothing of this package.
type writer struct {
	t   *testing.T
	to  *redis.Client
	key string
	n   int
	ids string // default "*"
}

func (w *writer) add(args ...any) string {
	w.t.Helper()
	id, err := w.to.Do(w.t.Context(), append(append([]any{"xadd", w.key}, args...), cmp.Or(w.ids, "*"), "n", w.n)...).Text()
	if err != nil {
		w.t.Fatal(err)
	}
	w.n++
	return id
}

// foreignText is the data of the nth entry of a writer.
func foreignText(n int) string { return `{"n":"` + itoa(n) + `"}` }

func foreignTexts(from, to int) string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, foreignText(i))
	}
	return strings.Join(list, " ")
}

// TestXReadOfForeignWriter is about streams that another program writes to, and what is said of
// them when something happens to them.
func TestXReadOfForeignWriter(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(t *testing.T, s *server, key string)
		gap  bool   // must be said before any later message
		ids  string // of the later entries
	}{
		{name: "nothing happens", do: func(*testing.T, *server, string) {}},
		{name: "trimmed behind the reader", do: func(t *testing.T, s *server, key string) { s.XTrimMaxLen(t.Context(), key, 1) }},
		{name: "trimmed past the reader", do: func(t *testing.T, s *server, key string) { s.XTrimMaxLen(t.Context(), key, 0) }, gap: true},
		{name: "DEL", do: func(t *testing.T, s *server, key string) { s.Del(t.Context(), key) }, gap: true},
		{name: "begins again with lower IDs", do: func(t *testing.T, s *server, key string) {
			s.Del(t.Context(), key)
		}, gap: true, ids: "5-*"},
		{name: "connections killed", do: func(t *testing.T, s *server, _ string) {
			s.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
		}},
		{name: "another type for a while", do: func(t *testing.T, s *server, key string) {
			s.Rename(t.Context(), key, "aside")
			s.Set(t.Context(), key, "x", 0)
			timer := time.NewTimer(2 * retryEvery)
			<-timer.C
			s.Rename(t.Context(), "aside", key)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := newRig(t, s.addr, Options{Follow: FollowXRead})
			h := newHub(t, r.Backend)
			w := &writer{t: t, to: s.Client, key: r.keys.stream("t")}
			other := &writer{t: t, to: s.Client, key: r.keys.stream("other")}
			connected, bystander := attend(t, h, "t", hub.Latest()), attend(t, h, "other", hub.Latest())
			for range 10 {
				w.add()
				other.add()
			}
			before := foreignTexts(0, 10)
			waitFor(t, "the messages before", func() bool { return connected.all() == before && bystander.all() == before })
			test.do(t, s, w.key)
			w.ids = test.ids
			for range 10 {
				w.add()
				other.add()
			}
			waitFor(t, "the messages after", func() bool {
				if w.ids != "" && !strings.Contains(connected.all(), "gap") {
					w.add() // what nobody can tell from old messages may belong to the gap
				}
				return strings.HasSuffix(connected.all(), foreignText(w.n-1)) && strings.HasSuffix(bystander.all(), foreignText(19))
			})
			rest := strings.TrimPrefix(connected.all(), before+" ")
			if said := strings.HasPrefix(rest, "gap "); said != test.gap {
				t.Errorf("after the first messages the reader got %s", rest)
			}
			if !test.gap && rest != foreignTexts(10, 20) {
				t.Errorf("after the first messages the reader got %s", rest)
			}
			if bystander.all() != foreignTexts(0, 20) {
				t.Errorf("the reader of another topic got %s", bystander.all())
			}
		})
	}
}

// TestXReadByItself has no hub, which would look at topics by itself now and then.
func TestXReadByItself(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := newRig(t, s.addr, Options{Follow: FollowXRead})
	again, _, _ := mustFollow(t, r, "again")
	wrong, _, _ := mustFollow(t, r, "wrong")
	bystander, _, _ := mustFollow(t, r, "bystander")
	for _, topic := range []string{"again", "wrong", "bystander"} {
		mustPublish(t, r, topic, "first")
	}
	for _, rec := range []*recorder{again, wrong, bystander} {
		waitFor(t, "the first message", func() bool { return rec.has("first") })
	}
	s.Set(t.Context(), r.keys.stream("wrong"), "x", 0)
	// XREAD asks for the type of a key only when it begins.
	waitFor(t, "Broken", func() bool {
		mustPublish(t, r, "bystander", "x")
		wrong.mu.Lock()
		defer wrong.mu.Unlock()
		return len(wrong.broken) > 0
	})
	s.Del(t.Context(), r.keys.stream("again"))
	(&writer{t: t, to: s.Client, key: r.keys.stream("again"), ids: "5-*"}).add()
	waitFor(t, "an entry with a lower ID", func() bool { return again.has(foreignText(0)) })
	again.mu.Lock()
	if again.restored == 0 {
		t.Error("a stream that began again was not said to be a gap")
	}
	again.mu.Unlock()
	bystander.mu.Lock()
	if len(bystander.broken) > 0 {
		t.Errorf("another topic's failure is said of this one: %v", bystander.broken)
	}
	bystander.mu.Unlock()
	s.Del(t.Context(), r.keys.stream("wrong"))
	mustPublish(t, r, "wrong", "back")
	waitFor(t, "a message after the failure", func() bool { return wrong.has("back") })
}

// TestXReadTrimmedBetweenReads keeps so few entries that a reader that is held up misses some: what
// it got and what it was told are all there was.
func TestXReadTrimmedBetweenReads(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{Follow: FollowXRead})
	a := attend(t, newHub(t, r.Backend), "t", hub.Latest())
	w := &writer{t: t, to: s.Client, key: r.keys.stream("t")}
	for range 5 {
		for range 400 {
			w.add("maxlen", "3")
		}
		waitFor(t, "the last message", func() bool { return strings.HasSuffix(a.all(), foreignText(w.n-1)) })
	}
	next := 0
	gap := false
	for text := range strings.FieldsSeq(a.all()) {
		if text == "gap" {
			gap = true
			continue
		}
		for ; gap && text != foreignText(next) && next < w.n; next++ {
		}
		if text != foreignText(next) {
			t.Fatalf("%s came where %s was due, and no gap was said", text, foreignText(next))
		}
		next++
		gap = false
	}
	if next != w.n {
		t.Errorf("the last message is the %dth, want %d", next, w.n)
	}
}

// TestXReadManyTopics follows more topics than one reader takes, and changes them while it reads.
func TestXReadManyTopics(t *testing.T) {
	s := startServer(t)
	r := newRig(t, s.addr, Options{Follow: FollowXRead})
	const topics = 2*streamsAtOnce + 10
	var wg sync.WaitGroup
	recs, stops := make([]*recorder, topics), make([]func(), topics)
	for i := range topics {
		wg.Go(func() {
			recs[i] = &recorder{}
			var err error
			if _, stops[i], err = r.Follow(t.Context(), "t"+itoa(i), recs[i]); err != nil {
				t.Errorf("Follow: %v", err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if n := len(readers(r)); n != 3 {
		t.Errorf("%d readers for %d topics", n, topics)
	}
	for _, n := range readers(r) {
		if n > streamsAtOnce {
			t.Errorf("a reader has %d streams", n)
		}
	}
	for i := range topics {
		if err := s.XAdd(t.Context(), &redis.XAddArgs{Stream: r.keys.stream("t" + itoa(i)), Values: []any{"n", i}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, rec := range recs {
		waitFor(t, "a message", func() bool { return rec.has(foreignText(i)) })
	}
	waitFor(t, "three connections that wait", func() bool { return blockedReads(t, s) == 3 })
	s.freeze()
	began := time.Now()
	for _, stop := range stops {
		stop()
	}
	// Each of them would wait for seconds if it waited for Redis.
	if d := time.Since(began); d > time.Minute {
		t.Errorf("%d stops while Redis was frozen took %v", topics, d)
	}
	s.thaw()
	waitFor(t, "the end of the readers", func() bool { return len(readers(r)) == 0 && blockedReads(t, s) == 0 })
}

// blockedReads counts the connections that wait in XREAD. Others may have it as their last command:
// Follow asks once without waiting.
func blockedReads(t *testing.T, s *server) (n int) {
	for line := range strings.Lines(s.ClientList(t.Context()).Val()) {
		if strings.Contains(line, " flags=b ") && strings.Contains(line, " cmd=xread ") {
			n++
		}
	}
	return n
}

// readers returns how many streams each reader has.
func readers(r *rig) (list []int) {
	r.xreaders.mu.Lock()
	defer r.xreaders.mu.Unlock()
	for x := range r.xreaders.readers {
		list = append(list, len(x.follows))
	}
	return list
}

// hasty is a hook by which XREAD returns at once, with nothing.
type hasty struct{ polls atomic.Int64 }

// DialHook implements redis.Hook.
func (*hasty) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h *hasty) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "xread" {
			return next(ctx, cmd)
		}
		h.polls.Add(1)
		cmd.SetErr(redis.Nil)
		return redis.Nil
	}
}

// ProcessPipelineHook implements redis.Hook.
func (*hasty) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestXReadDoesNotSpin answers every XREAD at once with nothing, as some servers do after the
// newest entry was deleted.
func TestXReadDoesNotSpin(t *testing.T) {
	t.Parallel()
	r := newRig(t, startMini(t).Addr(), Options{Follow: FollowXRead})
	h := &hasty{}
	open := r.xreaders.open
	r.xreaders.open = func(stream string) (*redis.Client, error) {
		c, err := open(stream)
		c.AddHook(h)
		return c, err
	}
	rec, _, _ := mustFollow(t, r, "t")
	began := time.Now()
	mustPublish(t, r, "t", "x")
	waitFor(t, "a message, by looking now and then", func() bool { return rec.has("x") })
	if n, most := h.polls.Load(), int64(time.Since(began)/leastCycle)+2; n > most {
		t.Errorf("%d calls in %v, want at most %d", n, time.Since(began), most)
	}
}

// TestXReadCallsWhileDown counts how often a server that is gone is called for 600 topics, and how
// fast they are back.
func TestXReadCallsWhileDown(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--appendonly", "yes")
	r := newRig(t, s.addr, Options{Follow: FollowXRead})
	recs := make([]*recorder, 600)
	for i := range recs {
		recs[i], _, _ = mustFollow(t, r, "t"+itoa(i))
	}
	s.program.Kill()
	for _, rec := range recs {
		waitFor(t, "Broken", func() bool { rec.mu.Lock(); defer rec.mu.Unlock(); return len(rec.broken) == 1 })
	}
	calls := func() int64 { return r.gate.dials.Load() + r.gate.sent.Load() }
	counting, before := time.Now(), calls()
	const span = 3 * time.Second
	timer := time.NewTimer(span)
	<-timer.C
	if n, took := calls()-before, time.Since(counting); n > int64(50*took.Seconds()) {
		t.Errorf("%d calls in %v", n, took)
	}
	s.program.Start()
	began := time.Now()
	var wg sync.WaitGroup
	for i := range recs {
		wg.Go(func() {
			if _, err := r.Publish(t.Context(), "t"+itoa(i), hub.Message{Data: []byte("back")}); err != nil {
				t.Errorf("Publish: %v", err)
			}
		})
	}
	wg.Wait()
	for _, rec := range recs {
		waitFor(t, "a message", func() bool { return rec.has("back") })
	}
	t.Logf("recovery took %v", time.Since(began))
}

// TestXReadRights follows as a user with the rights that the package's documentation names, and as
// one who may do everything but XREAD.
func TestXReadRights(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	rights := "on >pw ~headrace:* &headrace:* +eval +evalsha +exists +pexpire +time +xadd +xtrim +xrange +xrevrange +xinfo +publish +ping +xread" +
		" +hget +hmget +hset +hlen +rename +get +set +unlink +xdel +zadd +zremrangebyrank +xlen +pttl +zscore +persist"
	for user, words := range map[string]string{"narrow": rights, "denied": "on >pw ~* &* +@all -xread"} {
		args := []any{"ACL", "SETUSER", user}
		for word := range strings.FieldsSeq(words) {
			args = append(args, word)
		}
		if err := s.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	open := func(user string) hub.Backend {
		t.Helper()
		b, err := backends.Open(ctx, "redis://"+user+":pw@"+s.addr+"?follow=xread")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	narrow := open("narrow")
	for i := range 5 {
		rec, _, _ := mustFollow(t, narrow, "t"+itoa(i))
		mustPublish(t, narrow, "t"+itoa(i), "x")
		waitFor(t, "a message", func() bool { return rec.has("x") })
	}
	wholeLife(t, narrow)
	if _, _, err := open("denied").Follow(ctx, "t", &recorder{}); !errors.Is(err, ErrDenied) {
		t.Errorf("Follow: %v, want ErrDenied", err)
	}
}
