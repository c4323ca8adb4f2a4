package payload

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestMessage(t *testing.T) {
	for _, size := range []int{0, MinSize, 200} {
		m := Message(size, 1<<40+5)
		if len(m) != max(size, MinSize) {
			t.Errorf("size %d: got %d bytes", size, len(m))
		}
		if !json.Valid(m) {
			t.Errorf("not JSON: %s", m)
		}
		if bytes.Count(m, []byte{Mark}) != 1 || bytes.IndexByte(m, Probe) >= 0 {
			t.Errorf("marks are wrong: %s", m)
		}
		_, after, _ := bytes.Cut(m, []byte{Mark})
		if at, ok := Stamp(after); !ok || at != 1<<40+5 {
			t.Errorf("stamp %d, %v", at, ok)
		}
	}
}

func TestProbeMessage(t *testing.T) {
	m := ProbeMessage(200)
	if len(m) != 200 || !json.Valid(m) || bytes.Count(m, []byte{Probe}) != 1 || bytes.IndexByte(m, Mark) >= 0 {
		t.Errorf("got %s", m)
	}
}

func TestStampInterrupted(t *testing.T) {
	for _, b := range []string{"", "000000000000000", "00000000\r\n3f\r\n00000000"} {
		if _, ok := Stamp([]byte(b)); ok {
			t.Errorf("%q is taken for a time", b)
		}
	}
}

func TestNowGoesOn(t *testing.T) {
	if a, b := Now(), Now(); a <= 0 || b < a {
		t.Errorf("%d, then %d", a, b)
	}
}
