package backends

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query gives typed access to the query parameters of a URL, strictly: what is malformed,
// repeated or not asked for is an error. Each method asks for one parameter and returns its
// value, or def when it is absent or wrong; what was wrong is collected for Err.
//
// A Query is for one goroutine.
type Query struct {
	values url.Values
	asked  map[string]bool
	errs   []error
}

// NewQuery returns a Query of values, for openers that are used without a Registry and for tests.
// The values are not modified.
func NewQuery(values url.Values) *Query {
	return &Query{values: values, asked: make(map[string]bool)}
}

// String returns the parameter as it is.
func (q *Query) String(name, def string) string {
	s, ok := q.one(name)
	if !ok {
		return def
	}
	return s
}

// Strings returns all values of a parameter that may be repeated, in their order, nil when it is
// absent.
func (q *Query) Strings(name string) []string {
	q.asked[name] = true
	return slices.Clone(q.values[name])
}

// Enum returns the parameter, which must be one of the allowed values.
func (q *Query) Enum(name, def string, allowed ...string) string {
	s, ok := q.one(name)
	if !ok {
		return def
	}
	if !slices.Contains(allowed, s) {
		q.fail(name, "must be one of "+strings.Join(allowed, ", "))
		return def
	}
	return s
}

// Bool returns the parameter, which must be true or false.
func (q *Query) Bool(name string, def bool) bool {
	switch s, ok := q.one(name); {
	case !ok:
		return def
	case s == "true":
		return true
	case s == "false":
		return false
	}
	q.fail(name, "must be true or false")
	return def
}

// Int returns the parameter, which must be a whole number not less than least.
func (q *Query) Int(name string, def, least int) int {
	s, ok := q.one(name)
	if !ok {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least {
		q.fail(name, fmt.Sprintf("must be a whole number, at least %d", least))
		return def
	}
	return n
}

var byteUnits = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"B", 1}, // last: it ends the others
}

// Bytes returns the parameter, a number of bytes not less than least: a whole number, alone or
// followed by B, kB, MB, GB, KiB, MiB or GiB.
func (q *Query) Bytes(name string, def, least int64) int64 {
	s, ok := q.one(name)
	if !ok {
		return def
	}
	n, ok := parseBytes(s)
	if !ok || n < least {
		q.fail(name, fmt.Sprintf("must be a number of bytes such as 4096 or 4MiB, at least %d", least))
		return def
	}
	return n
}

// parseBytes reads a number of bytes that is not negative, alone or followed by its unit.
func parseBytes(s string) (n int64, ok bool) {
	factor := int64(1)
	for _, u := range byteUnits {
		if digits, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = digits, u.factor
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, false
	}
	return n * factor, true
}

// Duration returns the parameter, a duration with unit as time.ParseDuration reads it, not less
// than least.
func (q *Query) Duration(name string, def, least time.Duration) time.Duration {
	s, ok := q.one(name)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(s)
	// ParseDuration takes a bare 0. That would teach people that the unit may be left out.
	if err != nil || d < least || s == "0" || s == "+0" || s == "-0" {
		q.fail(name, fmt.Sprintf("must be a duration with unit such as 90s or 24h, at least %v", least))
		return def
	}
	return d
}

// Err returns everything that is wrong with the query, nil when nothing is. Call it when all
// parameters were asked for: the others are unknown. The error is ErrParameter; it names
// parameters and never shows values, which may be secrets.
func (q *Query) Err() error {
	errs := slices.Clone(q.errs)
	names := make([]string, 0, len(q.values))
	for name := range q.values {
		if !q.asked[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		errs = append(errs, q.unknown(name))
	}
	return errors.Join(errs...)
}

func (q *Query) unknown(name string) error {
	known := make([]string, 0, len(q.asked))
	for name := range q.asked {
		known = append(known, name)
	}
	slices.Sort(known)
	what := "an unknown one"
	// A URL that was put together wrongly may have anything in place of a name.
	if len(name) <= 32 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_-") == "" {
		what = fmt.Sprintf("%s is unknown", name)
	}
	if len(known) == 0 {
		return fmt.Errorf("%w: %s (there are none)", ErrParameter, what)
	}
	return fmt.Errorf("%w: %s (known: %s)", ErrParameter, what, strings.Join(known, ", "))
}

func (q *Query) one(name string) (value string, ok bool) {
	q.asked[name] = true
	switch vs := q.values[name]; len(vs) {
	case 0:
		return "", false
	case 1:
		return vs[0], true
	}
	q.fail(name, "is given more than once")
	return "", false
}

func (q *Query) fail(name, what string) {
	q.errs = append(q.errs, fmt.Errorf("%w: %s %s", ErrParameter, name, what))
}
