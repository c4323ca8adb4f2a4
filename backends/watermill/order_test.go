package watermill

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/headrace/headrace/hub"
)

// text returns the data of a message of ours, "" for a probe.
func text(m *message.Message) string {
	if m.Metadata.Get(keyProbe) != "" {
		return ""
	}
	return string(m.Payload)
}

func TestLostMessageIsSaid(t *testing.T) {
	run(t, Options{OrderedByPublisher: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		f.set(func() {
			f.onDeliver = func(_ *fakeSub, m *message.Message) bool { return text(m) == "2" || text(m) == "3" }
		})
		mustPublish(t, b, "t", "1", "2", "3", "4", "5")
		s.want(t, "1", "gap", "4", "5")
		if n := b.Stats().Lost; n != 2 {
			t.Errorf("%d lost, want 2", n)
		}
	})
}

// TestLastMessageIsLost: no later message tells, but the next probe does.
func TestLastMessageIsLost(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		f.set(func() { f.onDeliver = func(_ *fakeSub, m *message.Message) bool { return text(m) == "2" } })
		mustPublish(t, b, "t", "1", "2")
		s.want(t, "1")
		wait(b.opts.ProbeEvery)
		s.want(t, "1", "gap")
	})
}

func TestLateMessageIsNotShown(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		var kept *message.Message
		f.set(func() {
			f.onDeliver = func(sub *fakeSub, m *message.Message) bool {
				if text(m) == "2" && kept == nil {
					kept = m
					return true
				}
				if text(m) == "3" {
					sub.push(m.Copy())
					sub.push(kept.Copy()) // out of order
					sub.push(m.Copy())    // and once more
					return true
				}
				return false
			}
		})
		mustPublish(t, b, "t", "1", "2", "3", "4")
		s.want(t, "1", "gap", "3", "4")
		if got := b.Stats(); got.Lost != 1 || got.Late != 2 {
			t.Errorf("%+v, want 1 lost and 2 late", got)
		}
	})
}

// TestUnorderedIsShownAsItComes: where no order is declared none is missed.
func TestUnorderedIsShownAsItComes(t *testing.T) {
	run(t, Options{}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		var kept *message.Message
		f.set(func() {
			f.onDeliver = func(sub *fakeSub, m *message.Message) bool {
				if text(m) == "1" {
					kept = m
					return true
				}
				if text(m) == "2" {
					sub.push(m.Copy())
					sub.push(kept.Copy())
					return true
				}
				return false
			}
		})
		mustPublish(t, b, "t", "1", "2", "3")
		s.want(t, "2", "1", "3")
	})
}

// TestUnknownOutcome: the Publisher fails, the message may be there or not. If it is not, nobody
// can tell that from a loss.
func TestUnknownOutcome(t *testing.T) {
	for _, there := range []bool{true, false} {
		run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
			s := mustFollow(t, b, "t")
			mustPublish(t, b, "t", "1")
			f.set(func() {
				f.onPublish = func(m *message.Message) error {
					if text(m) == "" {
						return nil
					}
					f.onPublish = nil
					if there {
						f.append("t", m)
					}
					return errDown
				}
			})
			_, err := b.Publish(t.Context(), "t", hub.Message{Data: []byte("2")})
			isUnknown(t, err)
			mustPublish(t, b, "t", "3")
			if there {
				s.want(t, "1", "2", "3")
			} else {
				s.want(t, "1", "gap", "3")
			}
		})
	}
}

// TestOriginsAreCountedApart: two instances publish to one topic, and one of them loses.
func TestOriginsAreCountedApart(t *testing.T) {
	run(t, Options{Ordered: true}, func(t *testing.T, f *fakeBroker, b *Backend) {
		s := mustFollow(t, b, "t")
		other := open(t, f, Options{Ordered: true})
		mustPublish(t, b, "t", "a1")
		mustPublish(t, other, "t", "b1")
		mustPublish(t, b, "t", "a2")
		f.set(func() { f.onDeliver = func(_ *fakeSub, m *message.Message) bool { return text(m) == "b2" } })
		mustPublish(t, other, "t", "b2")
		mustPublish(t, b, "t", "a3")
		mustPublish(t, other, "t", "b3")
		s.want(t, "a1", "b1", "a2", "a3", "gap", "b3")
	})
}

func TestJudge(t *testing.T) {
	o := newOrigins()
	for i, step := range []struct {
		origin string
		seq    uint64
		want   verdict
		lost   uint64
	}{
		{"a", 5, inOrder, 0}, {"a", 6, inOrder, 0}, {"a", 6, late, 0}, {"a", 2, missed, 0}, {"a", 9, afterLoss, 2}, {"a", 8, late, 0}, {"a", 10, inOrder, 0},
		{"b", 1, inOrder, 0}, {"a", 11, inOrder, 0},
		// The first two swapped; the second was never shown.
		{"c", 2, inOrder, 0}, {"c", 1, missed, 0}, {"c", 1, late, 0}, {"c", 3, inOrder, 0},
		// Somebody used a number far ahead.
		{"a", 1 << 40, afterLoss, 1<<40 - 12}, {"a", 12, late, 0}, {"a", 13, late, 0}, {"a", 14, afterLoss, 0}, {"a", 15, inOrder, 0},
	} {
		if v, lost := o.judge(step.origin, step.seq); v != step.want || lost != step.lost {
			t.Errorf("step %d: %v, %d lost; want %v, %d", i, v, lost, step.want, step.lost)
		}
	}
	for i := range 3 * maxOrigins {
		o.judge(string(rune(i)), 1)
	}
	if len(o.known) > maxOrigins {
		t.Errorf("%d origins are remembered", len(o.known))
	}
	if v, _ := o.judge("one that was forgotten", 7); v != afterLoss {
		t.Errorf("an origin that may have been forgotten: %v", v)
	}
}
