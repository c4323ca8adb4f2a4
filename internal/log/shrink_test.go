package log

import (
	"strconv"
	"testing"
)

// TestRoomIsGivenBack: a log that was long does not keep the room when it is short, and still
// finds everything.
func TestRoomIsGivenBack(t *testing.T) {
	l := New[int]("base")
	for i := range 10_000 {
		l.Append(strconv.Itoa(i), 1, i)
	}
	for l.Len() > 10 {
		l.Evict()
	}
	if len(l.ring) > keepSlots {
		t.Errorf("room for %d entries is kept", len(l.ring))
	}
	for i := 9990; i < 10_000; i++ {
		next, ok := l.After(strconv.Itoa(i))
		if id, value := l.At(next - 1); !ok || id != strconv.Itoa(i) || value != i {
			t.Errorf("entry %d: %q, %d, %v", i, id, value, ok)
		}
	}
	for i := range 1000 {
		l.Append("again "+strconv.Itoa(i), 1, i)
	}
	if l.Len() != 1010 || l.Base() != "9989" {
		t.Errorf("%d entries after %q", l.Len(), l.Base())
	}
}
