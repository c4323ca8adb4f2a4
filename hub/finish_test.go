package hub

import (
	"context"
	"errors"
	"testing"
)

func TestFinish(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		other := open(t, b, Options{})
		r := subscribe(t, h, "t", Latest())
		publish(t, h, "t", 2)
		id, err := h.Finish(t.Context(), "t")
		if err != nil || id != "3" {
			t.Fatalf("Finish: %q, %v", id, err)
		}
		var got []Message
		for m, err := range r.All() {
			if err != nil {
				t.Errorf("error %v", err)
			}
			got = append(got, m)
		}
		if len(got) != 3 || !got[2].Final || got[2].Type != "close" || got[1].Final {
			t.Errorf("got %+v", got)
		}
		for name, h := range map[string]*Hub{"the same hub": h, "another hub": other} {
			for _, at := range []Position{After("3"), Latest()} {
				s := subscribe(t, h, "t", at)
				if b := s.Poll(nil, 1, 1<<20); b.Status != Ended || b.Err != nil {
					t.Errorf("%s, %v: the first Poll is %+v", name, at, b)
				}
			}
			subscribe(t, h, "t", After("1")).want("2 3 end")
			subscribe(t, h, "t", Earliest()).want("1 2 3 end")
		}
	})
}

func TestFinishedTopicIsPublishedTo(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		early := subscribe(t, h, "t", Latest())
		publish(t, h, "t", 1)
		if _, err := h.Finish(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		publish(t, h, "t", 2)
		early.want("1 2 end")
		other := open(t, b, Options{})
		for _, h := range []*Hub{h, other} {
			subscribe(t, h, "t", After("2")).want("end")
			subscribe(t, h, "t", Latest()).want("")
			subscribe(t, h, "t", After("3")).want("4")
			subscribe(t, h, "t", After("0")).want("1 2 end")
		}
	})
}

func TestFinalLeavesTheWindow(t *testing.T) {
	eachReplay(t, Options{Window: 1}, func(t *testing.T, _ *fake, h *Hub) {
		subscribe(t, h, "t", Latest())
		if _, err := h.Finish(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		publish(t, h, "t", 1)
		subscribe(t, h, "t", After("1")).want("end") // 1 is the base
		publish(t, h, "t", 1)
		subscribe(t, h, "t", After("1")).want("end") // 1 is out of the window
	})
}

func TestFinalInALostStretch(t *testing.T) {
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", Latest())
		b.mute("t", true)
		publish(t, h, "t", 1)
		if _, err := h.Finish(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		b.restored("t", "")
		r.want("1 2 end")
		subscribe(t, h, "t", Latest()).want("end")
	})
}

// TestFinishBehindTheEnd: a topic that went on behind its end can be finished again, however lately
// that was done before; finished twice it ends once, though the first outcome was unknown.
func TestFinishBehindTheEnd(t *testing.T) {
	walk(t, living, Options{}, func(t *testing.T, b *fake, h *Hub) {
		finish := func(want ID, last ...Message) {
			t.Helper()
			lost := true
			b.onPublish = func(_ context.Context, m Message, do func() ID) (ID, error) {
				if id := do(); !lost || !m.Final {
					return id, nil
				}
				lost = false
				return "", errors.New("lost")
			}
			if id, err := h.Finish(t.Context(), "t", last...); id != want || err != nil {
				t.Errorf("Finish: %q, %v, want %q", id, err, want)
			}
			b.onPublish = nil
		}
		publish(t, h, "t", 1)
		finish("2")
		finish("2")
		if _, err := h.Publish(t.Context(), "t", Message{AfterEnd: true}); err != nil {
			t.Fatal(err)
		}
		finish("5", Message{Key: "k"})
		subscribe(t, h, "t", Latest()).want("end")
		subscribe(t, h, "t", After("2")).want("end")
		subscribe(t, h, "t", Earliest()).want("1 2 end")
		subscribe(t, h, "t", After("3")).want("4 5 end")
	})
}

// TestFinishedBeforeErasures: entries that erase, and messages that were erased, are no messages
// behind the end.
func TestFinishedBeforeErasures(t *testing.T) {
	for _, window := range []int{1, 2, 10} {
		walk(t, living, Options{Window: window}, func(t *testing.T, b *fake, h *Hub) {
			subscribe(t, h, "t", Latest())
			publish(t, h, "t", 2)
			if _, err := h.Finish(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			for _, id := range []ID{"1", "2"} {
				if err := h.Erase(t.Context(), "t", id); err != nil {
					t.Fatal(err)
				}
			}
			for _, h := range []*Hub{h, open(t, b, Options{})} {
				for _, at := range []Position{Latest(), After("3"), After("4"), After("5")} {
					subscribe(t, h, "t", at).want("end")
				}
			}
			if _, err := h.Publish(t.Context(), "t", Message{AfterEnd: true}); err != nil {
				t.Fatal(err)
			}
			for _, h := range []*Hub{h, open(t, b, Options{})} {
				subscribe(t, h, "t", Latest()).want("")
			}
		})
	}
}
