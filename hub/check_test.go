package hub

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPositionCheckFindsALostLastMessage(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		readers := make([]reader, 20)
		for i := range readers {
			readers[i] = subscribe(t, h, "t", Latest())
		}
		for round := 1; round < 5; round++ {
			b.mute("t", true)
			b.add("t", 1)
			time.Sleep(60 * time.Second)
			for _, r := range readers {
				r.want(upTo(round, round))
			}
			b.mute("t", false)
		}
		before := b.checksRead("t")
		time.Sleep(300 * time.Second)
		synctest.Wait()
		if n := b.checksRead("t") - before; n < 8 || n > 10 {
			t.Errorf("the position was read %d times in ten periods", n)
		}
		if n := h.Stats().ReaderGaps; n != 0 {
			t.Errorf("%d gaps were told", n)
		}
	})
}

func TestPositionCheckLeavesBusyTopicsAlone(t *testing.T) {
	walk(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		before := b.checksRead("t")
		for range 300 {
			b.add("t", 1)
			time.Sleep(time.Second)
		}
		r.want(upTo(1, 300))
		if n := b.checksRead("t") - before; n != 0 {
			t.Errorf("%d checks", n)
		}
	})
}

func TestTinyCheckEvery(t *testing.T) {
	walk(t, chained, Options{CheckEvery: 1}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.mute("t", true)
		b.add("t", 1)
		time.Sleep(10 * time.Millisecond)
		r.want("1")
	})
}

// TestPositionThatGrowsOld: a backend knows for some time only that an empty topic has missed
// nothing, and names the position anew. Checks and heals go on from the newest name.
func TestPositionThatGrowsOld(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		const good = 45 * time.Second
		begun := time.Now()
		b.script(func() {
			b.onRead = func(_ context.Context, call fakeRead, _ func() Page) (Page, error) {
				name, named := strings.CutPrefix(string(call.after), "place")
				at := begun
				if seconds, err := strconv.Atoi(name); named && err == nil {
					at = begun.Add(time.Duration(seconds) * time.Second)
				}
				if age := time.Since(at); named || call.after == "0" {
					call.after = "0"
					if age > good {
						call.after = "unknown"
					}
				}
				p := b.page(call)
				if p.Next == "0" {
					p.Next = ID("place" + strconv.Itoa(int(time.Since(begun)/time.Second)))
				}
				return p, nil
			}
		})
		r := subscribe(t, h, "t", Latest())
		time.Sleep(10 * time.Minute)
		b.broken("t", errors.New("broken"))
		b.restored("t", "")
		time.Sleep(10 * time.Minute)
		b.mute("t", true)
		b.add("t", 1)
		time.Sleep(time.Minute)
		r.want("1")
		b.mute("t", false)
		b.add("t", 1)
		r.want("2")
		if s := h.Stats(); s.ReaderGaps != 0 || s.Gaps != 0 {
			t.Errorf("gaps: %+v", s)
		}
	})
}
