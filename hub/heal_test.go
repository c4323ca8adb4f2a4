package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func eachReplay(t *testing.T, o Options, test func(t *testing.T, b *fake, h *Hub)) {
	for _, traits := range []Traits{chained, unchained} {
		t.Run(traits.Name, func(t *testing.T) { walkBoth(t, traits, o, test) })
	}
}

func each(t *testing.T, o Options, test func(t *testing.T, b *fake, h *Hub)) {
	eachReplay(t, o, test)
	t.Run(liveOnly.Name, func(t *testing.T) { walkBoth(t, liveOnly, o, test) })
}

func TestMessagesDeliveredBeforeFollowReturned(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 2)
		b.onFollow = func(context.Context, string, Sink) error {
			b.add("t", 3) // while the tail is 2
			return nil
		}
		r := subscribe(t, h, "t", After("2"))
		b.add("t", 1)
		r.want("3 4 5 6")
	})
}

func TestRestoredBeforeFollowReturned(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		for _, pageMax := range []int{0, 1} {
			b.script(func() {
				b.pageMax = pageMax
				b.onFollow = func(_ context.Context, topic string, sink Sink) error {
					b.add(topic, 1)
					b.mute(topic, true)
					b.add(topic, 1) // lost
					b.mute(topic, false)
					sink.Restored("")
					b.add(topic, 1)
					return nil
				}
			})
			topic := []string{"t", "u"}[pageMax]
			r := subscribe(t, h, topic, After("0"))
			b.add(topic, 1)
			r.want("1 2 3 4")
		}
	})
}

func TestPrevMismatchHeals(t *testing.T) {
	for _, pageMax := range []int{0, 1, 2} {
		walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
			b.pageMax = pageMax
			r := subscribe(t, h, "t", Latest())
			b.add("t", 1)
			b.mute("t", true)
			b.add("t", 3)
			b.mute("t", false)
			b.add("t", 2)
			r.want("1 2 3 4 5 6")
			if s := h.Stats(); s.Heals != 1 || s.Gaps != 0 || s.ReaderGaps != 0 {
				t.Errorf("stats %+v", s)
			}
			b.add("t", 1)
			r.want("7")
		})
	}
}

func TestReorderedAndRepeatedMessagesHeal(t *testing.T) {
	walkBoth(t, chained, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.mute("t", true)
		b.add("t", 6)
		b.deliver("t", "2", "1", "1", "4", "3")
		r.want("1 2 3 4 5 6")
		b.deliver("t", "5", "6", "6", "1")
		r.want("")
		b.mute("t", false)
		b.add("t", 1)
		r.want("7")
	})
}

func TestRestoredWithUnknownTail(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 2)
		b.mute("t", true)
		b.broken("t", errors.New("cut"))
		b.add("t", 3)
		b.mute("t", false)
		b.restored("t", "")
		r.want("1 2 3 4 5")
		b.add("t", 1)
		r.want("6")
	})
}

func TestRestoredAtTheLastMessageReadsNothing(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 2)
		b.restored("t", "2")
		b.add("t", 1)
		r.want("1 2 3")
		if s := h.Stats(); s.Heals != 0 || s.Gaps != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestRestoredAtAnotherTailHeals(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 1)
		b.mute("t", true)
		b.add("t", 2)
		b.restored("t", "3")
		r.want("1 2 3")
	})
}

// TestRestoredAgainWhileHealing breaks the live path a second time while the first Read is under
// way, so that what is held then has a hole.
func TestRestoredAgainWhileHealing(t *testing.T) {
	for name, early := range map[string]bool{"page from before": true, "page from after": false} {
		for _, pageMax := range []int{0, 1} {
			t.Run(name, func(t *testing.T) {
				eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
					r := subscribe(t, h, "t", Latest())
					b.add("t", 1)
					goOn := make(chan struct{})
					b.script(func() {
						b.pageMax = pageMax
						b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
							p := page()
							<-goOn
							if !early {
								p = page()
							}
							return p, nil
						}
					})
					b.restored("t", "")
					synctest.Wait()
					b.add("t", 1)
					b.mute("t", true)
					b.add("t", 1) // lost
					b.mute("t", false)
					b.restored("t", "")
					b.add("t", 1)
					synctest.Wait()
					close(goOn)
					r.want("1 2 3 4")
					b.add("t", 1)
					r.want("5")
				})
			})
		}
	}
}

// TestRestoredAgainWhileHealingWithNothingHeld: only the second Restored tells that something is
// missing.
func TestRestoredAgainWhileHealingWithNothingHeld(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				p := page()
				time.Sleep(time.Second)
				return p, nil
			}
		})
		b.mute("t", true)
		b.restored("t", "")
		synctest.Wait()
		b.add("t", 1) // after the Read began
		b.restored("t", "")
		time.Sleep(3 * time.Second)
		r.want("1")
	})
}

// TestRestoredAgainAheadOfThePages: the second break comes while many pages are still to be read. A
// message that is held from before it does not tell that something came after it.
func TestRestoredAgainAheadOfThePages(t *testing.T) {
	eachReplay(t, Options{CheckEvery: time.Hour}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 1)
		b.script(func() {
			b.pageMax = 1
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				p := page()
				time.Sleep(time.Second)
				return p, nil
			}
		})
		b.mute("t", true)
		b.add("t", 3) // lost
		b.mute("t", false)
		b.restored("t", "")
		b.add("t", 1)
		synctest.Wait()
		b.mute("t", true)
		b.add("t", 1) // lost, and nothing comes after it
		b.mute("t", false)
		b.restored("t", "")
		time.Sleep(10 * time.Second)
		r.want("1 2 3 4 5 6")
	})
}

// TestRepeatWhileHealingProvesNothing: the live path repeats a message from before it broke. What
// comes next does not follow it.
func TestRepeatWhileHealingProvesNothing(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 1)
		b.script(func() {
			b.pageMax = 1
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				time.Sleep(time.Second)
				return page(), nil
			}
		})
		b.mute("t", true)
		b.add("t", 3) // lost
		b.restored("t", "")
		b.mute("t", false)
		b.deliver("t", "1")
		b.add("t", 1)
		time.Sleep(time.Minute)
		r.want("1 2 3 4 5")
	})
}

// TestLivePathOutrun: the backend was read so far ahead of the live path that what the live path
// then brings has left the window.
func TestLivePathOutrun(t *testing.T) {
	eachReplay(t, Options{Window: 3}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.mute("t", true)
		b.add("t", 10)
		b.restored("t", "")
		r.want(upTo(1, 10))
		b.deliver("t", "1", "2")
		b.deliver("t", "3")
		r.want("")
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				p := page()
				time.Sleep(time.Second)
				return p, nil
			}
		})
		b.restored("t", "")
		synctest.Wait()
		b.deliver("t", "4", "5") // after the Read began
		time.Sleep(3 * time.Second)
		r.want("")
		b.deliver("t", "6", "7", "8", "9", "10")
		time.Sleep(3 * time.Second)
		r.want("")
		b.script(func() { b.onRead = nil })
		b.mute("t", false)
		b.add("t", 2)
		r.want("11 12")
		before := b.pagesRead("t")
		b.add("t", 10)
		r.want(upTo(13, 22))
		if n := b.pagesRead("t") - before; n > 1 {
			t.Errorf("%d pages were read after the live path had caught up", n)
		}
	})
}

// TestHealThatFindsAGap: readers that were behind the window's end at different places each get
// the answer to their own place.
func TestHealThatFindsAGap(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		early := subscribe(t, h, "t", Latest(), MarkGaps())
		ends := subscribe(t, h, "t", Latest())
		b.add("t", 4)
		early.want("1 2 3 4")
		ends.want("1 2 3 4")
		b.mute("t", true)
		b.add("t", 6) // 5 to 10, unseen
		b.trim("t", 3)
		b.mute("t", false)
		b.restored("t", "")
		early.want("gap 8 9 10")
		ends.want("ErrGap")
		if s := h.Stats(); s.Gaps != 1 || s.ReaderGaps != 2 {
			t.Errorf("stats %+v", s)
		}
		b.add("t", 1)
		early.want("11")
		// 9 is retained: who is there misses nothing.
		subscribe(t, h, "t", After("9")).want("10 11")
		subscribe(t, h, "t", After("7")).want("8 9 10 11")
		subscribe(t, h, "t", After("6")).want("ErrGap")
	})
}

// TestHealThatFindsAGapAskedForEachReader: the window's end cannot be placed any more, but an
// older cursor still can.
func TestHealThatFindsAGapAskedForEachReader(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		r := subscribe(t, h, "t", After("3"), MarkGaps())
		lost := subscribe(t, h, "t", Latest(), MarkGaps())
		// The backend gives an ID of its own live path that its store has lost, as after a
		// failover.
		b.inject("t", Message{ID: "lost", Prev: "5"})
		lost.want("lost")
		b.restored("t", "")
		lost.want("gap") // it has had all the rest
		r.want("4 5 gap")
		b.add("t", 1)
		lost.want("6")
		r.want("6")
	})
}

func TestGapOnAnEmptyPage(t *testing.T) {
	walkByHand(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest(), MarkGaps())
		ends := subscribe(t, h, "t", Latest())
		b.add("t", 2)
		r.want("1 2")
		ends.want("1 2")
		b.forget("t")
		b.restored("t", "")
		synctest.Wait()
		if got := r.Poll(nil, 10, 1<<20); got.Status != Behind {
			t.Fatalf("Poll: %+v", got)
		}
		if err := r.Fetch(context.Background()); err != nil {
			t.Fatal(err)
		}
		// Told at once, without waiting for a message.
		if got := r.Poll(nil, 10, 1<<20); got.Status != Ready || !got.Gap || len(got.Entries) != 0 || got.At != "after-1002" {
			t.Errorf("Poll: %+v", got)
		}
		ends.want("ErrGap")
		r.want("")
		if n := b.pagesRead("t"); n > 3 {
			t.Errorf("%d pages were read", n)
		}
		b.add("t", 1)
		r.want("1003")
		if base := h.topics["t"].log.Base(); base != "after-1002" {
			t.Errorf("the base is %q", base)
		}
		subscribe(t, h, "t", After("after-1002")).want("1003")
	})
}

func TestStaleRedeliveryIsNotRepeated(t *testing.T) {
	walkBoth(t, chained, Options{Window: 5}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 10)
		r.want(upTo(1, 10))
		b.deliver("t", "2")
		r.want("")
		b.deliver("t", "1", "3", "5", "8", "10")
		r.want("")
		b.add("t", 1)
		r.want("11")
		if s := h.Stats(); s.Duplicates != 6 {
			t.Errorf("%d duplicates", s.Duplicates)
		}
	})
	// While the path is being healed.
	walkBoth(t, chained, Options{Window: 3}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.add("t", 10)
		goOn := make(chan struct{})
		b.script(func() {
			b.onRead = func(_ context.Context, _ fakeRead, page func() Page) (Page, error) {
				p := page()
				<-goOn
				return p, nil
			}
		})
		b.restored("t", "")
		synctest.Wait()
		b.deliver("t", "2")
		b.add("t", 1)
		close(goOn)
		r.want(upTo(1, 11))
	})
}
