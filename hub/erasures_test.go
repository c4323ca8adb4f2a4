package hub

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestErasedBehindTheWindow: a slow reader that holds a page gets nothing of it that was erased
// since, however much that is, and nothing of a topic that was deleted since.
func TestErasedBehindTheWindow(t *testing.T) {
	begin := func(t *testing.T, h *Hub, at Position, want string) reader {
		r := subscribe(t, h, "t", at, MarkGaps(), Replay(200, 0))
		b := r.Poll(nil, 1, 1<<20)
		for b.Status == Behind {
			if err := r.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			b = r.Poll(nil, 1, 1<<20)
		}
		if len(b.Entries) != 1 || string(b.Entries[0].ID) != want {
			t.Fatalf("the first batch: %+v, want message %s", b, want)
		}
		return r
	}
	const published = 300
	for _, erased := range []int{3, keptErasures, keptErasures + 1, published - 10} {
		t.Run(fmt.Sprint(erased, " erased"), func(t *testing.T) {
			walkLife(t, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
				b.add("t", published)
				r, replayed := begin(t, h, Earliest(), "1"), begin(t, h, After("unknown"), "101")
				for n := 2; n < 2+erased; n++ {
					if err := h.Erase(t.Context(), "t", ID(fmt.Sprint(n))); err != nil {
						t.Fatal(err)
					}
				}
				r.want(upTo(2+erased, published))
				replayed.want(upTo(max(102, 2+erased), published))
			})
		})
	}
	t.Run("erased and deleted", func(t *testing.T) {
		walkLife(t, Options{Window: 4}, func(t *testing.T, b *fake, h *Hub) {
			b.add("t", 50)
			r := begin(t, h, Earliest(), "1")
			if err := h.Erase(t.Context(), "t", "5"); err != nil {
				t.Fatal(err)
			}
			if err := h.Delete(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			b.add("t", 1)
			if got := strings.Fields(r.now()); len(got) != 2 || got[0] != "gap" || slices.Contains(got, "5") {
				t.Errorf("after the deletion: %v, want a gap and the new message", got)
			}
		})
	})
}
