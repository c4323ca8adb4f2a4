package testenv

import (
	"os"
	"testing"
)

// longVariable is what make test-long sets.
const longVariable = "HEADRACE_LONG"

// IsLong reports whether make test-long runs the tests, which sets the environment variable
// HEADRACE_LONG. That target runs the tests that call IsLong, Long or Sized, and no others, by
// their names: so these are called in the body of a TestXxx, not in a helper.
func IsLong() bool { return os.Getenv(longVariable) != "" }

// Long skips a test unless IsLong. It marks what takes long and is seldom what breaks.
func Long(t testing.TB) {
	t.Helper()
	if !IsLong() {
		t.Skipf("testenv: this takes long: run make test-long, or this test by make short RUN=%s", t.Name())
	}
}

// Sized returns the size of a test: how much is enough to notice what usually breaks in make test,
// and how much it is in make test-long.
func Sized(short, long int) int {
	if IsLong() {
		return long
	}
	return short
}
