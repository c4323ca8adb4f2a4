package memory

import (
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends"
	"github.com/headrace/headrace/hub"
)

// Each parameter sets its field and no other, and each field has its parameter.
func TestParameters(t *testing.T) {
	table := []struct {
		raw  string
		want Options
	}{
		{"messages=5", Options{MaxMessages: 5}},
		{"bytes=4MiB", Options{MaxBytes: 4 << 20}},
		{"age=90s", Options{MaxAge: 90 * time.Second}},
		{"forever=true", Options{KeepForever: true}},
		{"keys=10m", Options{KeyWindow: 10 * time.Minute}},
		{"total=1GiB", Options{MaxTotalBytes: 1 << 30}},
		{"retain=a/:9::1h&retain=b::1KiB:", Options{Retention: []hub.Retention{
			{Prefix: "a/", Messages: 9, Age: time.Hour}, {Prefix: "b", Bytes: 1024},
		}}},
	}
	if fields := reflect.TypeFor[Options]().NumField(); len(table) != fields {
		t.Errorf("%d parameters for %d fields", len(table), fields)
	}
	for _, tc := range table {
		v, _ := url.ParseQuery(tc.raw)
		got, err := options(backends.NewQuery(v))
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v, want %+v", tc.raw, got, err, tc.want)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, tc := range []struct {
		url  string
		is   error // nil when it opens
		want string
	}{
		{"memory://", nil, ""},
		{"memory://?messages=10&age=1h", nil, ""},
		{"memory://host", backends.ErrURL, "neither user, host nor path"},
		{"memory:///path", backends.ErrURL, "neither user, host nor path"},
		{"memory://user:pw@", backends.ErrURL, "neither user, host nor path"},
		{"memory://?messages=0", backends.ErrParameter, "messages must be a whole number, at least 1"},
		{"memory://?age=1", backends.ErrParameter, "age must be a duration"},
		{"memory://?history=5", backends.ErrParameter, "history is unknown (known: age, bytes, forever, keys, messages, retain, total)"},
		{"memory://?retain=a", backends.ErrParameter, "retain"},
	} {
		b, err := backends.Open(t.Context(), tc.url)
		if tc.is == nil {
			if err != nil {
				t.Errorf("%s: %v", tc.url, err)
				continue
			}
			b.Close()
			continue
		}
		if b != nil || !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v, want %q", tc.url, b, err, tc.want)
		}
	}
}
