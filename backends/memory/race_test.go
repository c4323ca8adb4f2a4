package memory

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/headrace/headrace/hub"
)

// A lookup that meets a topic on its way out of the map waits for it to be gone.
func TestDroppedTopicIsLookedUpAgain(t *testing.T) {
	for range 100 {
		b := New(Options{})
		publish(t, b, "t", text("old"))
		old := b.lock("t", false)
		old.dropped = true
		old.mu.Unlock()
		var wg sync.WaitGroup
		var locked *topic
		var page hub.Page
		wg.Go(func() {
			locked = b.lock("t", true)
			locked.mu.Unlock()
		})
		wg.Go(func() { page, _ = b.Read(context.Background(), "t", "", 1) })
		for range 100 {
			runtime.Gosched()
		}
		s, _ := b.shard("t")
		s.mu.Lock()
		delete(s.topics, "t")
		s.mu.Unlock()
		wg.Wait()
		if locked == old || len(page.Messages) != 0 {
			t.Fatal("a dropped topic was used")
		}
		b.Close()
	}
}

func TestUsefulTopicIsNotDropped(t *testing.T) {
	b := New(Options{})
	defer b.Close()
	publish(t, b, "t", text("a"))
	topic := b.lock("t", false)
	topic.mu.Unlock()
	b.drop("t", topic) // as if the message came after the janitor's look
	if got, _ := read(t, b, "t", ""); len(got) != 1 {
		t.Error("the message went with the topic")
	}
}

// A topic that is dropped while it is looked up is looked up again: nobody appends to, or
// follows, one that is no longer there.
func TestDropRaces(t *testing.T) {
	b := New(Options{MaxAge: 1, KeyWindow: 1})
	defer b.Close()
	done := make(chan struct{})
	var cleaner sync.WaitGroup
	cleaner.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				b.clean()
			}
		}
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 500 {
				s := &sink{}
				tail, stop, err := b.Follow(context.Background(), "t", s)
				if err != nil {
					t.Error(err)
					return
				}
				id, err := b.Publish(context.Background(), "t", text("a"))
				if err != nil {
					t.Error(err)
				}
				stop()
				s.mu.Lock()
				got := s.got
				s.mu.Unlock()
				last := tail
				for _, m := range got {
					if m.Prev != last {
						t.Errorf("message %q has Prev %q, want %q", m.ID, m.Prev, last)
					}
					last = m.ID
				}
				if !slices.ContainsFunc(got, func(m hub.Message) bool { return m.ID == id }) {
					t.Errorf("message %q was not delivered", id)
				}
				p, err := b.Read(context.Background(), "t", tail, 10)
				if err != nil || len(p.Messages) == 0 && !p.Gap {
					t.Errorf("Read after a tail that %q came after: no message and no gap, %v", id, err)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	cleaner.Wait()
}

func TestConcurrentTotal(t *testing.T) {
	b := New(Options{MaxTotalBytes: 64 << 10, MaxMessages: 50})
	defer b.Close()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				m := hub.Message{Data: make([]byte, i), Key: fmt.Sprint(g, i)}
				if _, err := b.Publish(context.Background(), fmt.Sprint("t", (g+i)%7), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var sum int64
	for i := range b.shards {
		for name, topic := range b.shards[i].snapshot() {
			sum += topic.messages.Bytes() + topic.keys.Bytes() + int64(topicOverhead+len(name))
		}
	}
	if got := b.total.Load(); got != sum || got > 64<<10 {
		t.Errorf("%d bytes are counted, the topics have %d, at most %d are allowed", got, sum, 64<<10)
	}
}
