package backends

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/hub"
)

func TestParseRetention(t *testing.T) {
	for _, tc := range []struct {
		values []string
		want   []hub.Retention // nil when it is wrong
		says   string
	}{
		{nil, nil, ""},
		{[]string{"orders/:1000::10m"}, []hub.Retention{{Prefix: "orders/", Messages: 1000, Age: 10 * time.Minute}}, ""},
		{[]string{"a::4MiB:", ":5::"}, []hub.Retention{{Prefix: "a", Bytes: 4 << 20}, {Messages: 5}}, ""},
		{[]string{"a:b:c:7:1KiB:1s"}, []hub.Retention{{Prefix: "a:b:c", Messages: 7, Bytes: 1024, Age: time.Second}}, ""},
		{[]string{"a:::"}, []hub.Retention{{Prefix: "a"}}, ""},
		{[]string{"a:1:2"}, nil, "the form is"},
		{[]string{""}, nil, "the form is"},
		{[]string{"a:0::"}, nil, "messages must be"},
		{[]string{"a::x:"}, nil, "bytes must be"},
		{[]string{"a:::5"}, nil, "age must be"},
		{[]string{"a:1::", "a:2::"}, nil, "twice"},
		{[]string{"secret:-1:-1:-1"}, nil, "messages must be"},
	} {
		got, err := ParseRetention(tc.values)
		if tc.says == "" {
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%q: %+v, %v, want %+v", tc.values, got, err, tc.want)
			}
			continue
		}
		if !errors.Is(err, ErrParameter) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "retain") ||
			strings.Contains(err.Error(), "secret") || got != nil {
			t.Errorf("%q: %+v, %v, want %q", tc.values, got, err, tc.says)
		}
	}
}
