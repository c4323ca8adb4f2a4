package redisstream

import (
	"testing"

	"github.com/headrace/headrace/hub"
)

// TestLostNewest loses the newest messages in a crash: who had got them is told of a gap, and gets
// nothing that it had before.
func TestLostNewest(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, o Options) {
		t.Parallel()
		for _, lost := range []int{1, 2 * pageEntries} {
			s := startServer(t)
			a, b := newRig(t, s.addr, o), newRig(t, s.addr, o)
			rec, _, _ := mustFollow(t, a, "t")
			var kept, gone []hub.ID
			for i := range 10 {
				kept = append(kept, mustPublish(t, b, "t", "kept"+itoa(i)))
			}
			if err := s.Save(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			for i := range lost {
				gone = append(gone, mustPublish(t, b, "t", "lost"+itoa(i)))
			}
			rec.await(t, 10+lost)
			s.program.Kill()
			s.program.Start()
			waitFor(t, "the server", func() bool { return b.Ping(t.Context()) == nil })
			for _, id := range []hub.ID{gone[0], gone[len(gone)-1]} {
				p := wantPage(t, b, "t", id, true)
				if p.Next != kept[9] {
					t.Errorf("Next is %q, want %q", p.Next, kept[9])
				}
			}
			wantPage(t, b, "t", kept[9], false)
			if o.Follow == FollowXRead {
				// It has noticed before anything is published.
				waitFor(t, "Restored", func() bool {
					rec.mu.Lock()
					defer rec.mu.Unlock()
					return rec.restored > 0
				})
			}
			later := mustPublish(t, b, "t", "later")
			wantPage(t, b, "t", gone[len(gone)-1], true, later)
			wantPage(t, b, "t", kept[9], false, later)
			if o.Follow == FollowXRead {
				waitFor(t, "a message after the loss", func() bool { return rec.has("later") })
				if n := len(rec.all()); n != 10+lost+1 {
					t.Errorf("%d messages arrived, want %d: some came twice", n, 10+lost+1)
				}
			}
		}
	})
}
