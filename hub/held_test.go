package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRestoredBeforeFollowReturnedWithoutReplay(t *testing.T) {
	walkBoth(t, liveOnly, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onFollow = func(_ context.Context, topic string, sink Sink) error {
			b.add(topic, 2)
			b.mute(topic, true)
			b.add(topic, 1) // lost
			b.mute(topic, false)
			sink.Restored("")
			b.add(topic, 1)
			return nil
		}
		// The gap is where the message is missing, so a reader from before it is told no sooner,
		// and one from behind it not at all.
		subscribe(t, h, "t", After("0"), MarkGaps()).want("1 2 gap 4")
		subscribe(t, h, "t", After("1")).want("2 ErrGap")
		subscribe(t, h, "t", After("2")).want("ErrGap")
		subscribe(t, h, "t", After("4")).want("")
	})
}

func TestRestoredLastBeforeFollowReturnedWithoutReplay(t *testing.T) {
	walkBoth(t, liveOnly, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.onFollow = func(_ context.Context, topic string, sink Sink) error {
			b.add(topic, 1)
			sink.Restored("")
			return nil
		}
		r := subscribe(t, h, "t", After("0"), MarkGaps())
		r.want("1")
		b.add("t", 2)
		r.want("gap 2 3")
	})
}

func TestHeldMessagesOverflow(t *testing.T) {
	for _, pageMax := range []int{0, 2} {
		eachReplay(t, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
			r := subscribe(t, h, "t", Latest())
			b.add("t", 1)
			goOn := make(chan struct{})
			b.script(func() {
				b.pageMax = pageMax
				b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
					p := page() // of before the overflow
					<-goOn
					return p, nil
				}
			})
			b.restored("t", "")
			synctest.Wait()
			b.add("t", 20)
			synctest.Wait()
			close(goOn)
			r.want(upTo(1, 21))
			if f := h.topics["t"]; len(f.held) > 0 || f.heldBytes != 0 {
				t.Errorf("%d messages, %d bytes are still held", len(f.held), f.heldBytes)
			}
		})
	}
}

func TestHeldMessagesOverflowBeforeFollowReturned(t *testing.T) {
	overflow := func(b *fake) {
		b.onFollow = func(context.Context, string, Sink) error {
			b.add("t", 10)
			return nil
		}
	}
	eachReplay(t, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
		overflow(b)
		subscribe(t, h, "t", After("0")).want(upTo(1, 10))
	})
	walkBoth(t, liveOnly, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
		overflow(b)
		subscribe(t, h, "t", After("0"), MarkGaps()).want("gap " + upTo(7, 10))
	})
}

func TestHeldMessagesAreBoundedInBytes(t *testing.T) {
	walkBoth(t, chained, Options{WindowBytes: 10_000}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		goOn := make(chan struct{})
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				<-goOn
				return page(), nil
			}
		})
		b.restored("t", "")
		synctest.Wait()
		for range 20 {
			b.append("t", Message{Data: make([]byte, 1000)})
		}
		if f := h.topics["t"]; f.heldBytes > 10_000 || len(f.held) < 2 {
			t.Errorf("%d messages, %d bytes are held", len(f.held), f.heldBytes)
		}
		close(goOn)
		r.want(upTo(1, 20))
	})
}

// TestRestoredWithoutReplay: exactly the next message is flagged; the window keeps its past.
func TestRestoredWithoutReplay(t *testing.T) {
	walkBoth(t, liveOnly, Options{}, func(t *testing.T, b *fake, h *Hub) {
		behind := subscribe(t, h, "t", Latest(), MarkGaps())
		at := subscribe(t, h, "t", Latest(), MarkGaps())
		ends := subscribe(t, h, "t", Latest())
		b.add("t", 2)
		at.want("1 2")
		b.mute("t", true)
		b.add("t", 1) // lost
		b.mute("t", false)
		b.restored("t", "")
		at.want("")
		b.add("t", 2)
		behind.want("1 2 gap 4 5")
		at.want("gap 4 5")
		ends.want("1 2 ErrGap")
		b.add("t", 1)
		behind.want("6")

		subscribe(t, h, "t", After("1"), MarkGaps()).want("2 gap 4 5 6")
		subscribe(t, h, "t", After("2"), MarkGaps()).want("gap 4 5 6")
		subscribe(t, h, "t", After("4")).want("5 6")
		subscribe(t, h, "t", After("unheard-of")).want("ErrGap")
		// The oldest message still there follows, and the gap within the window is said on its own.
		subscribe(t, h, "t", After("unheard-of"), MarkGaps()).want("gap 1 2 gap 4 5 6")
		if n := len(b.reads); n != 0 {
			t.Errorf("a backend without replay was read %d times", n)
		}
	})
}

func TestPrevMismatchWithoutReplay(t *testing.T) {
	traits := liveOnly
	traits.Chained = true
	walkBoth(t, traits, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest(), MarkGaps())
		b.add("t", 1)
		b.mute("t", true)
		b.add("t", 2)
		b.mute("t", false)
		b.add("t", 2)
		r.want("1 gap 4 5")
	})
}

func TestFailingReadsKeepWhatIsHeld(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 1)
		b.script(func() {
			b.onRead = func(context.Context, fakeRead, func() Page) (Page, error) { return Page{}, errors.New("down") }
		})
		b.mute("t", true)
		b.add("t", 2)
		b.mute("t", false)
		b.restored("t", "")
		b.add("t", 3)
		time.Sleep(time.Minute)
		r.want("1")
		b.script(func() { b.onRead = nil })
		b.add("t", 1)
		time.Sleep(backoffMax)
		r.want(upTo(2, 7))
	})
}
