package backends_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
)

func TestParseRetention(t *testing.T) {
	for _, tc := range []struct {
		values string // with spaces between them
		want   []hub.Retention
		says   string // "" for no error
	}{
		{"", nil, ""},
		{"orders/:1000::10m", []hub.Retention{{Prefix: "orders/", Messages: 1000, Age: 10 * time.Minute}}, ""},
		{"::4MiB: a:b:1::", []hub.Retention{{Bytes: 4 << 20}, {Prefix: "a:b", Messages: 1}}, ""},
		{"a::4096:1h a/:::1ms", []hub.Retention{{Prefix: "a", Bytes: 4096, Age: time.Hour}, {Prefix: "a/", Age: time.Millisecond}}, ""},
		{"a::1KiB: b::2GiB:", []hub.Retention{{Prefix: "a", Bytes: 1 << 10}, {Prefix: "b", Bytes: 2 << 30}}, ""},
		{"secret:1:1", nil, "must be <prefix>"},
		{"secret", nil, "must be <prefix>"},
		{"secret:::", nil, "messages, bytes or an age"},
		{"secret:0::", nil, "whole number of messages"},
		{"secret:-1::", nil, "whole number of messages"},
		{"secret:1e3::", nil, "whole number of messages"},
		{"secret::0:", nil, "number of bytes"},
		{"secret::-1:", nil, "number of bytes"},
		{"secret::4M:", nil, "number of bytes"},
		{"secret::9999999999GiB:", nil, "number of bytes"},
		{"secret:::10", nil, "age with unit"},
		{"secret:::0s", nil, "age with unit"},
		{"secret:::-1s", nil, "age with unit"},
		{"secret:1:: b:1:: secret:::1s", nil, "a prefix twice"},
	} {
		got, err := backends.ParseRetention(strings.Fields(tc.values))
		if !slices.Equal(got, tc.want) {
			t.Errorf("%q: %+v, want %+v", tc.values, got, tc.want)
		}
		switch {
		case tc.says == "" && err == nil:
		case tc.says == "" || err == nil:
			t.Errorf("%q: %v", tc.values, err)
		case !errors.Is(err, backends.ErrParameter) || !strings.Contains(err.Error(), "retain ") || !strings.Contains(err.Error(), tc.says):
			t.Errorf("%q: %v, want it to name retain and say %q", tc.values, err, tc.says)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: %v shows the value", tc.values, err)
		}
	}
}
