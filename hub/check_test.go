package hub

import (
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
