package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headrace/headrace/integration/bench/internal/payload"
)

func TestTopics(t *testing.T) {
	for _, c := range []struct {
		name          string
		options       Options
		topics, third []string
		path          string
	}{
		{"one", Options{Width: 1}, []string{"load"}, []string{"load"}, "/events"},
		{"two", Options{Width: 2}, []string{"load/0", "load/1"}, []string{"load/0", "load/1"}, "/events"},
		{"its own", Options{Width: 3, Own: true}, []string{"load/0", "load/1"}, []string{"load/0", "load/1", "own/3"}, "/events/{n}"},
		{"spread", Options{Width: 1, Spread: 2}, []string{"load/0", "load/1"}, []string{"load/1"}, "/events/{n}"},
	} {
		if got := c.options.Topics(); !slices.Equal(got, c.topics) {
			t.Errorf("%s: published to %q", c.name, got)
		}
		if got := c.options.Path(); got != c.path {
			t.Errorf("%s: path %q", c.name, got)
		}
		number := Connection(strings.ReplaceAll("/events/{n}", Number, "3"))
		if got := c.options.Follows(number); !slices.Equal(got, c.third) {
			t.Errorf("%s: the third follows %q", c.name, got)
		}
	}
	if n := Connection("/events"); n != 0 {
		t.Errorf("connection %d", n)
	}
}

func TestPublishTakesTopicsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		count, err := publish(f.server(1, "a", "b", "c"), newGate(), time.Second, 4, 200, 0)
		if want := []string{"a", "b", "c", "a"}; err != nil || count != 4 || !slices.Equal(f.topics, want) {
			t.Errorf("%d messages to %q: %v", count, f.topics, err)
		}
	})
}

// TestPublishEndsARound: with topics that have receivers of their own each topic gets as many.
func TestPublishEndsARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		if count, err := publish(f.server(3, "a", "b", "c"), newGate(), time.Second, 4, 200, 0); err != nil || count != 6 {
			t.Errorf("paced: %d messages: %v", count, err)
		}
		f, g := &fake{}, newGate()
		done := make(chan int)
		go func() {
			count, _ := publish(f.server(4, "a", "b", "c", "d"), g, time.Second, 0, 200, 2)
			done <- count
		}()
		g.open(3)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(f.messages) != 5 {
			t.Errorf("%d messages when 3 have arrived", len(f.messages))
		}
		g.open(100)
		if count := <-done; count != 8 || len(f.messages) != 8 {
			t.Errorf("%d messages at the end", count)
		}
	})
}

func TestProbesReachAllTopics(t *testing.T) {
	f := &fake{}
	s := f.server(1, "a", "b")
	for command, want := range map[string][]string{"probe": {"a", "b"}, "own 3": {"own/0", "own/1", "own/2"}} {
		f.topics = nil
		if answer, err := execute(s, newGate(), strings.Fields(command)); answer != "ok" || err != nil || !slices.Equal(f.topics, want) {
			t.Errorf("%s: %q, %v, to %q", command, answer, err, f.topics)
		}
	}
	for _, m := range f.messages {
		if slices.Contains(m, payload.Mark) {
			t.Errorf("counted: %s", m)
		}
	}
}

func TestProfiles(t *testing.T) {
	s := (&fake{}).server(1, "a")
	do := func(words ...string) error {
		_, err := execute(s, newGate(), words)
		return err
	}
	// Without a folder nothing happens.
	for _, words := range [][]string{{"profile", "x"}, {"profile", "-"}, {"heap", "x"}} {
		if err := do(words...); err != nil {
			t.Errorf("%q: %v", words, err)
		}
	}
	s.profile.folder = t.TempDir()
	for i, words := range [][]string{{"profile", "one"}, {"profile", "two"}, {"profile", "-"}, {"profile", "-"}, {"heap", "../three"}} {
		if err := do(words...); err != nil {
			t.Errorf("%d: %q: %v", i, words, err)
		}
	}
	for _, name := range []string{"one", "two", "three"} {
		if info, err := os.Stat(filepath.Join(s.profile.folder, name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := do("profile"); err == nil {
		t.Error("a profile without a name is taken")
	}
	s.profile.folder = filepath.Join(s.profile.folder, "nowhere")
	for _, word := range []string{"profile", "heap"} {
		if err := do(word, "x"); err == nil {
			t.Error(fmt.Sprint(word, " into no folder is taken"))
		}
	}
}
