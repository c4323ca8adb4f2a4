package log

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestEmptyLog(t *testing.T) {
	l := New[int]("base")
	if l.Len() != 0 || l.Bytes() != 0 || l.First() != l.Next() || l.Base() != "base" || l.Last() != "base" || l.Has("base") {
		t.Errorf("%+v", l)
	}
	if seq, ok := l.After("base"); !ok || seq != l.First() {
		t.Errorf("After the base: %d, %v", seq, ok)
	}
	if _, ok := l.After("other"); ok {
		t.Error("an unknown ID is found")
	}
}

func TestBaseWithoutAName(t *testing.T) {
	l := New[int]("")
	l.Append("a", 1, 1)
	if _, ok := l.After(""); ok {
		t.Error("the empty ID names a place")
	}
	l.Evict()
	if seq, ok := l.After("a"); !ok || seq != l.First() {
		t.Errorf("After the evicted: %d, %v", seq, ok)
	}
}

func TestResetSkipsASequenceNumber(t *testing.T) {
	for _, entries := range []int{0, 1, 5} {
		l := New[int]("base")
		for i := range entries {
			l.Append(fmt.Sprint(i), 1, i)
		}
		end := l.Next() // the place of a reader who had read everything
		l.Reset("new")
		if l.First() <= end {
			t.Errorf("%d entries: First is %d, a reader may be at %d", entries, l.First(), end)
		}
		if l.Len() != 0 || l.Bytes() != 0 || l.Base() != "new" || l.Last() != "new" || l.Has("0") {
			t.Errorf("%d entries: %+v", entries, l)
		}
		if _, ok := l.After("base"); ok {
			t.Errorf("%d entries: the old base is still known", entries)
		}
	}
}

func TestChanged(t *testing.T) {
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	l := New[int]("base")
	changes := []struct {
		name   string
		change func()
		wakes  bool
	}{
		{"Append", func() { l.Append("a", 1, 1) }, true},
		{"Evict", func() { l.Evict() }, false},
		{"Reset", func() { l.Reset("new") }, true},
		{"Wake", l.Wake, true},
	}
	for _, c := range changes {
		one, two := l.Changed(), l.Changed()
		if one != two {
			t.Errorf("%s: two channels for one change", c.name)
		}
		if closed(one) {
			t.Errorf("%s: closed before", c.name)
		}
		if c.change(); closed(one) != c.wakes {
			t.Errorf("%s: closed %v, want %v", c.name, !c.wakes, c.wakes)
		}
	}
	l.Wake()
	if closed(l.Changed()) {
		t.Error("the channel of a later change is closed")
	}
}

func TestChangesNobodyWaitsForCostNoChannel(t *testing.T) {
	l := New[int]("base")
	l.Changed()
	l.Wake()
	if n := testing.AllocsPerRun(100, l.Wake); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestConcurrentReaders uses what may be used at once under a lock that readers share.
func TestConcurrentReaders(t *testing.T) {
	var mu sync.RWMutex
	l := New[int]("base")
	const entries = 1000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			seq := uint64(0)
			for n := 0; n < entries; {
				mu.RLock()
				for ; seq < l.Next(); seq++ {
					if _, v := l.At(seq); v != n {
						t.Errorf("got %d, want %d", v, n)
					}
					n++
				}
				changed := l.Changed()
				mu.RUnlock()
				if n < entries {
					<-changed
				}
			}
		})
	}
	for i := range entries {
		mu.Lock()
		l.Append(fmt.Sprint(i), 1, i)
		mu.Unlock()
	}
	wg.Wait()
}

// naive is what a Log has to be like.
type naive struct {
	entries []entry
	first   uint64
	base    string
}

type entry struct {
	id    string
	size  int
	value int
}

func TestLogIsLikeASlice(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		l, m := New[int]("base"), naive{base: "base"}
		bound := 1 + random.IntN(70)
		for n := range 500 {
			switch k := random.IntN(20); {
			case k < 12:
				e := entry{id: fmt.Sprint("id", n), size: random.IntN(100), value: n}
				l.Append(e.id, e.size, e.value)
				m.entries = append(m.entries, e)
				for len(m.entries) > bound {
					m.evict(t, l)
				}
			case k < 19:
				if len(m.entries) > 0 {
					m.evict(t, l)
				}
			default:
				m.first += uint64(len(m.entries)) + 1
				m.entries, m.base = nil, []string{"", fmt.Sprint("base", n)}[random.IntN(2)]
				l.Reset(m.base)
			}
			m.compare(t, l)
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, n)
			}
		}
	}
}

func (m *naive) evict(t *testing.T, l *Log[int]) {
	oldest := m.entries[0]
	m.entries = slices.Clone(m.entries[1:])
	m.first++
	m.base = oldest.id
	if got := l.Evict(); got != oldest.value {
		t.Errorf("evicted %d, want %d", got, oldest.value)
	}
	if l.Has(oldest.id) {
		t.Errorf("%s is still there", oldest.id)
	}
}

func (m *naive) compare(t *testing.T, l *Log[int]) {
	var bytes int64
	last := m.base
	for i, e := range m.entries {
		bytes += int64(e.size)
		last = e.id
		seq := m.first + uint64(i)
		if id, v := l.At(seq); id != e.id || v != e.value {
			t.Errorf("At(%d) is %s %d, want %s %d", seq, id, v, e.id, e.value)
		}
		if next, ok := l.After(e.id); !ok || next != seq+1 || !l.Has(e.id) {
			t.Errorf("After(%s) is %d, %v, want %d", e.id, next, ok, seq+1)
		}
	}
	if seq, ok := l.After(m.base); ok != (m.base != "") || ok && seq != m.first {
		t.Errorf("After the base %q is %d, %v, want %d", m.base, seq, ok, m.first)
	}
	if l.Len() != len(m.entries) || l.Bytes() != bytes || l.First() != m.first || l.Next() != m.first+uint64(len(m.entries)) ||
		l.Base() != m.base || l.Last() != last {
		t.Errorf("%d entries of %d bytes from %d to %d, base %q, last %q; want %d, %d, %d, %q, %q",
			l.Len(), l.Bytes(), l.First(), l.Next(), l.Base(), l.Last(), len(m.entries), bytes, m.first, m.base, last)
	}
}

func TestReplace(t *testing.T) {
	l := New[int]("base")
	l.Append("a", 5, 1)
	l.Append("b", 7, 2)
	changes := l.Changes()
	l.Replace(l.First(), 1, 3)
	if id, v := l.At(l.First()); id != "a" || v != 3 || l.Bytes() != 8 || l.Changes() != changes {
		t.Errorf("%s %d, %d bytes", id, v, l.Bytes())
	}
	if l.Evict(); l.Bytes() != 7 {
		t.Errorf("%d bytes", l.Bytes())
	}
}
