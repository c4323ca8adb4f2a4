package feed

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/headrace/headrace/hub"
	"github.com/headrace/headrace/internal/delivery"
)

// fakeSubscription gives batches of entries from a list.
type fakeSubscription struct {
	entries []*hub.Entry
	limits  []int
	end     hub.Batch
}

func (s *fakeSubscription) Poll(dst []*hub.Entry, limit int) hub.Batch {
	s.limits = append(s.limits, limit)
	n := min(limit, len(s.entries))
	if n == 0 {
		return s.end
	}
	b := hub.Batch{Entries: append(dst, s.entries[:n]...), At: s.entries[n-1].ID}
	s.entries = s.entries[n:]
	return b
}

func (s *fakeSubscription) Fetch(context.Context) error { return nil }

func entries(n, size int) []*hub.Entry {
	var list []*hub.Entry
	for range n {
		list = append(list, &hub.Entry{Message: hub.Message{ID: "1", Data: []byte(strings.Repeat("x", size))}})
	}
	return list
}

// TestSourceBudget: a batch ends with the frame that reaches the budget, whatever the sizes, and few messages are ever held back.
func TestSourceBudget(t *testing.T) {
	for _, size := range []int{1, 1000, 10_000, 100_000} {
		sub := &fakeSubscription{entries: entries(500, size), end: hub.Batch{Status: hub.Waiting}}
		s := newSource(t.Context(), sub, "", nil)
		const budget = 64 << 10
		got, held := 0, 0
		for {
			b := s.Poll(nil, budget)
			if b.Status != delivery.Ready {
				break
			}
			bytes := 0
			for _, f := range b.Frames {
				bytes += len(f)
			}
			if bytes > budget+size+frameOverhead {
				t.Errorf("size %d: a batch of %d bytes", size, bytes)
			}
			got += len(b.Frames)
			if len(sub.limits) > 2 {
				held = max(held, len(s.left)*size)
			}
		}
		equal(t, "messages", got, 500)
		if held > 2*budget+2*size {
			t.Errorf("size %d: %d bytes were held back", size, held)
		}
		if most := 500/mostLimit + 10; size == 1 && len(sub.limits) > most {
			t.Errorf("%d polls for small messages, want at most %d", len(sub.limits), most)
		}
	}
}

func TestSourceEnd(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	other := errors.New("other")
	for _, tc := range []struct {
		name    string
		ctx     context.Context
		closing <-chan struct{}
		err     error
		want    error
	}{
		{"shutdown", context.Background(), closed, &hub.Error{Err: hub.ErrClosed}, delivery.ErrShutdown},
		{"shutdown by the request's context", gone, nil, &hub.Error{Err: delivery.ErrShutdown}, delivery.ErrShutdown},
		{"client gone", gone, nil, &hub.Error{Err: context.Canceled}, delivery.ErrClientGone},
		{"failure", context.Background(), nil, other, other},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSource(tc.ctx, &fakeSubscription{end: hub.Batch{Status: hub.Ended, Err: tc.err}}, "", tc.closing)
			b := s.Poll(nil, 1)
			equal(t, "status", b.Status, delivery.Ended)
			isCause(t, b.Err, tc.want)
		})
	}
}

// TestSourceAddsClose: a reader that stands behind the end is told of it as well.
func TestSourceAddsClose(t *testing.T) {
	s := newSource(t.Context(), &fakeSubscription{end: hub.Batch{Status: hub.Ended}}, "7", nil)
	equal(t, "peek", s.peek().Status, hub.Ended)
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
