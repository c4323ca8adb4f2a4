package sse

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

func TestAppendEvent(t *testing.T) {
	type point struct{ X, Y int }
	tests := []struct {
		name  string
		event Event
		want  string
	}{
		{"string", Event{Data: "a"}, "data: a\n\n"},
		{"bytes", Event{Data: []byte("a")}, "data: a\n\n"},
		{"nil bytes", Event{Data: []byte(nil)}, "data: \n\n"},
		{"empty string", Event{Data: ""}, "data: \n\n"},
		{"number", Event{Data: 1}, "data: 1\n\n"},
		{"struct", Event{Data: point{1, 2}}, "data: {\"X\":1,\"Y\":2}\n\n"},
		{"typed nil", Event{Data: (*point)(nil)}, "data: null\n\n"},
		{"raw JSON is one line", Event{Data: json.RawMessage("{\n\"a\": 1\n}")}, "data: {\"a\":1}\n\n"},
		{"JSON is encoded once", Event{Data: []string{"a\nb"}}, "data: [\"a\\nb\"]\n\n"},
		{"order", Event{ID: "1", Type: "t", Data: "a", Retry: time.Second}, "retry: 1000\nevent: t\ndata: a\nid: 1\n\n"},
		{"leading space", Event{ID: " 1", Type: " t", Data: " a"}, "event:  t\ndata:  a\nid:  1\n\n"},
		{"LF", Event{Data: "a\nb"}, "data: a\ndata: b\n\n"},
		{"CR", Event{Data: "a\rb"}, "data: a\ndata: b\n\n"},
		{"CRLF", Event{Data: "a\r\nb"}, "data: a\ndata: b\n\n"},
		{"LFCR", Event{Data: "a\n\rb"}, "data: a\ndata: \ndata: b\n\n"},
		{"line ends at the ends", Event{Data: "\na\r"}, "data: \ndata: a\ndata: \n\n"},
		{"separators that are not line ends", Event{Data: "a\u2028b\u0085"}, "data: a\u2028b\u0085\n\n"},
		{"type and nil", Event{Type: "t"}, "event: t\ndata: \n\n"},
		{"type, id and nil", Event{Type: "t", ID: "1"}, "event: t\ndata: \nid: 1\n\n"},
		{"id and nil", Event{ID: "1"}, "id: 1\n\n"},
		{"id, retry and nil", Event{ID: "1", Retry: time.Second}, "retry: 1000\nid: 1\n\n"},
		{"retry and nil", Event{Retry: time.Second}, "retry: 1000\n"},
		{"retry rounds up", Event{Retry: time.Millisecond + 1, Data: "a"}, "retry: 2\ndata: a\n\n"},
		{"longest retry", Event{Retry: math.MaxInt64}, "retry: 9223372036855\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := AppendEvent([]byte("before"), test.event)
			if err != nil {
				t.Fatal(err)
			}
			if want := "before" + test.want; string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestAppendEventRefuses(t *testing.T) {
	tests := []struct {
		name    string
		event   Event
		invalid bool
	}{
		{"LF in id", Event{ID: "1\n2", Data: "a"}, true},
		{"CR in id", Event{ID: "1\r", Data: "a"}, true},
		{"NUL in id", Event{ID: "\x00", Data: "a"}, true},
		{"LF in type", Event{Type: "\nt", Data: "a"}, true},
		{"CR in type", Event{Type: "t\ru", Data: "a"}, true},
		{"NUL in type", Event{Type: "t\x00", Data: "a"}, true},
		{"negative retry", Event{Retry: -1, Data: "a"}, true},
		{"empty", Event{}, true},
		{"not JSON", Event{ID: "1", Retry: time.Second, Data: func() {}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			backing := []byte("before-------------------------------")
			dst := backing[:6]
			got, err := AppendEvent(dst, test.event)
			if err == nil || errors.Is(err, ErrInvalid) != test.invalid {
				t.Errorf("error %v, want ErrInvalid: %v", err, test.invalid)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "sse: ") {
				t.Errorf("error %q does not name its package", err)
			}
			if string(got) != "before" || &got[0] != &dst[0] {
				t.Errorf("dst came back as %q", got)
			}
			if _, ok := test.event.Data.(string); ok {
				if got, err := AppendFrame(dst, test.event.ID, test.event.Type, nil); test.event.Retry == 0 &&
					(!errors.Is(err, ErrInvalid) || string(got) != "before") {
					t.Errorf("AppendFrame: %q, %v", got, err)
				}
			}
		})
	}
	var unsupported *json.UnsupportedTypeError
	if _, err := AppendEvent(nil, Event{Data: func() {}}); !errors.As(err, &unsupported) {
		t.Errorf("error %v hides that of encoding/json", err)
	}
}

func TestAppendFrameIsAppendEvent(t *testing.T) {
	for _, data := range []string{"", "a", "a\nb\r\nc\rd", strings.Repeat("x", 5000) + "\r\n" + strings.Repeat("y\r", 5000)} {
		frame, err := AppendFrame(nil, "1", "t", []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []any{data, []byte(data)} {
			event, err := AppendEvent(nil, Event{ID: "1", Type: "t", Data: value})
			if err != nil || !bytes.Equal(frame, event) {
				t.Errorf("%T %.20q: %v: %q, want %q", value, data, err, event, frame)
			}
		}
	}
}

func TestAppendFrameDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 1<<10)
	data := []byte("first line\nsecond line\r\nthird")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := AppendFrame(dst, "1-0", "assigned", data); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	event := Event{ID: "1-0", Type: "assigned", Data: string(data)}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := AppendEvent(dst, event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a string", n)
	}
}

// Data made of CRs only has one line a byte. Were each to cost the rest of the
// data, this test would take minutes.
func TestSplittingIsLinear(t *testing.T) {
	const lines = 4 << 20
	frame, err := AppendFrame(nil, "", "", bytes.Repeat([]byte("\r"), lines-1))
	if err != nil || len(frame) != lines*len("data: \n")+1 {
		t.Errorf("%d bytes, %v", len(frame), err)
	}
}

func TestAppendComment(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", Heartbeat},
		{"ok", ": ok\n"},
		{"a\nb", ": a\n: b\n"},
		{"a\r\nb\rc", ": a\n: b\n: c\n"},
		{"a\n", ": a\n:\n"},
		{"\n\na", ":\n:\n: a\n"},
	}
	for _, test := range tests {
		if got := string(AppendComment([]byte("x"), test.text)); got != "x"+test.want {
			t.Errorf("%q: got %q, want %q", test.text, got, "x"+test.want)
		}
	}
}

func TestAppendRetry(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "retry: 0\n"},
		{-time.Second, "retry: 0\n"},
		{1, "retry: 1\n"},
		{3 * time.Second, "retry: 3000\n"},
	}
	for _, test := range tests {
		if got := string(AppendRetry(nil, test.d)); got != test.want {
			t.Errorf("%v: got %q, want %q", test.d, got, test.want)
		}
	}
}

func TestEventText(t *testing.T) {
	tests := []struct {
		data any
		want string
	}{
		{nil, ""}, {"a", "a"}, {[]byte("b"), "b"}, {[]int{1}, "[1]"}, {func() {}, ""},
	}
	for _, test := range tests {
		if got := (Event{Data: test.data}).Text(); got != test.want {
			t.Errorf("%T: got %q, want %q", test.data, got, test.want)
		}
	}
}

func TestEventDecode(t *testing.T) {
	for _, data := range []any{`{"a":1}`, []byte(`{"a":1}`), map[string]int{"a": 1}} {
		var v struct{ A int }
		if err := (Event{Data: data}).Decode(&v); err != nil || v.A != 1 {
			t.Errorf("%T: %+v, %v", data, v, err)
		}
	}
	var syntax *json.SyntaxError
	if err := (Event{Data: "no"}).Decode(new(int)); !errors.As(err, &syntax) {
		t.Errorf("error %v hides that of encoding/json", err)
	}
	if err := (Event{}).Decode(new(int)); err == nil {
		t.Error("no data decoded")
	}
}

// writes keeps each Write apart.
type writes struct {
	got   []string
	short bool
	err   error
}

func (w *writes) Write(p []byte) (int, error) {
	w.got = append(w.got, string(p))
	if w.short {
		return len(p) - 1, w.err
	}
	return len(p), w.err
}

func TestEncoder(t *testing.T) {
	var w writes
	e := NewEncoder(&w)
	if err := e.Encode(Event{ID: "1", Type: "t", Data: "a\nb"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Encode(Event{ID: "\n"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("error %v", err)
	}
	if err := e.Encode(Event{Data: strings.Repeat("x", 2*keepBytes)}); err != nil {
		t.Fatal(err)
	}
	if cap(e.buf) > keepBytes {
		t.Errorf("a buffer of %d bytes was kept", cap(e.buf))
	}
	if len(w.got) != 2 || w.got[0] != "event: t\ndata: a\ndata: b\nid: 1\n\n" {
		t.Errorf("writes: %.60q", w.got)
	}
	if err := NewEncoder(&writes{short: true}).Encode(Event{Data: "a"}); err != io.ErrShortWrite {
		t.Errorf("a short write gave %v", err)
	}
	if err := NewEncoder(&writes{err: io.ErrClosedPipe}).Encode(Event{Data: "a"}); err != io.ErrClosedPipe {
		t.Errorf("a failed write gave %v", err)
	}
}
