package feed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/sse"
	"github.com/headrace/headrace/sse/feed/internal/session"
)

// fakeSubscription gives one batch, and then what it ends with.
type fakeSubscription struct {
	entries []*hub.Entry
	bytes   []int
	end     hub.Batch
	erased  map[hub.ID]bool
}

func (s *fakeSubscription) Poll(dst []*hub.Entry, limit, bytes int) hub.Batch {
	s.bytes = append(s.bytes, bytes)
	n := min(limit, len(s.entries))
	if n == 0 {
		return s.end
	}
	b := hub.Batch{Entries: append(dst, s.entries[:n]...), At: s.entries[n-1].ID}
	s.entries = s.entries[n:]
	return b
}

func (s *fakeSubscription) Fetch(context.Context) error { return nil }
func (s *fakeSubscription) Start() hub.ID               { return "" }
func (s *fakeSubscription) Watch(_, _ hub.Watcher)      {}
func (s *fakeSubscription) Erased(id hub.ID) bool       { return s.erased[id] }
func (s *fakeSubscription) Close()                      {}

// fakeSource returns the source of one topic.
func fakeSource(ctx context.Context, t testing.TB, sub subscription, at hub.ID) *source {
	f := Of(newHub(t, nil, hub.Options{}), "t")
	return &source{ctx: ctx, feed: f, subscriptions: subscriptions{[]reader{{topic: "t", sub: sub}}, []hub.ID{at}}, waker: deaf{}}
}

// TestSourcePoll: the budget is handed on, everything polled is delivered at once, and nothing is
// kept.
func TestSourcePoll(t *testing.T) {
	sub := &fakeSubscription{end: hub.Batch{Status: hub.Waiting}}
	for range 150 {
		sub.entries = append(sub.entries, &hub.Entry{Message: hub.Message{ID: "1", Data: []byte("x")}})
	}
	s := fakeSource(t.Context(), t, sub, "")
	equal(t, "peek", s.readers[0].peek().Status, hub.Ready)
	var w session.Work
	for {
		if status, _ := s.Poll(&w, 777); status != hub.Ready {
			break
		}
	}
	equal(t, "messages", len(w.Frames), 150)
	for i, bytes := range sub.bytes[1:] {
		equal(t, fmt.Sprintf("budget of poll %d", i), bytes, 777)
	}
	if w.Entries != [session.MaxEntries]*hub.Entry{} {
		t.Error("work that is not in use keeps messages alive")
	}
}

// deaf is a Waker that does nothing.
type deaf struct{}

func (deaf) Wake()                 {}
func (deaf) Topic(int) hub.Watcher { return deaf{} }

func TestSourceEnd(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	other := errors.New("other")
	for _, tc := range []struct {
		name    string
		ctx     context.Context
		closing bool
		err     error
		want    error
	}{
		{"shutdown", context.Background(), true, &hub.Error{Err: hub.ErrClosed}, session.ErrShutdown},
		{"shutdown by the request's context", gone, false, &hub.Error{Err: session.ErrShutdown}, session.ErrShutdown},
		{"client gone", gone, false, &hub.Error{Err: context.Canceled}, session.ErrClientGone},
		{"failure", context.Background(), false, other, other},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := fakeSource(tc.ctx, t, &fakeSubscription{end: hub.Batch{Status: hub.Ended, Err: tc.err}}, "")
			if tc.closing {
				if err := s.feed.Hub.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			status, err := s.Poll(new(session.Work), 1)
			equal(t, "status", status, hub.Ended)
			isCause(t, err, tc.want)
		})
	}
}

// TestSourceAddsClose: a reader that stands behind the end is told of it as well.
func TestSourceAddsClose(t *testing.T) {
	s := fakeSource(t.Context(), t, &fakeSubscription{end: hub.Batch{Status: hub.Ended}}, "7")
	equal(t, "peek", s.readers[0].peek().Status, hub.Ended)
	var w session.Work
	status, _ := s.Poll(&w, 1)
	equal(t, "status", status, hub.Ready)
	equal(t, "frame", retryLine.ReplaceAllString(string(w.Frames[0]), "retry: N\n"), "retry: N\nevent: close\ndata: \nid: 7\n\n")
	status, err := s.Poll(&w, 1)
	equal(t, "status", status, hub.Ended)
	equal(t, "error", err, nil)
}

// TestReloadLetsGo: the subscriptions of before a snapshot reload are not held to the end of the
// stream.
func TestReloadLetsGo(t *testing.T) {
	s := &source{feed: Feed{Topics: []string{"t"}}, waker: deaf{}}
	s.readers, s.at = s.one.readers[:], s.one.at[:]
	s.readers[0] = reader{topic: "t", sub: &fakeSubscription{}}
	l := &reload{cancel: func() {}, done: make(chan struct{})}
	l.subs.readers, l.subs.at = []reader{{topic: "t", sub: &fakeSubscription{}}}, make([]hub.ID, 1)
	s.take(l)
	if s.one.readers[0].sub != nil {
		t.Error("the closed subscription, and the page that it keeps, is held")
	}
}

// TestMapBudget: what Map makes of a batch counts against what a connection may hold, and what is
// left of the batch comes with the next polls, in order.
func TestMapBudget(t *testing.T) {
	sub := &fakeSubscription{end: hub.Batch{Status: hub.Waiting}}
	for i := range 60 {
		sub.entries = append(sub.entries, &hub.Entry{Message: hub.Message{ID: hub.ID(fmt.Sprint(i))}})
	}
	s := fakeSource(t.Context(), t, sub, "")
	s.feed.Map = func(_ string, m *hub.Message) []sse.Event {
		return []sse.Event{{Data: strings.Repeat("x", 5000)}, {Data: string(m.ID)}}
	}
	next := 0
	for {
		var w session.Work
		status, _ := s.Poll(&w, 20_000)
		if status != hub.Ready {
			break
		}
		if n := w.Size(); n > 20_000+5100 {
			t.Errorf("a poll made %d bytes", n)
		}
		for _, frame := range w.Frames {
			if want := fmt.Sprintf("data: %d\nid: %d\n\n", next, next); string(frame) == want {
				next++
			}
		}
	}
	equal(t, "messages in order", next, 60)
}

// TestErasedBehindTheBudget: what is left of a batch may be erased while the client stalls.
func TestErasedBehindTheBudget(t *testing.T) {
	sub := &fakeSubscription{end: hub.Batch{Status: hub.Waiting}, erased: make(map[hub.ID]bool)}
	for i := range 10 {
		sub.entries = append(sub.entries, &hub.Entry{Message: hub.Message{ID: hub.ID(fmt.Sprint(i))}})
	}
	s := fakeSource(t.Context(), t, sub, "")
	s.feed.Map = func(_ string, m *hub.Message) []sse.Event { return []sse.Event{{Data: string(m.ID)}} }
	got := ""
	for {
		var w session.Work
		if status, _ := s.Poll(&w, 1); status != hub.Ready {
			break
		}
		for _, frame := range w.Frames {
			got += strings.SplitAfterN(string(frame), "\n", 2)[0]
		}
		for _, id := range []hub.ID{"3", "4", "9"} {
			sub.erased[id] = true
		}
	}
	equal(t, "events", got, "data: 0\ndata: 1\ndata: 2\ndata: 5\ndata: 6\ndata: 7\ndata: 8\n")
	equal(t, "position", s.at[0], "8")
}

func TestWireRefusesNothing(t *testing.T) {
	// The hub lets neither through; the stream must stay whole all the same.
	got := string(wire{}.Encode(&hub.Message{ID: "1\n", Type: "a\nb", Data: []byte("x")}))
	equal(t, "frame", got, "event: x-unknown\ndata: x\n\n")
}
