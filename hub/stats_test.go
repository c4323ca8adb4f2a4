package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestObserver(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	see := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf(format, args...))
	}
	o := Options{Observer: Observer{
		Published: func(topic string, id ID, took time.Duration, err error) {
			see("published %s %s %v %v", topic, id, took, err != nil)
		},
		Gap:    func(topic string) { see("gap %s", topic) },
		Healed: func(topic string, took time.Duration) { see("healed %s %v", topic, took) },
		Broken: func(topic string, err error) { see("broken %s %v", topic, err) },
		Read: func(topic string, messages int, took time.Duration, err error) {
			see("read %s %d %v %v", topic, messages, took, err)
		},
	}}
	walk(t, chained, o, func(t *testing.T, b *fake, h *Hub) {
		b.onPublish = func(_ context.Context, _ Message, do func() ID) (ID, error) {
			time.Sleep(time.Second)
			return do(), nil
		}
		b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
			time.Sleep(time.Millisecond)
			return page(), nil
		}
		r := subscribe(t, h, "t", Latest())
		publish(t, h, "t", 1)
		if _, err := h.Publish(t.Context(), "", Message{}); err == nil {
			t.Error("no error")
		}
		r.want("1")
		b.mute("t", true)
		b.add("t", 5)
		b.trim("t", 2)
		b.broken("t", errors.New("cut"))
		b.restored("t", "")
		synctest.Wait()
		time.Sleep(time.Second)
		want := []string{
			"read t 0 1ms <nil>", "published t 1 1s false", "published   0s true", "broken t cut", "broken t <nil>",
			"read t 2 1ms <nil>", "read t 1 1ms <nil>", "gap t", "read t 0 1ms <nil>", "healed t 3ms",
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(seen, want) {
			t.Errorf("seen %q\nwant %q", seen, want)
		}
	})
}

func TestStats(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		if h.Traits() != chained {
			t.Errorf("traits %+v", h.Traits())
		}
		r := subscribe(t, h, "t", Latest())
		subscribe(t, h, "t", After("unheard-of")).want("ErrGap")
		publish(t, h, "t", 3)
		b.deliver("t", "2")
		r.want("1 2 3")
		got := h.Stats()
		got.WindowBytes = 0
		want := Stats{Topics: 1, Subscriptions: 2, Published: 3, Received: 3, Duplicates: 1, ReaderGaps: 1, Reads: 2}
		if got != want {
			t.Errorf("stats %+v\nwant  %+v", got, want)
		}
	})
}
