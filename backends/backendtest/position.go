package backendtest

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/headrace/headrace/hub"
)

func infoIsOfRetained(s *suite) {
	s.needReplay()
	is := func(when, topic string, want hub.Info) {
		s.Helper()
		for _, b := range s.instances {
			got := s.info(b, topic)
			if !got.Expires.IsZero() && !got.Expires.After(time.Now().Add(-5*time.Minute)) { // clocks may differ
				s.Fatalf("%s: Info says that the topic expired at %v", when, got.Expires)
			}
			got.Expires = time.Time{}
			if got != want {
				s.Fatalf("%s: Info is %+v, want %+v", when, got, want)
			}
		}
	}
	topic := s.topic()
	is("a topic that never existed", topic, hub.Info{})
	s.follow(s.b, topic)
	is("a topic that is followed only", topic, hub.Info{})
	first := s.publish(s.b, topic, text("first"))
	is("a topic with one message", topic, hub.Info{Exists: true, Oldest: first, Newest: first})
	second := s.publish(s.instance(1), topic, text("second"))
	is("a topic with two messages", topic, hub.Info{Exists: true, Oldest: first, Newest: second})
	end := s.publish(s.b, topic, hub.Message{Type: "close", Final: true})
	is("a topic that is finished", topic, hub.Info{Exists: true, Oldest: first, Newest: end, Finished: true})
	if s.traits.Deletes {
		s.erase(s.b, topic, first)
		is("a topic whose oldest message was erased", topic, hub.Info{Exists: true, Oldest: second, Newest: end, Finished: true})
	}
	late := text("meant")
	late.AfterEnd = true
	newest := s.publish(s.b, topic, late)
	for _, b := range s.instances {
		if info := s.info(b, topic); info.Finished || info.Newest != newest {
			s.Fatalf("a topic that went on behind its end: Info is %+v, want %q as the newest, and not finished", info, newest)
		}
	}
	if s.traits.Deletes {
		s.delete(s.b, topic)
		is("a topic that was deleted", topic, hub.Info{})
		again := s.publish(s.b, topic, text("again"))
		is("a topic that began anew", topic, hub.Info{Exists: true, Oldest: again, Newest: again})
		s.erase(s.b, topic, again)
		is("a topic whose messages were erased", topic, hub.Info{})
	}
	if s.c.Trim == nil {
		s.Log("Config.Trim is not set: not tested after removal")
		return
	}
	topic = s.topic()
	s.publishN(s.b, topic, 3)
	s.trim(topic)
	want := hub.Info{}
	if ms, _ := s.readAll(s.b, topic, ""); len(ms) > 0 {
		want = hub.Info{Exists: true, Oldest: ms[0].ID, Newest: ms[len(ms)-1].ID}
	}
	is("a topic whose messages were removed", topic, want)
}

func seekFindsPositions(s *suite) {
	s.needReplay()
	const size = 1000
	topic := s.topic()
	r, _ := s.follow(s.b, topic)
	// finds ends the test unless what is read from the position are these messages.
	finds := func(topic string, what hub.Seek, want ...hub.ID) {
		s.Helper()
		for _, b := range s.instances {
			id := s.seek(b, topic, what)
			if ms, gap := s.readAll(b, topic, id); gap || !slices.Equal(ids(ms), want) {
				s.Fatalf("Seek of %+v is %q: Read after it: %s (gap: %v), want %s", what, id, list(ids(ms)), gap, list(want))
			}
		}
	}
	empty := s.topic()
	finds(empty, hub.Seek{Messages: 3})
	finds(empty, hub.Seek{Since: time.Now().Add(-time.Hour)})

	var all []hub.ID
	for range 20 {
		all = append(all, s.publish(s.b, topic, hub.Message{Data: bytes.Repeat([]byte("x"), size)}))
	}
	for _, n := range []int{1, 2, 19, 20, 21, 5000} {
		finds(topic, hub.Seek{Messages: n}, all[max(0, 20-n):]...)
	}
	for _, what := range []hub.Seek{{Messages: 20}, {Bytes: 1 << 30}, {Since: time.Unix(1, 0)}, {Messages: 50, Since: time.Unix(1, 0)}} {
		for _, b := range s.instances {
			if id := s.seek(b, topic, what); id != "" {
				s.Fatalf("Seek of %+v is %q, want \"\": the oldest message is among them", what, id)
			}
		}
	}
	finds(topic, hub.Seek{Bytes: 1}, all[19])
	finds(topic, hub.Seek{Messages: 3, Bytes: 1 << 30}, all[17:]...)
	finds(topic, hub.Seek{Messages: 10, Bytes: 1}, all[19])
	for _, b := range s.instances {
		ms, gap := s.readAll(b, topic, s.seek(b, topic, hub.Seek{Bytes: 10 * size}))
		if n := len(ms); gap || n < 8 || n > 11 || !suffix(ids(ms), all) {
			s.Fatalf("Seek of %d bytes: %d messages of %d bytes (gap: %v), want about 10", 10*size, n, size, gap)
		}
	}
	sinceFinds(s, topic, s.delivered(r, all...))
	if !s.traits.Deletes {
		return
	}
	entry := erased(s, s.b, topic, all[19], r)
	finds(topic, hub.Seek{Messages: 1}, all[18], entry)
	finds(topic, hub.Seek{Messages: 2}, all[17], all[18], entry)
	s.delete(s.b, topic)
	begin := begun(s, r, 0)
	finds(topic, hub.Seek{Messages: 2}, begin)
	finds(topic, hub.Seek{Messages: 1}, begin)
}

// sinceFinds seeks by the times of messages, which may be equal.
func sinceFinds(s *suite, topic string, ms []hub.Message) {
	for _, b := range s.instances {
		for _, since := range []time.Time{ms[0].Time, ms[len(ms)/2].Time, ms[len(ms)-1].Time} {
			i := slices.IndexFunc(ms, func(m hub.Message) bool { return !m.Time.Before(since) })
			got, gap := s.readAll(b, topic, s.seek(b, topic, hub.Seek{Since: since}))
			if want := ids(ms[i:]); gap || !slices.Equal(ids(got), want) {
				s.Fatalf("Seek since %v: %s (gap: %v), want %s", since, list(ids(got)), gap, list(want))
			}
		}
		id := s.seek(b, topic, hub.Seek{Since: ms[len(ms)-1].Time.Add(time.Hour)})
		s.exactly(b, topic, id)
	}
}

func pingSaysReady(s *suite) {
	for _, b := range s.instances {
		s.succeeds("Ping", func() error { return b.Ping(s.ctx) })
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	var err error
	s.bounded("Ping under a context that is done", func() { err = s.b.Ping(ctx) })
	if err == nil {
		s.Fatal("Ping under a context that is done: nil")
	}
	if s.c.Outage == nil {
		s.Log("Config.Outage is not set: Ping is not tested while the store is unreachable")
	} else {
		restore := s.c.Outage(s.TB, s.b)
		ctx, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
		s.bounded("Ping while the store is unreachable", func() { err = s.b.Ping(ctx) })
		cancel()
		restore()
		// What has no store to ask may not know yet.
		if err == nil && s.traits.Replay {
			s.Fatal("Ping while the store is unreachable: nil")
		}
		s.reachable(s.topic())
		s.succeeds("Ping when the store is reachable again", func() error { return s.b.Ping(s.ctx) })
	}
	s.bounded("Close", func() { _ = s.b.Close() })
	s.bounded("Ping after Close", func() { err = s.b.Ping(s.ctx) })
	if err == nil {
		s.Fatal("Ping after Close: nil")
	}
}
