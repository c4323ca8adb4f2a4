package backendtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/headrace/headrace/hub"
)

func batchesAreAtomic(s *suite) {
	if !s.traits.Atomic {
		s.Skip("Traits.Atomic is false")
	}
	batchesStayTogether(s)
	batchesAreContent(s)
	batchesAreWhole(s)
	if s.traits.Keys == hub.KeysStored {
		batchesHonourKeys(s)
	}
}

// batchesStayTogether publishes batches and single messages at once: what is seen of each batch is
// a run of its messages in their order.
func batchesStayTogether(s *suite) {
	const batches, size = 40, 5
	topic := s.topic()
	var rs []*recorder
	for _, b := range s.instances {
		r, _ := s.follow(b, topic)
		rs = append(rs, r)
	}
	all := make([][]hub.ID, batches)
	errs := make([]error, batches)
	single := s.startPublishers(topic, 2, batches)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := g; n < batches; n += 4 {
				ms := make([]hub.Message, size)
				for i := range ms {
					ms[i] = text("batch %d message %d %s", n, i, strings.Repeat(".", i*n))
				}
				all[n], errs[n] = s.instance(n).PublishAll(s.ctx, topic, ms)
			}
		})
	}
	s.bounded("a run of publishers of batches", wg.Wait)
	single.wait(s)
	if err := errors.Join(errs...); err != nil {
		s.Fatalf("PublishAll: %v", err)
	}
	together := func(who string, got []hub.ID) {
		s.Helper()
		for _, batch := range all {
			i := slices.Index(got, batch[0])
			if i < 0 || i+size > len(got) || !slices.Equal(got[i:i+size], batch) {
				s.Fatalf("%s has a batch not as it was published, %q; all: %s", who, batch, list(got))
			}
		}
	}
	for _, r := range rs {
		s.until(r, "all messages", func(r *recorder) bool { return len(r.messages) >= batches*(size+2) })
		if s.traits.Ordered {
			together("a follower", ids(r.got()))
		}
	}
	if !s.traits.Replay {
		return
	}
	for _, b := range s.instances {
		ms, _ := s.readAll(b, topic, "")
		together("Read", ids(ms))
	}
}

// batchesAreContent looks at what P3, P6 and F8 say of single messages.
func batchesAreContent(s *suite) {
	for i, b := range s.instances {
		topic := s.topic()
		r, tail := s.follow(s.instance(i+1), topic)
		batch := func() []hub.Message {
			return []hub.Message{
				{Type: "one", Data: []byte("a\r\nb"), Headers: map[string]string{"h": "v"}},
				{Type: "two", Data: []byte("\x00\xff"), Binary: true},
				{Data: nil},
				{Type: "close", Final: true},
			}
		}
		ms, want := batch(), batch()
		published := s.publishAll(b, topic, ms...)
		copy(ms[0].Data, "!!!!")
		ms[0].Headers["h"] = "overwritten"
		live := s.delivered(r, published...)
		if s.traits.Replay {
			s.exactly(s.instance(i+1), topic, tail, published...)
			read, _ := s.readAll(b, topic, "")
			live = append(live, read...)
		}
		for _, m := range live {
			n := slices.Index(published, m.ID)
			if n < 0 {
				s.Fatalf("message %q is in no batch: %q", m.ID, published)
			}
			s.same("a message of a batch", m, want[n])
		}
		if s.traits.Chained {
			for n, m := range r.got() {
				if m.Prev != tail {
					s.Fatalf("message %d of a batch has Prev %q, want %q", n, m.Prev, tail)
				}
				tail = m.ID
			}
		}
	}
}

// batchesAreWhole cuts batches off wherever that can be.
func batchesAreWhole(s *suite) {
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	const size = 4
	outcomes := make(map[string]error)
	try := func(ctx context.Context, name string) {
		s.Helper()
		ms := make([]hub.Message, size)
		for i := range ms {
			ms[i] = hub.Message{Type: name, Data: []byte{byte('0' + i)}}
		}
		s.bounded("PublishAll", func() { _, outcomes[name] = s.b.PublishAll(ctx, topic, ms) })
	}
	done, cancel := context.WithCancel(s.ctx)
	cancel()
	try(done, "done")
	if err := outcomes["done"]; !errors.Is(err, hub.ErrRejected) {
		s.Fatalf("PublishAll under a context that is done: %v, want ErrRejected", err)
	}
	for looks := range 25 {
		ctx := newCountdown(s.ctx, looks)
		try(ctx, strings.Repeat("look", looks+1))
		ctx.end()
	}
	for i := range 25 {
		ctx, cancel := context.WithCancel(s.ctx)
		go cancel()
		try(ctx, strings.Repeat("beside", i+1))
		cancel()
	}
	fence := s.fence(s.b, topic, r)
	whole := func(who string, ms []hub.Message) {
		s.Helper()
		count := make(map[string]int)
		for _, m := range ms {
			count[m.Type]++
		}
		for name, err := range outcomes {
			n := count[name]
			switch {
			case n != 0 && n != size:
				s.Fatalf("%s: %d of a batch's %d messages", who, n, size)
			case err == nil && n == 0:
				s.Fatalf("%s: none of a batch's messages, and PublishAll returned no error", who)
			case errors.Is(err, hub.ErrRejected) && n != 0:
				s.Fatalf("%s: the messages of a batch, and PublishAll said: %v", who, err)
			}
		}
	}
	// A batch that was cut off may be appended behind the fence, and be on its way now.
	live := s.delivered(r, fence)
	end := slices.IndexFunc(live, func(m hub.Message) bool { return m.ID == fence })
	whole("delivered", live[:end+1])
	if s.traits.Replay {
		ms, _ := s.readAll(s.b, topic, "")
		whole("read", ms)
	}
}

func batchesHonourKeys(s *suite) {
	keyed := func(key, data string) hub.Message { return hub.Message{Key: key, Data: []byte(data)} }
	for i, b := range s.instances {
		topic := s.topic()
		r, _ := s.follow(b, topic)
		known := s.publish(s.instance(i+1), topic, keyed("known", "first"))
		got := s.publishAll(b, topic, keyed("new", "a"), keyed("known", "left out"), text("b"), keyed("new", "left out"))
		if got[1] != known || got[3] != got[0] {
			s.Fatalf("PublishAll with known keys returned %q, want %q second, and the first one's fourth", got, known)
		}
		again := s.publishAll(s.instance(i+1), topic, keyed("new", "left out"), keyed("known", "left out"))
		if !slices.Equal(again, []hub.ID{got[0], known}) {
			s.Fatalf("PublishAll with known keys only returned %q, want %q and %q", again, got[0], known)
		}
		want := []hub.ID{known, got[0], got[2], s.fence(b, topic, r)}
		if live := ids(r.got()); !slices.Equal(live, want) {
			s.Fatalf("delivered: %s, want %s", list(live), list(want))
		}
		if s.traits.Replay {
			s.exactly(b, topic, "", want...)
		}
	}
}

func endsAreEnds(s *suite) {
	if !s.traits.Ends {
		s.Skip("Traits.Ends is false")
	}
	for i, b := range s.instances {
		endOfTopic(s, b, s.instance(i+1))
	}
	endAmongPublishers(s)
}

func refusesEnded(s *suite, what string, f func() error) {
	s.Helper()
	var err error
	s.bounded(what, func() { err = f() })
	if !errors.Is(err, hub.ErrRejected) || !errors.Is(err, hub.ErrEnded) {
		s.Fatalf("%s to a topic that is finished: %v, want ErrRejected and ErrEnded", what, err)
	}
}

func endOfTopic(s *suite, b, other hub.Backend) {
	topic := s.topic()
	final := hub.Message{Type: "close", Final: true}
	keyed := text("keyed")
	if s.traits.Keys == hub.KeysStored {
		keyed.Key = "key"
	}
	r, _ := s.follow(other, topic)
	first := s.publish(b, topic, keyed)
	var end hub.ID
	want := []hub.ID{first}
	if s.traits.Atomic {
		got := s.publishAll(b, topic, text("the last"), final)
		want, end = append(want, got...), got[1]
	} else {
		end = s.publish(b, topic, final)
		want = append(want, end)
	}
	for _, on := range []hub.Backend{b, other} {
		refusesEnded(s, "Publish", func() error {
			_, err := on.Publish(s.ctx, topic, text("behind the end"))
			return err
		})
		if id := s.publish(on, topic, final); id != end {
			s.Fatalf("the topic ended at %q, and once more at %q", end, id)
		}
		if keyed.Key != "" {
			if id := s.publish(on, topic, keyed); id != first {
				s.Fatalf("Publish with a known key to a topic that is finished returned %q, want %q", id, first)
			}
		}
		if !s.traits.Atomic {
			continue
		}
		refusesEnded(s, "PublishAll", func() error {
			_, err := on.PublishAll(s.ctx, topic, []hub.Message{text("a"), text("b")})
			return err
		})
		if got := s.publishAll(on, topic, text("not any more"), final); got[1] != end {
			s.Fatalf("the topic ended at %q, and with a batch at %q", end, got[1])
		}
	}
	if s.traits.Deletes && s.traits.Replay {
		s.delivered(r, want...)
		s.erase(b, topic, first)
		s.until(r, "the entry of an erasure", func(r *recorder) bool { return r.messages[len(r.messages)-1].Erases == first })
		want = append(want, r.got()[len(want)].ID)
		refusesEnded(s, "Publish, behind an erasure,", func() error {
			_, err := other.Publish(s.ctx, topic, text("behind the end"))
			return err
		})
	}
	// Who means it goes on, and then the topic is not finished any more.
	late := text("meant")
	late.AfterEnd = true
	want = append(want, s.publish(other, topic, late), s.publish(b, topic, text("goes on")))
	again := s.publish(other, topic, final)
	if again == end {
		s.Fatal("the end of a topic that went on has the ID of its first end")
	}
	want = append(want, again)
	if live := ids(s.delivered(r, again)); !slices.Equal(live, want) {
		s.Fatalf("delivered: %s, want %s", list(live), list(want))
	}
	if s.traits.Replay {
		ms, _ := s.readAll(other, topic, "")
		for _, id := range want {
			if _, ok := find(ms, id); !ok && id != first {
				s.Fatalf("read: %s, want %s", list(ids(ms)), list(want))
			}
		}
	}
}

// endAmongPublishers ends a topic while others publish to it.
func endAmongPublishers(s *suite) {
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	errs := make([]error, 4)
	var ended atomic.Bool
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			for n, was := 0, false; errs[g] == nil && !was; n++ {
				was = ended.Load()
				_, errs[g] = s.instance(g+n).Publish(s.ctx, topic, text("publisher %d message %d", g, n))
			}
		})
	}
	s.until(r, "messages of running publishers", func(r *recorder) bool { return len(r.messages) >= 20 })
	end := s.publish(s.instance(1), topic, hub.Message{Type: "close", Final: true})
	ended.Store(true)
	s.bounded("a run of publishers to a topic that ended", wg.Wait)
	for _, err := range errs {
		if !errors.Is(err, hub.ErrEnded) {
			s.Fatalf("Publish to a topic that ended: %v, want ErrEnded", err)
		}
	}
	last := func(who string, ms []hub.Message) {
		s.Helper()
		if n := len(ms); n == 0 || ms[n-1].ID != end {
			s.Fatalf("%s: the topic ended at %q, the last of %d messages is another one", who, end, n)
		}
	}
	s.delivered(r, end)
	// What may be on its way behind the end would come before this.
	fence, _ := s.follow(s.b, topic)
	m := text("meant")
	m.AfterEnd = true
	behind := s.publish(s.b, topic, m)
	s.delivered(fence, behind)
	ms := s.delivered(r, behind)
	if s.traits.Ordered {
		last("delivered", ms[:len(ms)-1])
	}
	if s.traits.Replay {
		for _, b := range s.instances {
			if ms, _ := s.readAll(b, topic, end); len(ms) != 1 || ms[0].ID != behind {
				s.Fatalf("Read after the end: %s, want %q", list(ids(ms)), behind)
			}
		}
	}
}
