package feed

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
)

// fakeSubscription gives one batch, and then what it ends with.
type fakeSubscription struct {
	entries []*hub.Entry
	bytes   []int
	end     hub.Batch
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
func (s *fakeSubscription) Watch(hub.Watcher)           {}
func (s *fakeSubscription) Close()                      {}

// fakeSource returns the source of one topic.
func fakeSource(ctx context.Context, t testing.TB, sub subscription, at hub.ID) *source {
	f := Of(newHub(t, nil, hub.Options{}), "t")
	return &source{ctx: ctx, feed: f, subscriptions: subscriptions{readers: []reader{{topic: "t", sub: sub, at: at}}}}
}

// TestSourcePoll: the budget is handed on, everything polled is delivered at once, and nothing is kept.
func TestSourcePoll(t *testing.T) {
	sub := &fakeSubscription{end: hub.Batch{Status: hub.Waiting}}
	for range 150 {
		sub.entries = append(sub.entries, &hub.Entry{Message: hub.Message{ID: "1", Data: []byte("x")}})
	}
	s := fakeSource(t.Context(), t, sub, "")
	equal(t, "peek", s.readers[0].peek().Status, hub.Ready)
	got := 0
	for {
		b := s.Poll(nil, 777)
		if b.Status != delivery.Ready {
			break
		}
		got += len(b.Frames)
	}
	equal(t, "messages", got, 150)
	for i, bytes := range sub.bytes[1:] {
		equal(t, fmt.Sprintf("budget of poll %d", i), bytes, 777)
	}
	list := entryLists.Get().(*[pollLimit]*hub.Entry)
	if *list != [pollLimit]*hub.Entry{} {
		t.Error("a list of entries that is not in use keeps messages alive")
	}
	entryLists.Put(list)
}

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
		{"shutdown", context.Background(), true, &hub.Error{Err: hub.ErrClosed}, delivery.ErrShutdown},
		{"shutdown by the request's context", gone, false, &hub.Error{Err: delivery.ErrShutdown}, delivery.ErrShutdown},
		{"client gone", gone, false, &hub.Error{Err: context.Canceled}, delivery.ErrClientGone},
		{"failure", context.Background(), false, other, other},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := fakeSource(tc.ctx, t, &fakeSubscription{end: hub.Batch{Status: hub.Ended, Err: tc.err}}, "")
			if tc.closing {
				if err := s.feed.Hub.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			b := s.Poll(nil, 1)
			equal(t, "status", b.Status, delivery.Ended)
			isCause(t, b.Err, tc.want)
		})
	}
}

// TestSourceAddsClose: a reader that stands behind the end is told of it as well.
func TestSourceAddsClose(t *testing.T) {
	s := fakeSource(t.Context(), t, &fakeSubscription{end: hub.Batch{Status: hub.Ended}}, "7")
	equal(t, "peek", s.readers[0].peek().Status, hub.Ended)
	b := s.Poll(nil, 1)
	equal(t, "status", b.Status, delivery.Ready)
	equal(t, "frame", string(b.Frames[0]), "event: close\ndata: \nid: 7\n\n")
	b = s.Poll(nil, 1)
	equal(t, "status", b.Status, delivery.Ended)
	equal(t, "error", b.Err, nil)
}

func TestWireRefusesNothing(t *testing.T) {
	// The hub lets neither through; the stream must stay whole all the same.
	got := string(wire{}.Encode(&hub.Message{ID: "1\n", Type: "a\nb", Data: []byte("x")}))
	equal(t, "frame", got, "event: x-unknown\ndata: x\n\n")
}
