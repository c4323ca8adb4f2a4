package backendtest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headrace/headrace/hub"
)

func nilMeansAppended(s *suite) {
	for i, b := range s.instances {
		// Read and followers are looked at apart: neither may depend on the other having asked
		// first.
		for _, data := range [][]byte{[]byte("text"), []byte("0"), {}, nil} {
			topic := s.topic()
			before, _ := s.follow(s.b, topic)
			r, _ := s.follow(s.instance(i+1), topic)
			id := s.publish(b, topic, hub.Message{Type: "note", Data: data})
			if id == "" {
				s.Fatal("Publish returned neither an ID nor an error")
			}
			s.delivered(before, id)
			s.delivered(r, id)
			if !s.traits.Replay {
				continue
			}
			topic = s.topic()
			id = s.publish(b, topic, hub.Message{Type: "note", Data: data})
			for _, reader := range s.instances {
				if ms, _ := s.readAll(reader, topic, ""); !slices.Equal(ids(ms), []hub.ID{id}) {
					s.Fatalf("Read after Publish of %q returned %q: %s", data, id, list(ids(ms)))
				}
			}
		}
	}
}

func idsAreUnique(s *suite) {
	topic := s.topic()
	var rs []*recorder
	for _, b := range s.instances {
		r, _ := s.follow(b, topic)
		rs = append(rs, r)
	}
	published := s.startPublishers(topic, 8, 20).wait(s)
	former := make(map[hub.ID]bool)
	for text, id := range published {
		switch {
		case !id.Valid():
			s.Fatalf("Publish returned %q, which is no valid ID", id)
		case former[id]:
			s.Fatalf("the ID %q, that of %q, was given before", id, text)
		}
		former[id] = true
	}
	same := func(who string, ms []hub.Message) {
		s.Helper()
		for _, m := range ms {
			if want := published[string(m.Data)]; m.ID != want {
				s.Fatalf("%s has %q under the ID %q, Publish returned %q", who, m.Data, m.ID, want)
			}
		}
	}
	for _, r := range rs {
		s.until(r, "all messages", func(r *recorder) bool { return len(r.messages) >= len(published) })
		same("a follower", r.got())
	}
	if s.traits.Replay {
		for _, b := range s.instances {
			ms, _ := s.readAll(b, topic, "")
			same("Read", ms)
		}
	}
	if s.c.Trim != nil {
		s.trim(topic)
		for range 20 {
			id := s.publish(s.b, topic, text("after"))
			if former[id] {
				s.Fatalf("the ID %q was given before, to a message that is removed now", id)
			}
			former[id] = true
		}
	}
}

func contentIsKept(s *suite) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, want := range []hub.Message{
		{Data: []byte("no type")},
		{Type: "empty"},
		{Type: "empty", Data: []byte{}},
		{Type: "größe/单位 1.0", Data: []byte("Ω ü 单 \U0001f30a")},
		{Type: "lines", Data: []byte("\r\n\n a\r\rb\n")},
		{Type: "controls", Data: []byte("\x00\x01\x7f\ufeff")},
		{Type: "digits", Data: []byte("007")},
		{Type: "binary", Data: every, Binary: true},
		{Type: "binary", Data: []byte("text"), Binary: true},
		{Type: "empty binary", Binary: true},
		{Type: "headers", Data: []byte("x"), Headers: map[string]string{"a": "1", "A": "2", "empty": "", "type": "t", "traceparent": "00-1", "ü": "a\r\nb=c&d"}},
		{Type: strings.Repeat("t", 255), Data: []byte("long type")},
		{Type: "large", Data: bytes.Repeat([]byte("0123456789abcdef"), 16<<10)},
		{Type: "close", Data: []byte(`{"reason":"done"}`), Final: true},
	} {
		topic := s.topic()
		r, _ := s.follow(s.instance(1), topic)
		id := s.publish(s.b, topic, want)
		live, _ := find(s.delivered(r, id), id)
		s.same("delivered", live, want)
		// The clocks of two machines may differ, but not by much more than this.
		if off := time.Since(live.Time).Abs(); off > 5*time.Minute {
			s.Fatalf("Time is %v, %v off: want the time of appending", live.Time, off)
		}
		if !s.traits.Replay {
			continue
		}
		for _, b := range s.instances {
			ms, _ := s.readAll(b, topic, "")
			read, ok := find(ms, id)
			if !ok {
				s.Fatalf("Read: message %q is missing", id)
			}
			s.same("read", read, want)
			if !read.Time.Equal(live.Time) {
				s.Fatalf("Time is %v when delivered and %v when read", live.Time, read.Time)
			}
		}
	}
}

func publishOrder(s *suite) {
	if !s.traits.Ordered {
		s.Skip("Traits.Ordered is false")
	}
	topic := s.topic()
	var rs []*recorder
	for _, b := range s.instances {
		r, _ := s.follow(b, topic)
		rs = append(rs, r)
	}
	var want []hub.ID
	for i := range 100 {
		// Sizes differ, so that a path of its own for small or large messages shows.
		m := text("message %d %s", i, strings.Repeat(".", i%7*300))
		want = append(want, s.publish(s.instance(i), topic, m))
	}
	for _, r := range rs {
		s.until(r, "all messages", func(r *recorder) bool { return len(r.messages) >= len(want) })
		if got := ids(r.got()); !slices.Equal(got, want) {
			s.Fatalf("delivered: %s, published: %s", list(got), list(want))
		}
	}
	if !s.traits.Replay {
		return
	}
	for _, b := range s.instances {
		ms, _ := s.readAll(b, topic, "")
		if got := ids(ms); !slices.Equal(got, want) {
			s.Fatalf("read: %s, published: %s", list(got), list(want))
		}
	}
}

func rejectedMeansAbsent(s *suite) {
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	rejected := make(map[string]error)
	try := func(ctx context.Context, m hub.Message) {
		s.Helper()
		var err error
		s.bounded("Publish", func() { _, err = s.b.Publish(ctx, topic, m) })
		if errors.Is(err, hub.ErrRejected) {
			rejected[string(m.Data)] = err
		}
	}
	// A context that ends at the first, second, … time that it is looked at, so that a Publish is
	// cut off wherever it can be.
	for looks := range 25 {
		ctx := newCountdown(s.ctx, looks)
		try(ctx, text("cut off at look %d", looks))
		ctx.end()
	}
	for i := range 50 {
		ctx, cancel := context.WithCancel(s.ctx)
		go cancel()
		try(ctx, text("cancelled beside, %d", i))
		cancel()
	}
	if s.traits.Keys == hub.KeysNone {
		m := text("with a key")
		m.Key = "key"
		try(s.ctx, m)
	}
	var fence hub.ID
	if s.c.Outage == nil {
		s.Log("Config.Outage is not set: Publish is not tested while the store is unreachable")
		fence = s.fence(s.b, topic, r)
	} else {
		restore := s.c.Outage(s.TB, s.b)
		for i := range 3 {
			ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
			try(ctx, text("unreachable, %d", i))
			cancel()
		}
		restore()
		fence = s.reachable(topic)
	}
	ms := s.delivered(r, fence)
	if s.traits.Replay {
		read, _ := s.readAll(s.b, topic, "")
		ms = append(ms, read...)
	}
	for _, m := range ms {
		if err, ok := rejected[string(m.Data)]; ok {
			s.Fatalf("%q is there, and Publish said: %v", m.Data, err)
		}
	}
}

func publisherOwnsSlices(s *suite) {
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	const data, value = "as published", "as published too"
	want := hub.Message{Type: "note", Data: []byte(data), Headers: map[string]string{"h": value}}
	m := hub.Message{Type: "note", Data: []byte(data), Headers: map[string]string{"h": value}}
	id := s.publish(s.b, topic, m)
	s.same("the publisher's own message after Publish", m, want)
	copy(m.Data, "overwritten!")
	m.Headers["h"] = "overwritten"
	m.Headers["new"] = "added"
	again := s.fence(s.b, topic, r)
	live, _ := find(s.delivered(r, id, again), id)
	s.same("delivered", live, want)
	if s.traits.Replay {
		ms, _ := s.readAll(s.b, topic, "")
		read, _ := find(ms, id)
		s.same("read", read, want)
	}
}

func keysAreHonoured(s *suite) {
	topic, other := s.topic(), s.topic()
	keyed := func(key, data string) hub.Message { return hub.Message{Type: "note", Data: []byte(data), Key: key} }
	r, _ := s.follow(s.b, topic)

	if s.traits.Keys == hub.KeysNone {
		var err error
		s.bounded("Publish", func() { _, err = s.b.Publish(s.ctx, topic, keyed("key", "refused")) })
		if !errors.Is(err, hub.ErrRejected) {
			s.Fatalf("Publish with a key, Traits.Keys is none: %v, want ErrRejected", err)
		}
		return
	}

	first := s.publish(s.b, topic, keyed("key", "first"))
	for i := range 4 {
		if id := s.publish(s.instance(i), topic, keyed("key", "repeat")); id != first {
			s.Fatalf("Publish with a repeated key returned %q, want the first message's %q", id, first)
		}
	}
	if id := s.publish(s.b, topic, keyed("key2", "other key")); id == first {
		s.Fatal("Publish with another key returned the first message's ID")
	}
	s.publish(s.b, other, keyed("key", "other topic"))
	if s.traits.Keys != hub.KeysStored {
		return
	}

	// Of several that come at once, one is appended.
	same := make([]hub.ID, 16)
	errs := make([]error, len(same))
	var wg sync.WaitGroup
	for i := range same {
		wg.Go(func() { same[i], errs[i] = s.instance(i).Publish(s.ctx, topic, keyed("key3", "at once")) })
	}
	s.bounded("Publish", wg.Wait)
	for i, id := range same {
		if errs[i] != nil || id != same[0] {
			s.Fatalf("of several Publish with one key at once, one returned %q and another %q, %v", same[0], id, errs[i])
		}
	}

	fence := s.fence(s.b, topic, r)
	counts := func(who string, ms []hub.Message) {
		s.Helper()
		n := make(map[string]int)
		for _, m := range ms {
			n[string(m.Data)]++
		}
		if n["first"] != 1 || n["repeat"] != 0 || n["other key"] != 1 || n["at once"] != 1 {
			s.Fatalf("%s: %v, want one message for each key, the first", who, n)
		}
	}
	counts("delivered", s.delivered(r, fence))
	if s.traits.Replay {
		ms, _ := s.readAll(s.b, topic, "")
		counts("read", ms)
		if ms, _ := s.readAll(s.b, other, ""); len(ms) != 1 {
			s.Fatalf("a key that another topic knows: %d messages, want 1", len(ms))
		}
	}
	if s.c.Trim != nil {
		s.trim(topic)
		if id := s.publish(s.b, topic, keyed("key", "repeat")); id != first {
			s.Fatalf("Publish with the key of a message that is removed returned %q, want %q: the key window is not retention", id, first)
		}
	}
}

func doneContextIsRejected(s *suite) {
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	late, cancel := context.WithDeadline(s.ctx, time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{cancelled, late} {
		var err error
		s.bounded("Publish", func() { _, err = s.b.Publish(ctx, topic, text("too late")) })
		if !errors.Is(err, hub.ErrRejected) {
			s.Fatalf("Publish under a context with %v: %v, want ErrRejected", ctx.Err(), err)
		}
	}
	fence := s.fence(s.b, topic, r)
	if got := ids(s.delivered(r, fence)); len(got) != 1 {
		s.Fatalf("delivered: %s, want only %q", list(got), fence)
	}
	if s.traits.Replay {
		s.exactly(s.b, topic, "", fence)
	}
}
