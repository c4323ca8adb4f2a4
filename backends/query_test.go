package backends_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headrace/headrace/backends"
)

func query(t *testing.T, raw string) *backends.Query {
	t.Helper()
	v, err := url.ParseQuery(raw)
	if err != nil {
		t.Fatal(err)
	}
	return backends.NewQuery(v)
}

func TestQueryValues(t *testing.T) {
	asBytes := func(q *backends.Query) any { return q.Bytes("x", 7, 1) }
	asInt := func(q *backends.Query) any { return q.Int("x", 7, -1) }
	asBool := func(q *backends.Query) any { return q.Bool("x", true) }
	asDuration := func(q *backends.Query) any { return q.Duration("x", time.Hour, 0) }
	asString := func(q *backends.Query) any { return q.String("x", "def") }
	asEnum := func(q *backends.Query) any { return q.Enum("x", "", "one", "two") }
	for _, tc := range []struct {
		raw  string
		get  func(*backends.Query) any
		want any
		err  string // "" for none
	}{
		{"", asBytes, int64(7), ""},
		{"x=4096", asBytes, int64(4096), ""},
		{"x=4096B", asBytes, int64(4096), ""},
		{"x=4KiB", asBytes, int64(4 << 10), ""},
		{"x=4MiB", asBytes, int64(4 << 20), ""},
		{"x=4GiB", asBytes, int64(4 << 30), ""},
		{"x=4kB", asBytes, int64(4e3), ""},
		{"x=4MB", asBytes, int64(4e6), ""},
		{"x=4GB", asBytes, int64(4e9), ""},
		{"x=0", asBytes, int64(7), "at least 1"},
		{"x=-1", asBytes, int64(7), "number of bytes"},
		{"x=4.5MiB", asBytes, int64(7), "number of bytes"},
		{"x=MiB", asBytes, int64(7), "number of bytes"},
		{"x=4M", asBytes, int64(7), "number of bytes"},
		{"x=9999999999GiB", asBytes, int64(7), "number of bytes"},
		{"x=17179869185GiB", asBytes, int64(7), "number of bytes"}, // 1 GiB more than 64 bits hold
		{"x=", asBytes, int64(7), "number of bytes"},
		{"", asInt, 7, ""},
		{"x=0", asInt, 0, ""},
		{"x=-1", asInt, -1, ""},
		{"x=-2", asInt, 7, "at least -1"},
		{"x=1e3", asInt, 7, "whole number"},
		{"x=", asInt, 7, "whole number"},
		{"x=99999999999999999999", asInt, 7, "whole number"},
		{"", asBool, true, ""},
		{"x=true", asBool, true, ""},
		{"x=false", asBool, false, ""},
		{"x=1", asBool, true, "true or false"},
		{"x=ture", asBool, true, "true or false"},
		{"", asDuration, time.Hour, ""},
		{"x=90s", asDuration, 90 * time.Second, ""},
		{"x=1h30m", asDuration, 90 * time.Minute, ""},
		{"x=0s", asDuration, time.Duration(0), ""},
		{"x=0", asDuration, time.Hour, "with unit"},
		{"x=90", asDuration, time.Hour, "with unit"},
		{"x=-1s", asDuration, time.Hour, "at least 0s"},
		{"", asString, "def", ""},
		{"x=", asString, "", ""},
		{"x=a%26b", asString, "a&b", ""},
		{"", asEnum, "", ""},
		{"x=two", asEnum, "two", ""},
		{"x=three", asEnum, "", "one of one, two"},
		{"x=1&x=1", asInt, 7, "more than once"},
		{"x=a&x=b", asString, "def", "more than once"},
	} {
		q := query(t, tc.raw)
		if got := tc.get(q); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.raw, got, tc.want)
		}
		err := q.Err()
		if tc.err == "" {
			if err != nil {
				t.Errorf("%q: %v", tc.raw, err)
			}
			continue
		}
		if !errors.Is(err, backends.ErrParameter) || !strings.Contains(fmt.Sprint(err), "parameter: x ") || !strings.Contains(fmt.Sprint(err), tc.err) {
			t.Errorf("%q: %v, want it to name x and say %q", tc.raw, err, tc.err)
		}
	}
}

func TestQueryStrings(t *testing.T) {
	q := query(t, "addr=a&addr=b")
	if got := q.Strings("addr"); !slices.Equal(got, []string{"a", "b"}) || q.Strings("none") != nil {
		t.Error(got)
	}
	if err := q.Err(); err != nil {
		t.Error(err)
	}
}

func TestQueryReportsEverything(t *testing.T) {
	q := query(t, "n=x&d=1&mesages=5&Weird!=1&ok=1")
	q.Int("n", 0, 0)
	q.Duration("d", 0, 0)
	q.Int("messages", 0, 0)
	q.Int("ok", 0, 0)
	const known = " (known: d, messages, n, ok)"
	want := `backends: invalid parameter: n must be a whole number, at least 0
backends: invalid parameter: d must be a duration with unit such as 90s or 24h, at least 0s
backends: invalid parameter: an unknown one` + known + `
backends: invalid parameter: mesages is unknown` + known
	if err := q.Err(); fmt.Sprint(err) != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}
