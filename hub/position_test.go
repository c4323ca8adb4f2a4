package hub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestPositions(t *testing.T) {
	tests := []struct {
		at    Position
		start ID
		want  string
	}{
		{Position{}, "6", "7"},
		{Latest(), "6", "7"},
		{Earliest(), "", "3 4 5 6 7"},
		{After("2"), "2", "3 4 5 6 7"}, // retention passed 2, and 3 is still there
		{After("5"), "5", "6 7"},
		{After("6"), "6", "7"},
		{After("1"), "1", "ErrGap"},
		{After("9"), "9", "ErrGap"},
	}
	eachReplay(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 5)
		b.trim("t", 3)
		subscribe(t, h, "t", Latest())
		b.add("t", 1) // only this one is in the window
		var readers []reader
		for _, test := range tests {
			r := subscribe(t, h, "t", test.at)
			if r.Start() != test.start {
				t.Errorf("%v: Start is %q, want %q", test.at, r.Start(), test.start)
			}
			if r.Topic() != "t" {
				t.Errorf("Topic is %q", r.Topic())
			}
			readers = append(readers, r)
		}
		b.add("t", 1)
		for i, test := range tests {
			if got := readers[i].now(); got != test.want {
				t.Errorf("%v: got %q, want %q", test.at, got, test.want)
			}
		}
	})
}

func TestPositionsWithoutReplay(t *testing.T) {
	walkBoth(t, liveOnly, Options{Window: 3}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 2)
		first := subscribe(t, h, "t", Earliest())
		if first.Start() != "2" {
			t.Errorf("Start is %q", first.Start())
		}
		b.add("t", 5)
		tests := []struct {
			at          Position
			start       ID
			want, marks string
		}{
			{Latest(), "7", "8", "8"},
			{Earliest(), "4", "5 6 7 8", "5 6 7 8"},
			{After("4"), "4", "5 6 7 8", "5 6 7 8"},
			{After("6"), "6", "7 8", "7 8"},
			{After("3"), "3", "ErrGap", "gap 6 7 8"},
			{After("2"), "2", "ErrGap", "gap 6 7 8"},
		}
		var readers, marking []reader
		for _, test := range tests {
			r := subscribe(t, h, "t", test.at)
			if r.Start() != test.start {
				t.Errorf("%v: Start is %q, want %q", test.at, r.Start(), test.start)
			}
			readers = append(readers, r)
			marking = append(marking, subscribe(t, h, "t", test.at, MarkGaps()))
		}
		readers[1].want("5 6 7")
		readers[2].want("5 6 7")
		marking[1].want("5 6 7")
		marking[2].want("5 6 7")
		b.add("t", 1)
		for i, test := range tests {
			got, want := readers[i].now(), strings.TrimPrefix(test.want, "5 6 7 ")
			if got != want {
				t.Errorf("%v: got %q, want %q", test.at, got, want)
			}
			got, want = marking[i].now(), strings.TrimPrefix(test.marks, "5 6 7 ")
			if got != want {
				t.Errorf("%v, marking gaps: got %q, want %q", test.at, got, want)
			}
		}
		// first never read: it fell out of the window.
		first.want("ErrGap")
	})
}

func TestEmptyTopics(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		var readers []reader
		for _, at := range []Position{Latest(), Earliest(), After("0")} {
			r := subscribe(t, h, "t", at)
			if r.Start() != "0" {
				t.Errorf("%v: Start is %q", at, r.Start())
			}
			r.want("")
			readers = append(readers, r)
		}
		b.add("t", 2)
		for _, r := range readers {
			r.want("1 2")
		}
	})
}

func TestSubscribeAgainAfterStart(t *testing.T) {
	eachReplay(t, Options{Window: 2}, func(t *testing.T, b *fake, h *Hub) {
		b.add("t", 3)
		for _, at := range []Position{Latest(), After("0"), After("2")} {
			r := subscribe(t, h, "t", at)
			b.add("t", 5)
			again := subscribe(t, h, "t", After(r.Start()))
			if got, want := again.now(), r.now(); got != want {
				t.Errorf("%v: again %q, at first %q", at, got, want)
			}
		}
	})
}

var badIDs = map[string]ID{
	"long":      ID(strings.Repeat("7", 10_000)),
	"too long":  ID(strings.Repeat("7", MaxID+1)),
	"binary":    "\xff\xfe\x00\x01",
	"NUL":       "7\x00",
	"a space":   " 7",
	"a newline": "7\n",
}

func TestMalformedIDsAreGaps(t *testing.T) {
	for name, id := range badIDs {
		t.Run(name, func(t *testing.T) {
			each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
				marks := subscribe(t, h, "t", After(id), MarkGaps())
				b.add("t", 2)
				ends := subscribe(t, h, "t", After(id))
				if ends.Start() != "" {
					t.Errorf("Start is %q", ends.Start())
				}
				ends.want("ErrGap")
				marks.want("gap 1 2")
				b.add("t", 1)
				marks.want("3")
				for _, call := range b.reads {
					if call.after == id {
						t.Error("the backend was asked for it")
					}
				}
			})
		})
	}
}

func TestMalformedIDOfAnEmptyTopicIsAGapAtOnce(t *testing.T) {
	each(t, Options{}, func(t *testing.T, b *fake, h *Hub) {
		r := subscribe(t, h, "t", After("\xff"), MarkGaps())
		r.want("gap")
		b.add("t", 1)
		r.want("1")
	})
}

func FuzzAfter(f *testing.F) {
	for _, id := range badIDs {
		f.Add(string(id))
	}
	f.Add("2")
	f.Add("")
	b := newFake(chained)
	b.add("t", 3)
	h, err := New(b, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, id string) {
		s, err := h.Subscribe(context.Background(), "t", After(ID(id)), MarkGaps())
		if id == "" {
			if !errors.Is(err, ErrPosition) {
				t.Errorf("error %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		known := slices.Contains([]string{"0", "1", "2", "3"}, id)
		for batch := s.Poll(nil, 10, 1<<20); batch.Status != Waiting; batch = s.Poll(nil, 10, 1<<20) {
			if batch.Status == Behind {
				if err := s.Fetch(context.Background()); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if batch.Gap == known {
				t.Errorf("gap %v", batch.Gap)
			}
		}
	})
}
