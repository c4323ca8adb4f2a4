package hub

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestValidID(t *testing.T) {
	for _, id := range []ID{"0", "1700000000000-0", "aZ9.~_-", ID(strings.Repeat("x", MaxID))} {
		if !id.Valid() {
			t.Errorf("%q is not valid", id)
		}
	}
	bad := []ID{"", "a b", "a/b", "a:b", "é", "a\x7f", "a%"}
	for _, id := range badIDs {
		bad = append(bad, id)
	}
	for _, id := range bad {
		if id.Valid() {
			t.Errorf("%q is valid", id)
		}
	}
}

func TestJoinTopic(t *testing.T) {
	for _, test := range []struct {
		segments []string
		want     string
	}{
		{[]string{"tickets", "42"}, "tickets/42"},
		{[]string{"tickets", "a/b"}, "tickets/a%2Fb"},
		{[]string{"a%2Fb"}, "a%252Fb"},
		{[]string{"a\nb\u0085", "\xff\x80"}, "a%0Ab%C2%85/%FF%80"},
		{[]string{"日本", "\uFFFD"}, "日本/\uFFFD"},
		{[]string{"", ""}, "/"},
	} {
		if got := JoinTopic(test.segments...); got != test.want {
			t.Errorf("%q: %q, want %q", test.segments, got, test.want)
		}
	}
}

func FuzzJoinTopic(f *testing.F) {
	f.Add("a/b", "c%2F")
	f.Add("\xff", "\u0085")
	f.Fuzz(func(t *testing.T, a, b string) {
		name := JoinTopic("x", a, b)
		if err := CheckTopic(name); err != nil && len(name) <= MaxTopic {
			t.Errorf("%q: %v", name, err)
		}
		parts := strings.Split(name, "/")
		if len(parts) != 3 {
			t.Fatalf("%q has %d segments", name, len(parts))
		}
		for i, want := range []string{"x", a, b} {
			if got, err := url.PathUnescape(parts[i]); err != nil || got != want {
				t.Errorf("segment %d of %q is %q, %v, want %q", i, name, got, err, want)
			}
		}
	})
}

func TestErrorText(t *testing.T) {
	err := error(&Error{Op: "publish", Topic: "a\nb", Err: reject(ErrTopic)})
	if got, want := err.Error(), `hub: publish "a\nb": not appended: invalid topic name`; got != want {
		t.Errorf("%s", got)
	}
	if !errors.Is(err, ErrTopic) || !errors.Is(err, ErrRejected) {
		t.Error("the causes are not found")
	}
	err = &Error{Op: "shutdown", Err: ErrClosed}
	if got, want := err.Error(), "hub: shutdown: closed"; got != want {
		t.Errorf("%s", got)
	}
}

func TestKeyReachString(t *testing.T) {
	for reach, want := range map[KeyReach]string{KeysNone: "none", KeysWindow: "window", KeysStored: "stored", 99: "unknown"} {
		if got := reach.String(); got != want {
			t.Errorf("%d is %q, want %q", reach, got, want)
		}
	}
}

func TestNewNeedsABackend(t *testing.T) {
	if _, err := New(nil, Options{}); err == nil {
		t.Error("no error")
	}
}

// TestCheckType holds that CheckType says what Publish does.
func TestCheckType(t *testing.T) {
	types := []string{"", "a", " ", "message", "x-gap", "gaps", "größer", ";base6", strings.Repeat("x", maxType), strings.Repeat("x", maxType+1), "a;base64", ";base64", "a\nb", "a\tb", "a\u0085", "a\xff"}
	for reserved := range reservedTypes {
		types = append(types, reserved)
	}
	walk(t, chained, Options{}, func(t *testing.T, _ *fake, h *Hub) {
		good := 0
		for _, typ := range types {
			_, published := h.Publish(t.Context(), "t", Message{Type: typ})
			err := CheckType(typ)
			if (err == nil) != (published == nil) || err != nil && !errors.Is(err, ErrType) {
				t.Errorf("%q: CheckType: %v, Publish: %v", typ, err, published)
			}
			if err == nil {
				good++
			}
		}
		if good != 9 {
			t.Errorf("%d types are good", good)
		}
	})
}
