package feed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/headrace/headrace/backends/memory"
	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/cursor"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// idOf returns the id of a block.
func idOf(block string) string {
	_, id, _ := strings.Cut(block, "\nid: ")
	return strings.TrimSpace(id)
}

// placesOf returns the places that a cursor has for topics.
func placesOf(t testing.TB, text string, topics ...string) (ids []hub.ID) {
	t.Helper()
	places, ok := cursor.New(topics).Parse(text)
	if !ok {
		t.Fatalf("%q is no vector", text)
	}
	for _, p := range places {
		ids = append(ids, p.ID)
	}
	return ids
}

func TestTopics(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	onEnd, end := ends()
	s := httptest.NewServer(Handler(Of(h, "a", "b", "a"), Options{Logger: quiet(), OnEnd: onEnd}))
	defer s.Close()
	c := connect(t, s.Client(), s.URL, "")
	start := c.primed(t)
	a := publish(t, h, "a", "a1")[0]
	block := c.block(t)
	equal(t, "first", block, event(idOf(block), "a1"))
	afterA := idOf(block)
	b := publish(t, h, "b", "b1\nb2")[0]
	block = c.block(t)
	equal(t, "second", block, "data: b1\ndata: b2\nid: "+idOf(block)+"\n\n")
	equal(t, "places", fmt.Sprint(placesOf(t, idOf(block), "a", "b")), fmt.Sprint([]hub.ID{hub.ID(a), hub.ID(b)}))
	c.leave()
	e := <-end
	equal(t, "topics", strings.Join(e.Topics, " "), "a b")
	equal(t, "events", e.Events, 2)

	c = connect(t, s.Client(), s.URL, afterA)
	again := c.block(t)
	equal(t, "after the first", again, prelude+"data: b1\ndata: b2\nid: "+idOf(block)+"\n\n")
	c.leave()
	c = connect(t, s.Client(), s.URL, start)
	equal(t, "after none", strings.Count(c.block(t)+c.block(t), "data: "), 3)
	c.leave()
}

// TestTopicsCursors: what a route makes of a cursor that was made for other topics, or for none.
func TestTopicsCursors(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	a := publish(t, h, "a", "a1", "a2")
	b := publish(t, h, "b", "b1", "b2")
	vector := func(topics []string, ids ...string) string {
		at := make([]hub.ID, len(ids))
		for i, id := range ids {
			at[i] = hub.ID(id)
		}
		return string(cursor.New(topics).Append(nil, at))
	}
	ab := []string{"a", "b"}
	for _, tc := range []struct {
		name   string
		topics []string
		cursor func() string
		want   func(s *follower)
	}{
		{"a topic that has joined begins at the start, and the client is told where that is", ab, func() string { return vector([]string{"a"}, a[0]) }, func(s *follower) {
			block := s.block(t)
			equal(t, "places", fmt.Sprint(placesOf(t, idOf(block), ab...)), fmt.Sprintf("[%s %s]", a[0], b[1]))
			equal(t, "checkpoint", block, checkpoint(idOf(block)))
			equal(t, "message", s.block(t), event(vector(ab, a[1], b[1]), "a2"))
		}},
		{"a topic that has left counts no more", []string{"b"}, func() string { return vector(ab, a[0], b[0]) }, func(s *follower) {
			equal(t, "message", s.block(t), prelude+event(b[1], "b2"))
		}},
		{"a vector of other topics is a gap", []string{"b"}, func() string { return vector([]string{"a"}, a[0]) }, func(s *follower) {
			equal(t, "gap", s.block(t), prelude+gapEvent)
			for !strings.Contains(s.block(t), "id: "+b[1]) { // all that is retained
			}
		}},
		{"a route that has grown says a gap once", ab, func() string { return a[0] }, func(s *follower) {
			equal(t, "gap", s.block(t), prelude+"event: gap\ndata: {}\nid: "+vector(ab, a[1], b[1])+"\n\n")
			id := publish(t, h, "a", "a3")[0]
			equal(t, "message", s.block(t), event(vector(ab, id, b[1]), "a3"))
		}},
		{"a forged vector", ab, func() string { return "v1.AAAA" }, func(s *follower) {
			block := s.block(t)
			equal(t, "gap", block, prelude+"event: gap\ndata: {}\nid: "+idOf(block)+"\n\n")
		}},
		{"topics that the route does not have", ab, func() string { return vector([]string{"secret", "a", "b"}, b[0], a[1], b[1]) }, func(s *follower) {
			publish(t, h, "secret", "s")
			id := publish(t, h, "b", "b3")[0]
			block := s.block(t)
			equal(t, "message", block, prelude+event(idOf(block), "b3"))
			equal(t, "place", placesOf(t, idOf(block), "b")[0], hub.ID(id))
		}},
		{"an ID that is nobody's", ab, func() string { return vector(ab, "nonsense", b[1]) }, func(s *follower) {
			equal(t, "gap", s.block(t), prelude+"event: gap\ndata: {}\nid: "+vector(ab, a[1], b[1])+"\n\n")
		}},
		{"an ID that is nobody's, and a topic that has joined", ab, func() string { return vector([]string{"a"}, "nonsense") }, func(s *follower) {
			equal(t, "gap", s.block(t), prelude+"event: gap\ndata: {}\nid: "+vector(ab, a[1], b[1])+"\n\n")
		}},
		{"a doubtful position is not forgotten before its gap is said", ab, func() string { return vector(ab, "not valid", "nonsense") }, func(s *follower) {
			block := s.block(t)
			equal(t, "the gap of b", block, prelude+"event: gap\ndata: {}\nid: "+idOf(block)+"\n\n")
			places, _ := cursor.New(ab).Parse(idOf(block))
			equal(t, "places", fmt.Sprint(places), fmt.Sprint([]cursor.Position{{State: cursor.Doubtful}, {ID: hub.ID(b[1]), State: cursor.Known}}))
			equal(t, "the gap of a", s.block(t), gapEvent)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := httptest.NewServer(Handler(Of(h, tc.topics...), Options{Logger: quiet()}))
			defer s.Close()
			c := connect(t, s.Client(), s.URL, tc.cursor())
			tc.want(c)
			c.leave()
			// What was published by the row is the next one's past.
			a, b = lastTwo(a, newest(t, h, "a")), lastTwo(b, newest(t, h, "b"))
		})
	}
}

func lastTwo(ids []string, last string) []string {
	if ids[1] == last {
		return ids
	}
	return []string{ids[1], last}
}

func newest(t testing.TB, h *hub.Hub, topic string) string {
	t.Helper()
	sub, err := h.Subscribe(t.Context(), topic, hub.Latest())
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	return string(sub.Start())
}

// TestTopicsFinish: one that is finished says nothing; close is said when all are, and then there
// is 204.
func TestTopicsFinish(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	s := httptest.NewServer(Handler(Of(h, "a", "b"), Options{Logger: quiet()}))
	defer s.Close()
	c := connect(t, s.Client(), s.URL, "")
	start := c.primed(t)
	finish(t, h, "a")
	publish(t, h, "b", "b1")
	block := c.block(t)
	equal(t, "message", block, event(idOf(block), "b1"))
	last := finish(t, h, "b")
	block = c.rest(t)
	equal(t, "close", block, "retry: N\nevent: close\ndata: \nid: "+idOf(block)+"\n\n")
	equal(t, "place", placesOf(t, idOf(block), "b")[0], hub.ID(last))
	equal(t, "afterwards", connect(t, s.Client(), s.URL, idOf(block)).StatusCode, 204)
	equal(t, "from the start", strings.Count(connect(t, s.Client(), s.URL, start).rest(t), "event: close"), 1)
}

// TestTopicsTooMany: a cursor that would be too long is refused at the start, not in mid-stream.
func TestTopicsTooMany(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	var topics []string
	for i := range 400 {
		topics = append(topics, fmt.Sprint("topic/", i))
	}
	f := Of(h, topics...)
	isCause(t, Serve(httptest.NewRecorder(), get("/"), f, Options{Logger: quiet()}), ErrTooManyTopics)
	isCause(t, Serve(httptest.NewRecorder(), get("/"), Feed{Hub: h}, Options{Logger: quiet()}), ErrFeed)
	isCause(t, Serve(httptest.NewRecorder(), get("/"), Of(h, "a", ""), Options{Logger: quiet()}), hub.ErrTopic)
	equal(t, "open", h.Stats().Subscriptions, 0)
}

// TestTopicsReconnect: with connections that are cut wherever it hurts, with and without filters
// and mappings, each topic's messages come once and in order.
func TestTopicsReconnect(t *testing.T) {
	for _, kind := range []string{"as they are", "filtered", "mapped"} {
		t.Run(kind, func(t *testing.T) {
			const each = 400
			h := newHub(t, memory.New(memory.Options{}), hub.Options{Window: 16})
			topics := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
			f := Of(h, topics...)
			if kind != "as they are" {
				f.Filter = func(_ string, m *hub.Message) bool { return len(m.Data)%3 != 0 }
			}
			if kind == "mapped" {
				f.Map = func(topic string, m *hub.Message) []sse.Event {
					return []sse.Event{{Type: "first", Data: topic}, {Type: m.Type, Data: m.Data}}
				}
			}
			s := httptest.NewServer(Handler(f, Options{Logger: quiet()}))
			defer s.Close()
			cursor := connectAndLeave(t, s)
			want := map[string][]string{}
			done := make(chan struct{})
			for _, topic := range topics {
				for i := range each {
					data := strings.Repeat(".", rand.IntN(5)) + fmt.Sprint(i)
					if f.Filter == nil || len(data)%3 != 0 {
						want[topic] = append(want[topic], data)
					}
				}
			}
			go func() {
				defer close(done)
				sent := map[string]int{}
				for range each * len(topics) {
					topic := topics[rand.IntN(len(topics))]
					if sent[topic] < len(want[topic]) {
						_, _ = h.Publish(t.Context(), topic, hub.Message{Type: topic, Data: []byte(want[topic][sent[topic]])})
						sent[topic]++
					}
				}
				for _, topic := range topics {
					for ; sent[topic] < len(want[topic]); sent[topic]++ {
						_, _ = h.Publish(t.Context(), topic, hub.Message{Type: topic, Data: []byte(want[topic][sent[topic]])})
					}
					_, _ = h.Publish(t.Context(), topic, hub.Message{Type: topic, Data: []byte("end" + strings.Repeat("!", 2))})
				}
			}()
			got := map[string][]string{}
			for ended := 0; ended < len(topics); {
				ended += readSome(t, s, &cursor, got, rand.IntN(60), len(topics)-ended)
			}
			<-done
			for _, topic := range topics {
				if strings.Join(got[topic], " ") != strings.Join(want[topic], " ") {
					t.Errorf("topic %s: got %d messages, want %d, or in another order", topic, len(got[topic]), len(want[topic]))
				}
			}
		})
	}
}

func connectAndLeave(t *testing.T, s *httptest.Server) (cursor string) {
	c := connect(t, s.Client(), s.URL, "")
	defer c.leave()
	return c.primed(t)
}

// readSome reads up to n events, or what is missing, and drops the connection. It returns how
// many topics have come to their end.
func readSome(t *testing.T, s *httptest.Server, cursor *string, got map[string][]string, n, missing int) (ended int) {
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	req.Header.Set("Last-Event-ID", *cursor)
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for e, err := range sse.Read(resp.Body) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "gap" {
			t.Fatal("a gap")
		}
		if e.Type != "first" && e.ID != "" {
			*cursor = e.ID
		}
		switch {
		case e.Type == "first", e.Type == "checkpoint":
		case strings.HasPrefix(e.Text(), "end"):
			ended++
		default:
			got[e.Type] = append(got[e.Type], e.Text())
		}
		if n--; n < 0 || ended == missing {
			break
		}
	}
	return ended
}

// TestTopicsShutdown: what the topics' windows hold is delivered first, whichever of them ends
// first.
func TestTopicsShutdown(t *testing.T) {
	h := newHub(t, nil, hub.Options{})
	f := Of(h, "a", "b")
	var subs subscriptions
	if err := subs.subscribe(t.Context(), f, terms{}, hub.Latest()); err != nil {
		t.Fatal(err)
	}
	s := &source{ctx: t.Context(), feed: f, set: cursor.New(f.Topics), subscriptions: subs}
	for i := range 100 {
		publish(t, h, "b", fmt.Sprint(i))
	}
	done := make(chan error)
	go func() { done <- h.Shutdown(context.Background()) }()
	<-h.Closing()
	var w session.Work
	for {
		if status, _ := s.Poll(&w, 1<<20); status != hub.Ready {
			break
		}
	}
	equal(t, "events", w.Events, 100)
	s.close()
	equal(t, "shutdown", <-done, nil)
}
